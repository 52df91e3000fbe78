"""metacross.corpora.sentence and what it stands on: every format, scheme and encoding, on files written by hand."""

import gzip
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metacross.corpora.reader import read_corpus, require_entities, summarise
from metacross.corpora.schemes import to_iob2
from metacross.corpora.sentence import EntitySpan, Sentence, entities, sentence_from_text, sentence_from_words, tags_of
from metacross.corpora.words import sentence_breaks, split_sentences, split_words
from metacross.errors import UserError

CORPORA = Path(__file__).parents[1] / "files" / "corpora"
# Characters that have broken readers before, besides all others.
ODD = "\u0085\u2028\u00a0\u200b\u3000\x1c\x00\ud800'’-.,。ー々ก็가A1\u0301 \n"


def write(folder: Path, content: str | bytes, name: str = "corpus") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(sentence: Sentence) -> list[tuple[str, str]]:
    """Entities as (type, text)."""
    return [
        (kind, sentence.text[sentence.spans[start][0] : sentence.spans[end - 1][1]])
        for kind, start, end in entities(sentence.tags or ())
    ]


# --- formats ---------------------------------------------------------------------------------------------------------

FORMATS = {
    "conll2003.txt": (
        "conll-2003",
        "IOB1",
        ["Anna Berg left Oslo Bergen today .", "# 1"],
        [[("PER", "Anna Berg"), ("LOC", "Oslo"), ("LOC", "Bergen")], []],
        [],
    ),
    "conll2002.txt": (
        "conll-2002",
        "IOB2",
        ["El alcalde de Vigo , Ana Rey .", "Fin"],
        [[("LOC", "Vigo"), ("PER", "Ana Rey")], []],
        [],
    ),
    "uner.iob2": (
        "universal-ner",
        "IOB2",
        ["Ana lives in New York", "# 1 song ever more sure Rio"],
        [[("PER", "Ana"), ("LOC", "New York")], [("OTH", "song"), ("LOC", "Rio")]],
        ["1 lines of word ranges", "1 tags - read", "1 tags B-O read", "1 tags repaired", "white space inside"],
    ),
    "wikiann.txt": (
        "wikiann",
        "IOB2",
        ["Stadt Köln :", "en:x Anna Groß"],
        [[("LOC", "Köln")], [("PER", "Anna Groß")]],
        [],
    ),
    "msra.txt": (
        "characters",
        "IOB2",
        ["我在北京。", "王明 O K"],
        [[("LOC", "北京")], [("PER", "王明")]],
        ["1 empty words"],
    ),
    "iobes.txt": (
        "word-tab-tag",
        "IOBES",
        ["Ana Maria Rey saw Rome Oslo"],
        [[("PER", "Ana Maria Rey"), ("LOC", "Rome"), ("LOC", "Oslo")]],
        [],
    ),
    "europeana.txt": (
        "word-tab-tag",
        "IO",
        ["Le bon M. Martin est parti.", "J. Il va » à Paris . »", "La rue ! et puis"],
        [[("PER", "M. Martin")], [("LOC", "Paris")], []],
        ["no sentence breaks: found 3 sentences"],
    ),
    "rows.jsonl": (
        "jsonl",
        "IOB2",
        ["Ana Rey left Rome", "Oslo !"],
        [[("PER", "Ana Rey"), ("LOC", "Rome")], [("LOC", "Oslo")]],
        [],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("disguise", ["as it is", "CRLF", "BOM", "gzip", "no last line end"])
def test_formats(name: str, disguise: str, tmp_path: Path) -> None:
    format_name, scheme, texts, expected, oddities = FORMATS[name]
    content = (CORPORA / name).read_bytes()
    encoding = "utf-8"
    if disguise == "CRLF":
        content = content.replace(b"\n", b"\r\n")
    elif disguise == "BOM":
        content, encoding = b"\xef\xbb\xbf" + content, "utf-8-sig"
    elif disguise == "gzip":
        content, encoding = gzip.compress(content), "utf-8+gzip"
    elif disguise == "no last line end":
        content = content.rstrip(b"\n")
    corpus = read_corpus(write(tmp_path, content, "named.pdf"))
    assert (corpus.format, corpus.scheme, corpus.encoding) == (format_name, scheme, encoding)
    assert [sentence.text for sentence in corpus.sentences] == texts
    assert [found(sentence) for sentence in corpus.sentences] == expected
    assert len(corpus.oddities) == len(oddities)
    for told, pattern in zip(corpus.oddities, oddities, strict=True):
        assert pattern in told
    assert corpus.counts == {
        kind: sum(kind == other for row in expected for other, _ in row) for row in expected for kind, _ in row
    }
    for sentence in corpus.sentences:
        assert all(
            sentence.text[start:end] == word for (start, end), word in zip(sentence.spans, sentence.words, strict=True)
        )
        assert sentence.presplit


def test_language_is_noticed() -> None:
    corpus = read_corpus(CORPORA / "wikiann.txt")
    assert corpus.language == "de"
    corpus = read_corpus(CORPORA / "wikiann.txt", language="fr")
    assert corpus.language == "fr"
    assert corpus.oddities == ["words are marked de:, but the language was given as fr"]
    assert read_corpus(CORPORA / "conll2003.txt").language is None


def test_places_are_those_of_first_words() -> None:
    places = [sentence.place for sentence in read_corpus(CORPORA / "uner.iob2").sentences]
    assert places == [f"{CORPORA / 'uner.iob2'}:4", f"{CORPORA / 'uner.iob2'}:13"]
    places = [sentence.place for sentence in read_corpus(CORPORA / "europeana.txt").sentences]
    assert [place.rpartition(":")[2] for place in places] == ["1", "7", "15"]


def test_latin_1(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "La O\nCoruña B-LOC\n\nel O\naño O\n".encode("latin-1")))
    assert corpus.encoding == "latin-1"
    assert found(corpus.sentences[0]) == [("LOC", "Coruña")]
    assert corpus.oddities == ["not UTF-8 (first at line 2): read as latin-1"]


def test_utf_16(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "Köln\tB-LOC\n".encode("utf-16")))
    assert (corpus.encoding, corpus.sentences[0].text) == ("utf-16", "Köln")


def test_characters_that_look_like_line_ends_stay_in_words(tmp_path: Path) -> None:
    strange = ["a\u0085b", "c\u2028d", "e\x0cf", "g\u00a0h", "i j"]
    corpus = read_corpus(write(tmp_path, "".join(f"{word}\tO\n" for word in strange)))
    assert [list(sentence.words) for sentence in corpus.sentences] == [strange]
    assert corpus.oddities == [
        "2 words with control characters or lone surrogates",
        "5 words with white space inside",
    ]
    corpus = read_corpus(write(tmp_path, "g\u00a0h O\nx O\n"))
    assert corpus.sentences[0].words == ("g\u00a0h", "x")


def test_surrogates_from_json(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, '{"tokens": ["\\ud800a", "Rome"], "ner_tags": ["O", "B-LOC"]}'))
    assert corpus.sentences[0].text == "\ud800a Rome"
    assert corpus.oddities == ["1 words with control characters or lone surrogates"]


def test_other_columns(tmp_path: Path) -> None:
    five = read_corpus(write(tmp_path, "Köln Köln NE I-NC I-LOC\nruft rufen VV I-VC O\n"))
    assert (five.format, five.counts) == ("conll-2003", {"LOC": 1})
    three = read_corpus(write(tmp_path, "De Art O\nGent N B-LOC \n"))  # with a space at the end of a line
    assert (three.format, three.counts) == ("conll-2002", {"LOC": 1})
    germeval = read_corpus(write(tmp_path, "#\tsource [2009]\n1\tGent\tB-LOC\tO\n2\tZoo\tI-LOC\tB-ORG\n"))
    assert (germeval.format, germeval.counts) == ("universal-ner", {"LOC": 1})
    commented = read_corpus(write(tmp_path, "# id 7f\tdomain=en\nGent _ _ B-LOC\n# _ _ O\n\n# id 80\tx\nso _ _ O\n"))
    assert [sentence.words for sentence in commented.sentences] == [("Gent", "#"), ("so",)]


def test_duplicates_and_empty_words(tmp_path: Path) -> None:
    content = "a\tO\n\t B-LOC".replace(" ", "") + "\nRome\tI-LOC\n\u3000\tI-LOC\nEast\tI-LOC\n\na\tO\n\na\tO\n\na\tO\n"
    corpus = read_corpus(write(tmp_path, content))
    assert corpus.sentences[0].tags == ("O", "B-LOC", "I-LOC")
    assert corpus.oddities == [
        "2 empty words (nothing or only white space) left out",
        "2 duplicate sentences (the words of an earlier one)",
    ]
    assert summarise(corpus).duplicates == 2


def test_an_empty_word_between_entities_does_not_join_them(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "Rome\tB-LOC\n\tB-LOC\nOslo\tI-LOC\n\tB-PER\nso\tO\n"))
    assert found(corpus.sentences[0]) == [("LOC", "Rome"), ("LOC", "Oslo")]


# --- the hub ---------------------------------------------------------------------------------------------------------


class FakeHub:
    """Stands for the package `datasets`; knows one dataset by its exact arguments."""

    def __init__(self, known: tuple[str, ...], rows: list[dict[str, Any]], names: list[str] | None) -> None:
        self.known = known
        self.rows = rows
        self.features = {"tokens": object(), "ner_tags": SimpleNamespace(feature=SimpleNamespace(names=names))}

    def load_dataset(self, *arguments: str, split: str) -> Any:
        if (*arguments, split) != self.known:
            raise FileNotFoundError(f"no dataset {arguments} {split}")
        return self

    def __iter__(self) -> Any:
        return iter(self.rows)


ROWS = [{"tokens": ["Ana", "left"], "ner_tags": [1, 0]}]


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("hf:corpus", ("corpus", "train")),
        ("hf:owner/corpus:test", ("owner/corpus", "test")),
        ("hf:corpus/en:validation", ("corpus", "en", "validation")),
        ("hf:owner/corpus/en", ("owner/corpus", "en", "train")),
        ("hf:corpus:train[:10%]", ("corpus", "train[:10%]")),
    ],
)
def test_hub(path: str, known: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeHub(known, ROWS, ["O", "B-PER"]))
    corpus = read_corpus(path)
    assert (corpus.format, corpus.path, corpus.counts) == ("huggingface", path, {"PER": 1})
    assert corpus.sentences[0].place == f"{path}:1"


def test_hub_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeHub(("corpus", "train"), ROWS, None))
    with pytest.raises(UserError, match="hf:corpus:1: found integers in ner_tags"):
        read_corpus("hf:corpus")
    with pytest.raises(UserError, match=r"hf:a/b: cannot be loaded \(as a/b: .*; as a with configuration b: "):
        read_corpus("hf:a/b")
    with pytest.raises(UserError, match="expected hf:NAME"):
        read_corpus("hf:")
    monkeypatch.setitem(sys.modules, "datasets", FakeHub(("corpus", "train"), [], None))
    with pytest.raises(UserError, match="the split train has no words"):
        read_corpus("hf:corpus")


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'metacross\[hub\]'"):
        read_corpus("hf:corpus")


# --- errors ----------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "the file is empty"),
    "blank": (" \n\t\n\r\n", "the file is empty"),
    "only document marks": ("-DOCSTART- -X- O O\n\n", "found no words"),
    "only empty words": ("\tO\n\u3000\tO\n", "found no words, only empty ones"),
    "prose": ((CORPORA / "plain.txt").read_bytes(), ":1: found 'Ana Rey left Rome .* most lines have no tag"),
    "one column": ("Ana\nleft\n", ":1: found 'Ana', and most lines have no tag"),
    "too many columns": ("a O\nb c O\nd O\n", ":2: found 3 columns in the line 'b c O'; expected 2 columns"),
    "too few columns": ("a NN x O\n\nb NN O\nc NN x O\n", ":3: found 3 columns .* expected 4 columns"),
    "spaces among tabs": ("a\tO\nb O\nc\tO\n", ":2: found 1 columns .* separated by tabs"),
    "bad number": ("1\ta\tO\nx\tb\tO\n3\tc\tO\n", ":2: found the number 'x'"),
    "numbered and short": ("1\ta\tO\n2\tb\n3\tc\tO\n", ":2: found 2 columns .* expected 3 columns or more"),
    "unknown tag": ("a O\nb PER\nc O\n", ":2: found the tag 'PER' in the line 'b PER'; .* O or like B-PER"),
    "no language": ("en:a\tO\nb\tO\nen:c\tO\n", ":2: found the word 'b' .* marked en:"),
    "broken UTF-8": (
        "é O\né O\né O\n".encode() + b"\xe9 O\n",
        ":4: found bytes that are not utf-8, though the rest of the file is",
    ),
    "binary": (b"\x00\xff\xfe\x80\n", "is a binary file"),
    "broken gzip": (gzip.compress(b"a O\n" * 100)[:-12], "damaged gzip file"),
    "wrong gzip": (b"\x1f\x8b\x00", "damaged gzip file"),
    "not JSON": ('{"tokens": [], "tags": []}\n{"tokens": [\n', ":2: found .* not JSON"),
    "JSON, no object": ('{"tokens": [], "tags": []}\n3\n', ":2: found '3'; expected a JSON object"),
    "JSON, no words": ('{"tokens": [], "tags": []}\n', "found no words"),
    "JSON, keys": ('{"words": ["a"], "tags": ["O"]}', r":1: found the keys \['tags', 'words'\]; expected \"tokens\""),
    "JSON, lengths": ('{"tokens": ["a"], "tags": ["O", "O"]}', ":1: found 1 tokens and 2 tags"),
    "JSON, types": ('{"tokens": ["a", 3], "tags": ["O", "O"]}', ":1: found .* in tokens; expected a list of strings"),
    "JSON, mixed tags": ('{"tokens": ["a", "b"], "tags": ["O", 1]}', ":1: found .* in tags; expected a list"),
    "JSON, true": ('{"tokens": ["a"], "tags": [true]}', ":1: found .* in tags; expected a list"),
    "JSON, no names": ('{"tokens": ["a"], "tags": [1]}', ":1: found integers in tags, .*label_names"),
    "JSON, wrong name": (
        '{"label_names": ["O"], "tokens": ["a"], "tags": [1]}',
        ":1: found 1 in tags; expected 0 to 0",
    ),
    "JSON, bad tag": ('{"tokens": ["a"], "tags": ["PER"]}', ":1: found the tag 'PER'"),
    "IOBES and I- after O": ("a S-LOC\nb O\nc I-PER\n", ":3: found the tag I-PER; expected B-PER or S-PER.*IOBES"),
    "IOBES and open at O": ("a B-PER\nb O\nc S-LOC\n", ":2: found the tag O; expected I-PER or E-PER.* :?.*:3"),
    "IOBES and open at end": ("a S-PER\nb B-PER\n\nc O\n", ":2: found the end of the sentence; expected I-PER or E"),
    "IOBES, two types": ("a B-PER\nb E-LOC\n", ":2: found the tag E-LOC; expected I-PER or E-PER"),
    "IOBES, B in entity": ("a B-PER\nb B-PER\nc E-PER\n", ":2: found the tag B-PER; expected I-PER or E-PER"),
    "BILOU and I- after O": ("a U-LOC\nb I-PER\n", ":2: found the tag I-PER; expected B-PER or U-PER.*BILOU"),
    "IOBES and BILOU": ("a S-LOC\nb U-LOC\n", ":2: found a tag U-, but .*:1 has S-"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_name_place_and_fix(name: str, tmp_path: Path) -> None:
    content, message = BROKEN[name]
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_corpus(path)
    assert str(error.value).startswith(str(path))
    assert re.search(message, str(error.value)), str(error.value)


PIECES = [
    "\t",
    " ",
    "\n",
    "\r\n",
    "O",
    "B-X",
    "I-X",
    "S-X",
    "E-Y",
    "1",
    "2",
    "a",
    "en:",
    "#",
    "-",
    "\x00",
    '{"',
    "é",
    "。",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from(["utf-8", "latin-1", "utf-16"]))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str, encoding: str) -> None:
    path = write(tmp_path_factory.getbasetemp(), content.encode(encoding, "replace"))
    try:
        corpus = read_corpus(path, max_words=3)
    except UserError as error:
        assert str(error).startswith(str(path))
    else:
        assert all(sentence.words and all(sentence.words) for sentence in corpus.sentences)
        for sentence in corpus.sentences:
            assert list(sentence.tags or ()) == tags_of(entities(sentence.tags or ()), len(sentence.words))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: no such file"):
        read_corpus(tmp_path / "missing")
    with pytest.raises(UserError, match="is a directory"):
        read_corpus(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_corpus("a\0b")


def test_require_entities(tmp_path: Path) -> None:
    require_entities(read_corpus(CORPORA / "conll2002.txt"))
    plain = read_corpus(write(tmp_path, "a O\nb O\n"))
    assert plain.scheme == "none"
    with pytest.raises(UserError, match="corpus: found 1 sentences, but no entities: every tag is O"):
        require_entities(plain)
    dropped = read_corpus(CORPORA / "conll2002.txt", tag_map={"PER": "", "LOC": "O"})
    with pytest.raises(UserError, match=r"but those that the tag map drops \(LOC, PER\)"):
        require_entities(dropped)


def test_max_words_must_be_positive() -> None:
    with pytest.raises(UserError, match="max_words=0"):
        read_corpus(CORPORA / "europeana.txt", max_words=0)


# --- tag map, summary ------------------------------------------------------------------------------------------------


def test_tag_map_renames_and_drops(tmp_path: Path) -> None:
    path = write(tmp_path, "a B-LOC\nb I-LOC\nc B-GPE\nd B-OTH\ne I-OTH\nf B-X\ng B-PER\n")
    corpus = read_corpus(path, tag_map={"GPE": "LOC", "OTH": "", "X": "O", "absent": "O"})
    assert corpus.sentences[0].tags == ("B-LOC", "I-LOC", "B-LOC", "O", "O", "O", "B-PER")
    assert (corpus.counts, corpus.dropped) == ({"LOC": 2, "PER": 1}, {"OTH": 1, "X": 1})


def test_tag_map_comes_after_the_scheme(tmp_path: Path) -> None:
    # Dropping X from the raw IOB1 tags, or joining A and B first, would give other entities.
    path = write(tmp_path, "a I-A\nb I-B\nc B-B\nd I-X\ne I-A\n")
    corpus = read_corpus(path, tag_map={"B": "A", "X": "O"})
    assert corpus.scheme == "IOB1"
    assert corpus.sentences[0].tags == ("B-A", "B-A", "B-A", "O", "B-A")


@pytest.mark.parametrize("tag_map", [{"B-PER": "PER"}, {"PER": "I-HUM"}, {"PER": "a b"}])
def test_tag_map_wants_types(tag_map: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"tag_map: found '.*'; expected an entity type"):
        read_corpus(CORPORA / "conll2002.txt", tag_map=tag_map)


def test_summary() -> None:
    summary = summarise(read_corpus(CORPORA / "conll2003.txt", language="en"))
    assert (summary.format, summary.scheme, summary.encoding, summary.language) == ("conll-2003", "IOB1", "utf-8", "en")
    assert (summary.sentences, summary.words, summary.longest, summary.duplicates) == (2, 9, 7, 0)
    assert (summary.entities, summary.untagged, summary.oddities) == ({"LOC": 2, "PER": 1}, 0.5, [])


# --- schemes ---------------------------------------------------------------------------------------------------------


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[EntitySpan], int]:
    """Entities side by side or apart, and the number of words they stand in."""
    found: list[EntitySpan] = []
    place = 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC", "a-b"])), max_size=6)
    ):
        found.append(EntitySpan(kind, place + gap, place + gap + length))
        place += gap + length
    return found, place + draw(st.integers(0, 2))


def written(found: Sequence[EntitySpan], n_words: int, scheme: str) -> list[str]:
    """The tags of entities in a scheme: the slow, literal inverse of what schemes.py reads."""
    tags = ["O"] * n_words
    for number, (kind, start, end) in enumerate(found):
        touches = number > 0 and found[number - 1].end == start and found[number - 1].type == kind
        letters = "B" + "I" * (end - start - 1)
        if scheme == "IO" or (scheme == "IOB1" and not touches):
            letters = "I" * (end - start)
        elif scheme in ("IOBES", "BILOU", "BMES"):
            letters = "S" if end - start == 1 else "B" + "I" * (end - start - 2) + "E"
        if scheme == "BILOU":
            letters = letters.replace("S", "U").replace("E", "L")
        if scheme == "BMES":
            letters = letters.replace("I", "M")
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tags


@given(tagged())
def test_entities_and_tags_are_inverse(drawn: tuple[list[EntitySpan], int]) -> None:
    found, n_words = drawn
    assert tags_of(found, n_words) == written(found, n_words, "IOB2")
    assert entities(tags_of(found, n_words)) == found


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "IOBES", "BILOU", "BMES"])
@given(st.lists(tagged(), min_size=1, max_size=3))
def test_every_scheme_becomes_iob2(scheme: str, drawn: list[tuple[list[EntitySpan], int]]) -> None:
    converted = to_iob2([written(found, n_words, scheme) for found, n_words in drawn], lambda s, w: f"f:{s}")
    assert converted.tags == [tags_of(found, n_words) for found, n_words in drawn]
    assert (converted.repaired, converted.first_repair, converted.stray) == (0, "", {})
    names = {scheme.replace("BMES", "IOBES")}
    if not any(found for found, _ in drawn):
        names = {"none"}
    elif scheme == "IOB1":
        names |= {"IO"}  # no neighbours of one type: nothing tells them apart
    assert converted.scheme in names


@given(tagged())
def test_io_joins_neighbours_of_one_type(drawn: tuple[list[EntitySpan], int]) -> None:
    found, n_words = drawn
    converted = to_iob2([written(found, n_words, "IO")], lambda s, w: "f")
    joined: list[EntitySpan] = []
    for entity in found:
        if joined and (joined[-1].type, joined[-1].end) == (entity.type, entity.start):
            joined[-1] = joined[-1]._replace(end=entity.end)
        else:
            joined.append(entity)
    assert converted.tags == [tags_of(joined, n_words)]
    assert converted.scheme == ("IO" if found else "none")


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=8))
def test_entities_of_any_tags_are_those_of_their_repair(tags: list[str]) -> None:
    repaired = to_iob2([tags], lambda s, w: "f").tags[0]
    assert entities(tags) == entities(repaired)
    assert tags_of(entities(tags), len(tags)) == repaired


@pytest.mark.parametrize(
    ("tags", "scheme", "repaired", "first"),
    [
        ("B-A I-A O B-A O I-A", "IOB2", 1, "5"),
        ("B-A O I-B", "IOB2", 1, "2"),
        ("B-A I-B O B-A", "IOB2", 1, "1"),
        ("I-A B-A O I-A", "IOB1", 0, ""),
        ("I-A O I-A O B-A", "IOB1", 1, "4"),
        ("I-A I-B O", "IO", 0, ""),
        ("O O", "none", 0, ""),
    ],
)
def test_scheme_names_and_repairs(tags: str, scheme: str, repaired: int, first: str) -> None:
    converted = to_iob2([tags.split()], lambda s, w: str(w))
    assert (converted.scheme, converted.repaired, converted.first_repair) == (scheme, repaired, first)


def test_stray_tags_end_entities() -> None:
    converted = to_iob2([["B-A", "-", "I-A", "_", "B-O", "I--"]], lambda s, w: "f")
    assert converted.tags == [["B-A", "O", "B-A", "O", "O", "O"]]
    assert converted.stray == {"-": 1, "_": 1, "B-O": 1, "I--": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        [EntitySpan("A", 0, 0)],
        [EntitySpan("A", 2, 4)],
        [EntitySpan("A", -1, 1)],
        [EntitySpan("A", 0, 2), EntitySpan("B", 1, 3)],
    ],
)
def test_tags_of_refuses(wrong: list[EntitySpan]) -> None:
    with pytest.raises(ValueError, match="is empty, overlaps"):
        tags_of(wrong, 3)


# --- text from words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_words", "text"),
    [
        ("New York", "New York"),
        ("我 在 北京 。", "我在北京。"),
        ("東京 タワー へ ， 行く", "東京タワーへ，行く"),
        ("《 红楼梦 》 。", "《红楼梦》。"),
        ("กรุงเทพ ฯ มา", "กรุงเทพฯมา"),
        ("ຂ້ອຍ ຮັກ", "ຂ້ອຍຮັກ"),
        ("ខ្ញុំ ទៅ", "ខ្ញុំទៅ"),
        ("မြန်မာ စာ", "မြန်မာစာ"),
        ("用 iPhone 打 电话", "用 iPhone 打电话"),
        ("2010 年", "2010 年"),
        ("서울 에서", "서울 에서"),
        ("𠀀 𠀁", "𠀀𠀁"),
        ("", ""),
    ],
)
def test_spaces_follow_the_script(given_words: str, text: str) -> None:
    assert sentence_from_words(given_words.split()).text == text


def test_korean_keeps_its_spaces() -> None:
    assert sentence_from_words(["大韓", "民國"], language="ko").text == "大韓 民國"
    assert sentence_from_words(["大韓", "民國"], language="ja").text == "大韓民國"


ANY_TEXT = st.text(st.one_of(st.sampled_from(ODD), st.characters()))


@given(st.lists(ANY_TEXT.filter(bool)), st.sampled_from([None, "ko", "zh"]))
def test_spans_of_given_words_slice_back(given_words: list[str], language: str | None) -> None:
    sentence = sentence_from_words(given_words, language=language)
    assert [sentence.text[start:end] for start, end in sentence.spans] == given_words == list(sentence.words)
    gaps = zip(sentence.spans, sentence.spans[1:], strict=False)
    assert {sentence.text[before[1] : after[0]] for before, after in gaps} <= {"", " "}
    assert sentence.presplit and sentence.tags is None


def test_words_and_tags_must_match() -> None:
    with pytest.raises(UserError, match="f:3: found 2 words and 1 tags"):
        sentence_from_words(["a", "b"], ["O"], place="f:3")
    with pytest.raises(UserError, match=r"^word 2 is empty"):
        sentence_from_words(["a", ""])


# --- words of raw text -----------------------------------------------------------------------------------------------


@given(ANY_TEXT)
@example("a.b.'s-1,2:'")
def test_every_visible_character_is_in_exactly_one_word(text: str) -> None:
    sentence = sentence_from_text(text)
    assert sentence.text == text and not sentence.presplit
    assert [text[start:end] for start, end in sentence.spans] == list(sentence.words)
    covered = [place for start, end in sentence.spans for place in range(start, end)]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]
    assert all(sentence.words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "Hello , world !"),
        ('("Yes")', '( " Yes " )'),
        ("3.5 1,000 12:30 1996-08-22 12/08", "3.5 1,000 12:30 1996-08-22 12/08"),
        ("costs 3.5.", "costs 3.5 ."),
        ("-5% $3 3.5m", "- 5 % $ 3 3.5m"),
        ("U.S. e.g. U.S.-based p.m.", "U.S. e.g. U.S.-based p.m."),
        ("J. Smith and Dr. Li met Plan B.", "J. Smith and Dr. Li met Plan B ."),
        ("Ask a Dr.", "Ask a Dr ."),
        ("Ft. Worth, Sv. Petar", "Ft. Worth , Sv. Petar"),
        ("no col. and dr. Jansen", "no col . and dr. Jansen"),
        ("well-known al-Ani-", "well-known al-Ani -"),
        ("end.Next a,b c/d", "end . Next a , b c / d"),
        ("John's don't I'll O'Brien’s DON’T", "John 's do n't I 'll O'Brien ’s DO N’T"),
        ("l'Europe d’Orsay qu'il dell'arte aujourd'hui", "l' Europe d’ Orsay qu' il dell' arte aujourd'hui"),
        ("James' 'quoted'", "James ' ' quoted '"),
        ("wait... no--yes !!", "wait ... no -- yes ! !"),
        ("我在iPhone上", "我 在 iPhone 上"),
        ("2010年3月。", "2010 年 3 月 。"),
        ("ที่นี่", "ที่ นี่"),
        ("हिन्दी में", "हिन्दी में"),
        ("می\u200cروم خانه", "می\u200cروم خانه"),
        ("e\u0301te\u0301 été", "e\u0301te\u0301 été"),
        ("👍🏽x", "👍 🏽 x"),
        ("", ""),
    ],
)
def test_split_words(text: str, expected: str) -> None:
    assert [text[start:end] for start, end in split_words(text)] == expected.split()


def test_split_words_is_linear() -> None:
    text = "a.b.c'd-e 1,2" * 20_000  # quadratic time would be minutes
    assert len(split_words(text)) > 20_000


# --- sentences -------------------------------------------------------------------------------------------------------


@given(st.text(st.one_of(st.sampled_from(ODD + "?!\r"), st.characters())))
def test_sentences_cover_every_visible_character(text: str) -> None:
    spans = split_sentences(text)
    covered = [place for start, end in spans for place in range(start, end) if not text[place].isspace()]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]
    assert all(text[start:end].strip() == text[start:end] != "" for start, end in spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. J. Smith of the U.S. Army met dr. Li.", ["Dr. J. Smith of the U.S. Army met dr. Li."]),
        ("It cost 3.5 eur. yes", ["It cost 3.5 eur. yes"]),
        ("It cost 3.5 euros. yes (maybe). no", ["It cost 3.5 euros.", "yes (maybe). no"]),  # no abbreviation so long
        ("She left. 5 came. Really? 3 did (all). 2", ["She left. 5 came.", "Really?", "3 did (all).", "2"]),
        ("On Monday. 5 came, see No. 5, Sept. 3", ["On Monday.", "5 came, see No. 5, Sept. 3"]),
        ("It was 6-2. He won 0,15. On 7/16. She left", ["It was 6-2.", "He won 0,15.", "On 7/16.", "She left"]),
        ("Vom 3.-5. Oktober. Da", ["Vom 3.-5. Oktober.", "Da"]),
        (
            "It's. Don't. An AT&T. A A/S. U UN-a. I J.-P. Sartre",
            ["It's.", "Don't.", "An AT&T.", "A A/S.", "U UN-a.", "I J.-P. Sartre"],
        ),
        ("F.eks. Oslo, bl.a. Bergen, (e.g. Rome). Da", ["F.eks. Oslo, bl.a. Bergen, (e.g. Rome).", "Da"]),
        ("Hva? - Nei. -- Jo! • Kanskje. - og", ["Hva?", "- Nei.", "-- Jo!", "• Kanskje.", "- og"]),
        ("A (...) B. C [?] D", ["A (...) B. C [?] D"]),
        ("„Nein.“ »Ja.« ‚Da!‘ Gut", ["„Nein.“", "»Ja.«", "‚Da!‘", "Gut"]),
        ("In Ft. Worth, sv. Petar, Det Kgl. Teater", ["In Ft. Worth, sv. Petar, Det Kgl. Teater"]),
        ("Am 3. Oktober. In 1990. Da", ["Am 3. Oktober.", "In 1990.", "Da"]),
        ("One.\ntwo\nthree", ["One.", "two\nthree"]),
        ("A title\n\nText\r\n \r\nmore", ["A title", "Text", "more"]),
        ('He said "no." (She left.) «Да.» Нет.', ['He said "no."', "(She left.)", "«Да.»", "Нет."]),
        ("他走了。“再见！”她说。ok", ["他走了。", "“再见！”", "她说。", "ok"]),
        ("Ok. 中文", ["Ok.", "中文"]),
        ("क्या? हाँ। ठीक", ["क्या?", "हाँ।", "ठीक"]),
        ("Wait... what? No", ["Wait... what?", "No"]),
        (" \n ", []),
    ],
)
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text)] == expected


@pytest.mark.parametrize("unit", ["! ", "a. ", ". - ", "longer. a ", ".- ", "- ", '."', ". (", "(. ", "A.b. ", "a \n"])
def test_split_sentences_is_linear(unit: str) -> None:
    text = "a" + unit * 20_000  # quadratic time would be minutes
    assert split_sentences(text)[-1][1] == len(text.rstrip())


@pytest.mark.parametrize(
    ("given_words", "inside", "max_words", "expected"),
    [
        ("a b . C d", "", 9, [3, 5]),
        ("a b . c d", "", 9, [5]),
        ("a ab. C. D Dr. E 3. F?! G", "", 99, [2, 8, 9]),
        ("我 。 ） 他 ！", "", 9, [3, 5]),
        ("( A ? ) B", "", 9, [4, 5]),
        ("a b c d e", "", 2, [2, 4, 5]),
        ("a b c d e", "bc", 2, [1, 3, 5]),  # not between b and c
        ("a b c d e", "bcde", 3, [1, 4, 5]),  # an entity longer than a sentence may be
        ("A . B", ".", 9, [3]),
    ],
)
def test_sentence_breaks(given_words: str, inside: str, max_words: int, expected: list[int]) -> None:
    all_words = given_words.split()
    tags = to_iob2([["I-X" if word in list(inside) else "O" for word in all_words]], lambda s, w: "f").tags[0]
    assert sentence_breaks(all_words, tags, max_words) == expected


@given(
    st.lists(st.tuples(st.sampled_from(["a", "B", ".", "c!", "»"]), st.sampled_from(["O", "B-X", "I-X"])), min_size=1),
    st.integers(1, 5),
)
def test_sentence_breaks_keep_the_cap(rows: list[tuple[str, str]], max_words: int) -> None:
    all_words = [word for word, _ in rows]
    tags = to_iob2([[tag for _, tag in rows]], lambda s, w: "f").tags[0]
    breaks = sentence_breaks(all_words, tags, max_words)
    starts = [0, *breaks[:-1]]
    assert breaks[-1] == len(rows)
    assert all(1 <= end - start <= max_words for start, end in zip(starts, breaks, strict=True))
    longest = max((entity.end - entity.start for entity in entities(tags)), default=0)
    assert longest > max_words or not any(tags[start].startswith("I-") for start in starts)


def test_files_with_sentence_breaks_keep_them(tmp_path: Path) -> None:
    long = "a O\n. O\n" * 50
    assert len(read_corpus(write(tmp_path, f"b O\n\n{long}\nc O\n"), max_words=60).sentences) == 3
    assert len(read_corpus(write(tmp_path, f"{long}\n{long}"), max_words=60).sentences) == 4  # documents
    rows = json.dumps({"tokens": ["A", ".", "B"] * 9, "tags": ["O"] * 27})
    assert len(read_corpus(write(tmp_path, rows), max_words=5).sentences) == 1


def test_cut_entities_stay_tagged(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "a B-X\n" + "b I-X\n" * 4), max_words=2)
    assert [sentence.tags for sentence in corpus.sentences] == [("B-X", "I-X"), ("B-X", "I-X"), ("B-X",)]
    assert "2 cuts through entities of more than 2 words" in corpus.oddities
