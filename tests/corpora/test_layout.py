"""The columns of a file are found by the evidence of all its lines: an index is no word, chunks are no entities."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from metacross.corpora.formats.recognise import opened
from metacross.corpora.layout import find_layout
from metacross.corpora.raw import RawSentence, ReadOptions
from metacross.corpora.reader import Corpus, read_corpus
from metacross.errors import UserError


def read(tmp_path: Path, text: str) -> Corpus:
    path = tmp_path / "corpus"
    path.write_text(text, encoding="utf-8")
    return read_corpus(path)


def words(corpus: Corpus) -> list[str]:
    return [word for sentence in corpus.sentences for word in sentence.words]


@pytest.mark.parametrize(
    "text",
    [
        "1 Angela NNP I-NP I-PER\n2 spoke VBD I-VP O\n\n1 Nobody NN I-NP O\n2 left VBD I-VP O\n",  # spaces, IOB1
        "1\tAngela\tNNP\tB-PER\n2\tspoke\tVBD\tO\n\n1\tNobody\tNN\tO\n2\tleft\tVBD\tO\n",
        "0\tAngela\tB-PER\n1\tspoke\tO\n\n0\tNobody\tO\n1\tleft\tO\n",  # from 0
        "1\tAngela\t_\tB-PER\n2\tspoke\t_\tO\n\n1\tNobody\t_\tO\n2\tleft\t_\tO\n",  # a column that says nothing
        "1\tAngela\t-\tB-PER\n2\tspoke\t-\tO\n\n1\tNobody\t-\tO\n2\tleft\t-\tO\n",
        "1-2\tAngela spoke\t_\t_\n1\tAngela\tX\tB-PER\n2\tspoke\tX\tO\n\n1\tNobody\tX\tO\n2\tleft\tX\tO\n",  # a range
        "1 Angela B-PER\n2 spoke O\n\n1 Nobody O\n2 left O\n",
    ],
)
def test_an_index_is_an_index(tmp_path: Path, text: str) -> None:
    corpus = read(tmp_path, text)
    assert words(corpus) == ["Angela", "spoke", "Nobody", "left"]
    assert corpus.counts == {"PER": 1}
    assert corpus.format in ("numbered-columns", "universal-ner")


def test_a_number_can_be_a_word(tmp_path: Path) -> None:
    """CoNLL-2002 has sentences that are the number 1 alone; a list of numbers in one sentence is no index either."""
    text = "Ana NP B-PER\ncorre VB O\n\n1 CD O\n\n1 CD O\n2 CD O\n\nPedro NP B-PER\nlee VB O\n\nNadie PN O\nva VB O\n"
    corpus = read(tmp_path, text)
    assert words(corpus) == ["Ana", "corre", "1", "1", "2", "Pedro", "lee", "Nadie", "va"]


def test_chunks_are_no_entities(tmp_path: Path) -> None:
    """The chunks are the richer column, and come before the entities."""
    corpus = read(
        tmp_path, "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\ncalls NNS B-NP O\n\nIt PRP B-NP O\nrains VBZ B-VP O\n"
    )
    assert corpus.counts == {"ORG": 1}
    assert not [oddity for oddity in corpus.oddities if "columns" in oddity]


def test_chunks_are_read_where_there_is_nothing_else(tmp_path: Path) -> None:
    assert read(tmp_path, "EU NNP B-NP\nrejects VBZ B-VP\n\nIt PRP B-NP\nrains VBZ B-VP\n").counts == {"NP": 2, "VP": 2}


@pytest.mark.parametrize("number", ["", "{}\t"])
def test_of_nested_entities_the_outer_are_read_and_that_is_told(tmp_path: Path, number: str) -> None:
    lines = ["Bank\tB-ORG\tO", "of\tI-ORG\tO", "England\tI-ORG\tB-LOC", "opened\tO\tO"]
    corpus = read(tmp_path, "".join(number.format(i) + line + "\n" for i, line in enumerate(lines, 1)))
    assert corpus.counts == {"ORG": 1}
    shift = bool(number)
    columns = f"columns {2 + shift} and {3 + shift} hold tags of entities: column {2 + shift} was read"
    told = f"{columns} (data.tag_column={3 + shift} reads another)"
    assert told in corpus.oddities


def test_lines_without_tags_have_no_layout() -> None:
    assert find_layout(["the quick", "brown fox"]) is None
    assert find_layout(["a -", "b -"]) is None


# --- entities elsewhere than in a column of O and B-PER --------------------------------------------------------------

CONLLU = (
    "# text = Ana ve Rin\n1\tAna\tAna\tPROPN\t_\t_\t2\tnsubj\t_\t{}B-PER|SpaceAfter=No\n"
    "2-3\tdel\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\tve\tver\tVERB\t_\t_\t0\troot\t_\t_\n3\tRin\tRin\tPROPN\t_\t_\t2\tobj\t_\t{}B-LOC\n\n"
    "1\tNada\tnada\tPRON\t_\t_\t0\troot\t_\t{}O\n2\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_\n"
)


@pytest.mark.parametrize("key", ["name=", "NER=", "Entity=", "ner="])
def test_entities_in_misc_are_read(tmp_path: Path, key: str) -> None:
    corpus = read(tmp_path, CONLLU.format(key, key, key))
    assert words(corpus) == ["Ana", "ve", "Rin", "Nada", "."]
    assert corpus.counts == {"PER": 1, "LOC": 1}
    assert corpus.format == "numbered-columns"


def test_another_key_of_misc_is_read_if_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_text(CONLLU.format("XNE=", "XNE=", "XNE="), encoding="utf-8")
    with pytest.raises(UserError, match="most lines have no tag in any column"):
        read_corpus(path)
    assert read_corpus(path, tag_column="XNE").counts == {"PER": 1, "LOC": 1}
    with pytest.raises(UserError, match="has no column NOPE"):
        read_corpus(path, tag_column="NOPE")


def test_columns_may_have_names(tmp_path: Path) -> None:
    plus = tmp_path / "plus"
    plus.write_text(
        "# global.columns = ID FORM UPOS NER FINE\n1\tAna\tPROPN\tB-PER\tB-WRITER\n2\tve\tVERB\tO\tO\n"
        "3\tRin\tPROPN\tB-LOC\tB-RIVER\n",
        encoding="utf-8",
    )
    told = (
        "columns 4 (NER) and 5 (FINE) hold tags of entities: column 4 (NER) was read (data.tag_column=5 reads another)"
    )
    assert read_corpus(plus).counts == {"PER": 1, "LOC": 1}
    assert read_corpus(plus).oddities == [told]
    for column in ("FINE", 5):
        assert read_corpus(plus, tag_column=column).counts == {"WRITER": 1, "RIVER": 1}
        assert read_corpus(plus, tag_column=column).oddities == []
    with pytest.raises(UserError, match=r"has no column X \(its columns are ID, FORM, UPOS, NER, FINE\)"):
        read_corpus(plus, tag_column="X")
    for number in (1, 2, 6):
        with pytest.raises(UserError, match=f"data.tag_column is {number}, but a line has 5 columns"):
            read_corpus(plus, tag_column=number)


def test_a_first_line_of_names_is_no_word(tmp_path: Path) -> None:
    """HIPE has names in its first line, comments in between, and _ where it has no annotation."""
    corpus = read(
        tmp_path,
        "TOKEN\tNE-COARSE-LIT\tNE-COARSE-METO\tNE-FINE-LIT\tMISC\n# language = fr\n# date = 1901\n"
        "Ana\tB-pers\tO\tB-pers.ind\t_\nvoit\tO\tO\tO\tNoSpaceAfter\nla\tO\tO\tO\t_\nBanque\tB-org\tB-loc\tB-org.ent\t_\n",
    )
    assert words(corpus) == ["Ana", "voit", "la", "Banque"]
    assert corpus.counts == {"pers": 1, "org": 1}
    assert corpus.oddities == [
        "columns 2 (NE-COARSE-LIT) and 3 (NE-COARSE-METO) and 4 (NE-FINE-LIT) hold tags of entities: column 2 "
        "(NE-COARSE-LIT) was read (data.tag_column=3 reads another)"
    ]


@pytest.mark.parametrize(
    ("text", "counts", "told"),
    [
        ("Ana\tPER\nRey\tPER\nve\tO\n\nRin\tLOC\n", {"PER": 1, "LOC": 1}, ["2 tags PER read as I-PER"]),
        ("Ana NNP I-NP PER\nve VBZ I-VP O\nya RB I-NP O\n", {"PER": 1}, ["1 tag PER read as I-PER"]),
        ("Ana\tB-PER\nve\t0\nya\t0\n", {"PER": 1}, ["2 tags 0 read as O"]),
        ("Ana\tb-per\nRey\ti-per\nve\tO\n", {"per": 1}, ["1 tag b-per read as B-per"]),
        ("Ana\tB_PER\nRey\tI_PER\nve\tO\n", {"PER": 1}, ["1 tag B_PER read as B-PER"]),
        ("Ana\tB-PER\nve\tO\nUN\tPER|B-ORG\n", {"PER": 2}, ["1 tag PER|B-ORG read as I-PER"]),
        ("Ana\tB-O\nve\tO\nRin\tB-LOC\n", {"LOC": 1}, ["1 tag B-O read as O; data.tag_map={O: NAME}"]),
        ("B-PER\tAna\nO\tve\n\nB-LOC\tRin\n", {"PER": 1, "LOC": 1}, []),  # the tag comes first
        ("Ana   NNP   B-PER\nve    VB    O\nRin   NNP   B-LOC\n", {"PER": 1, "LOC": 1}, []),  # lined up
        ("Ana\tB-PER\rve\tO\r\rRin\tB-LOC\r", {"PER": 1, "LOC": 1}, []),  # line ends of old Macintoshes
    ],
)
def test_tags_are_written_in_many_ways(tmp_path: Path, text: str, counts: dict[str, int], told: list[str]) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(text.encode())
    corpus = read_corpus(path)
    assert corpus.counts == counts
    assert set("".join(words(corpus))) <= set("AnaReyvUNiRn"), words(corpus)
    assert any(oddity.startswith(what) for what in told for oddity in corpus.oddities) or corpus.oddities == told


def test_a_type_called_o_is_one_if_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_text("UN\tB-O\nde\tI-O\nve\tO\n", encoding="utf-8")
    assert read_corpus(path, tag_map={"O": "ORG"}).counts == {"ORG": 1}


def test_all_places_that_cannot_be_read_are_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_text("Ana\tB-PER\n" + "a\tb\tc\nya\tO\n" * 2 + "ve\tO\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_corpus(path)
    assert len(str(error.value).splitlines()) == 3
    assert str(error.value).startswith(f"{path}: 2 places cannot be read; expected 2 columns (word, tag)")
    path.write_text("Ana\tB-PER\n" + "ve\tX\n" * 30 + "ya\tO\n" * 40, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_corpus(path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path}: 30 places cannot be read; expected O or a letter")
    assert lines[1] == f"{path}:2: found the tag 'X'"
    assert lines[20:] == [f"{path}:21: found the tag 'X'", "... and 10 more"]


def test_invisible_edges_and_joined_files(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(
        "Ana\u200b\tB-PER\nve\tO\n\n".encode()
        + b"\xef\xbb\xbf"
        + "\u200fدبي\u200f\tB-LOC\n\xa0می\u200cرود\tO\n\u200b\tO\n\ufeff\n".encode()
    )
    corpus = read_corpus(path)
    assert words(corpus) == ["Ana", "ve", "دبي", "می\u200cرود"]
    assert corpus.counts == {"PER": 1, "LOC": 1}
    assert corpus.oddities == [
        f"2 lines with a byte-order mark at the beginning, which was left out (first at {path}:4)",
        f"1 word with U+200B at an end, which was left out (first at {path}:1)",
        f"1 word with U+200F at an end, which was left out (first at {path}:4)",
        f"1 word with U+00A0 at an end, which was left out (first at {path}:5)",
        "1 empty word (nothing that can be seen) left out",
    ]


def test_spaces_at_the_ends_of_lines_with_tabs_belong_to_no_tag(tmp_path: Path) -> None:
    corpus = read(tmp_path, "Anna\tB-PER \nleft Rome\tO  \n\nnow\tO \n")
    assert (words(corpus), corpus.counts, corpus.format) == (["Anna", "left Rome", "now"], {"PER": 1}, "word-tab-tag")


def test_the_language_of_numbered_words(tmp_path: Path) -> None:
    corpus = read(tmp_path, "1\tde:Anna\tB-PER\n2\tde:ging\tO\n\n1\tde:sie\tO\n2\tde:kam\tO\n")
    assert (words(corpus), corpus.language) == (["Anna", "ging", "sie", "kam"], "de")


@pytest.mark.parametrize("text", ["  Anna B-PER\n  left O\n\n  now O\n", "Anna B-PER\n left O\n\nnow O\n"])
def test_spaces_at_the_beginnings_of_lines_are_no_words(tmp_path: Path, text: str) -> None:
    assert words(read(tmp_path, text)) == ["Anna", "left", "now"]


@pytest.mark.parametrize("text", ["Anna\n left\n\nnow\n", " Anna\n left\n\n now\n"])
def test_spaces_before_words_to_be_tagged_are_no_words(text: str) -> None:
    with opened("-", ReadOptions(labelled=False), io.BytesIO(text.encode())) as (_, reading):
        found = [[row.word for row in item.rows] for item in reading.items if isinstance(item, RawSentence)]
    assert found == [["Anna", "left"], ["now"]]


def test_comments_that_may_be_words_are_counted(tmp_path: Path) -> None:
    corpus = read(tmp_path, "# one comment\n# O\nAnna B-PER\n\n# O\nleft O\n")
    assert words(corpus) == ["#", "Anna", "#", "left"]
    assert corpus.oddities == []
    corpus = read(tmp_path, "# comment\nAnna B-PER\n\n# B_LOC\nleft O\n")
    assert words(corpus) == ["Anna", "left"]
    (oddity,) = corpus.oddities
    assert oddity.startswith("1 comment line (with # at the beginning) that may hold a tag")
    assert oddity.endswith("corpus:4)")
