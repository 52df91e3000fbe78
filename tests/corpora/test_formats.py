"""Every format and encoding, on files written by hand; and what is wrong with a file, said with its line."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import pytest

from metacross.corpora.reader import read_corpus
from metacross.corpora.source import Source
from metacross.errors import UserError
from tests.helpers.corpora import CORPORA, entity_texts, write
from tests.helpers.corpus_fuzz import COMPRESSIONS

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
        ["1 line of word ranges", "1 tag - read", "1 tag B-O read", "1 tag repaired", "white space inside"],
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
        ["1 empty word"],
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
    assert [entity_texts(sentence) for sentence in corpus.sentences] == expected
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


def test_places_are_those_of_first_words() -> None:
    places = [sentence.place for sentence in read_corpus(CORPORA / "uner.iob2").sentences]
    assert places == [f"{CORPORA / 'uner.iob2'}:4", f"{CORPORA / 'uner.iob2'}:13"]
    places = [sentence.place for sentence in read_corpus(CORPORA / "europeana.txt").sentences]
    assert [place.rpartition(":")[2] for place in places] == ["1", "7", "15"]


def test_latin_1(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "La O\nCoruña B-LOC\n\nel O\naño O\n".encode("latin-1")))
    assert corpus.encoding == "latin-1"
    assert entity_texts(corpus.sentences[0]) == [("LOC", "Coruña")]
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
    assert corpus.oddities == ["1 word with control characters or lone surrogates"]


def test_other_columns(tmp_path: Path) -> None:
    five = read_corpus(write(tmp_path, "Köln Köln NE I-NC I-LOC\nruft rufen VV I-VC O\n"))
    assert (five.format, five.counts) == ("conll-2003", {"LOC": 1})
    three = read_corpus(write(tmp_path, "De Art O\nGent N B-LOC \n"))  # with a space at the end of a line
    assert (three.format, three.counts) == ("conll-2002", {"LOC": 1})
    germeval = read_corpus(write(tmp_path, "#\tsource [2009]\n1\tGent\tB-LOC\tO\n2\tZoo\tI-LOC\tB-ORG\n"))
    assert (germeval.format, germeval.counts) == ("universal-ner", {"LOC": 1})
    commented = read_corpus(write(tmp_path, "# id 7f\tdomain=en\nGent _ _ B-LOC\n# _ _ O\n\n# id 80\tx\nso _ _ O\n"))
    assert [sentence.words for sentence in commented.sentences] == [("Gent", "#"), ("so",)]


# --- errors ----------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "the file is empty"),
    "blank": (" \n\t\n\r\n", "the file is empty"),
    "only document marks": ("-DOCSTART- -X- O O\n\n", "found no words"),
    "only empty words": ("\tO\n\u3000\tO\n", "found no words; expected at least one"),
    "prose": ((CORPORA / "plain.txt").read_bytes(), ":1: found 'Ana Rey left Rome .* most lines have no tag"),
    "one column": ("Ana\nleft\n", ":1: found 'Ana', and most lines have no tag"),
    "too many columns": ("a O\nb c O\nd O\n", ":2: found 3 columns in the line 'b c O'; expected 2 columns"),
    "too few columns": ("a NN x O\n\nb NN O\nc NN x O\n", ":3: found 3 columns .* expected 4 columns"),
    "spaces among tabs": ("a\tO\nb O\nc\tO\n", ":2: found 1 column in .* separated by tabs"),
    "bad number": ("1\ta\tO\nx\tb\tO\n3\tc\tO\n", ":2: found the number 'x'"),
    "numbered and short": ("1\ta\tO\n2\tb\n3\tc\tO\n", ":2: found 2 columns .* expected 3 columns or more"),
    "unknown tag": ("a O\nb X\nc B-PER\n", ":2: found the tag 'X'; expected O or a letter"),
    "tags without types": (
        "a O\nb B\nc I\nd O\n",
        r"2 places cannot be read; (?s:.*):2: found the tag 'B'\n.*:3: found the tag 'I'",
    ),
    "no language": ("en:a\tO\nb\tO\nen:c\tO\n", ":2: found the word 'b' .* marked en:"),
    "broken UTF-8": (
        "é O\né O\né O\n".encode() + b"\xe9 O\n",
        ":4: found bytes that are not utf-8, though the rest of the file is",
    ),
    "binary": (b"\x00\xff\xfe\x80\n", "is a binary file"),
    "broken gzip": (gzip.compress(b"a O\n" * 100)[:-12], "damaged gzip file"),
    "wrong gzip": (b"\x1f\x8b\x00", "damaged gzip file"),
    "not JSON": ('{"tokens": [], "tags": []}\n{"tokens": [\n', ":2: found .* not JSON"),
    "JSON, no object": ('{"tokens": [], "tags": []}\n3\n', ":2: found 3; expected a JSON object"),
    "JSON, no words": ('{"tokens": [], "tags": []}\n', "found no words"),
    "JSON, keys": (
        '{"wrds": ["a"], "tags": ["O"]}',
        r":1: found the keys \['tags', 'wrds'\]; expected words",
    ),
    "JSON, lengths": ('{"tokens": ["a"], "tags": ["O", "O"]}', ":1: found 1 in tokens and 2 in tags"),
    "JSON, types": ('{"tokens": ["a", 3], "tags": ["O", "O"]}', ":1: found .* in tokens; expected a list of strings"),
    "JSON, mixed tags": ('{"tokens": ["a", "b"], "tags": ["O", 1]}', ":1: found .* in tags; expected a list"),
    "JSON, true": ('{"tokens": ["a"], "tags": [true]}', ":1: found .* in tags; expected a list"),
    "JSON, no names": ('{"tokens": ["a"], "tags": [1]}', ":1: found integers in tags, .*label_names"),
    "JSON, wrong name": (
        '{"label_names": ["O"], "tokens": ["a"], "tags": [1]}',
        ":1: found 1 in tags; expected 0 to 0",
    ),
    "JSON, bad tag": ('{"tokens": ["a"], "tags": ["B"]}', ":1: found the tag 'B'"),
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


def test_an_archive_on_standard_input_from_which_a_byte_is_missing() -> None:
    archive = COMPRESSIONS["zip"](b"a O\n")
    with pytest.raises(UserError, match="damaged zip file"):
        Source("-", io.BytesIO(archive[:4] + archive[5:]))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: no such file"):
        read_corpus(tmp_path / "missing")
    with pytest.raises(UserError, match="is a directory"):
        read_corpus(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_corpus("a\0b")
