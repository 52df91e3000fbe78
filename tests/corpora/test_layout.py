"""The columns of a file are found by the evidence of all its lines: an index is no word, chunks are no entities."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from metacross.corpora.formats.recognise import opened
from metacross.corpora.layout import find_layout
from metacross.corpora.raw import RawSentence, ReadOptions
from metacross.corpora.reader import Corpus, read_corpus


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
    assert oddity.startswith("1 lines that begin with # and hold what is nearly a tag, read as comments")
    assert oddity.endswith("corpus:4)")
