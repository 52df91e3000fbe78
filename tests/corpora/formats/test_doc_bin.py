"""spaCy's DocBin: read as spaCy wrote it, and written so that spaCy reads it."""

from __future__ import annotations

import importlib
import io
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from metacross.corpora.characters import visible_part
from metacross.corpora.formats.doc_bin import looks_like_doc_bin, read_doc_bin, write_doc_bin
from metacross.corpora.raw import Document, Marked, Oddities, ReadOptions
from metacross.corpora.source import Source
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT


def read(data: bytes, **options: Any) -> tuple[list[Document], list[str]]:
    source = Source("a.spacy", io.BytesIO(data))
    items = [item for item in read_doc_bin(source, ReadOptions(**options)).items if isinstance(item, Document)]
    return items, source.oddities.lines()


def written(*documents: Document) -> tuple[bytes, list[str]]:
    file, oddities = io.BytesIO(), Oddities()
    write_doc_bin(documents, file, oddities)
    return file.getvalue(), oddities.lines()


def by_spacy(*docs: Doc) -> bytes:
    return bytes(DocBin(docs=docs).to_bytes())


def doc(words: list[str], spaces: list[bool], **more: Any) -> Doc:
    return Doc(Vocab(), words=words, spaces=spaces, **more)


def test_texts_that_spacy_has_written() -> None:
    tagged = doc(["🚆", "to", " ", "São", "Paulo", "."], [True, True, False, True, False, False])
    tagged.set_ents([Span(tagged, 3, 5, label="LOC")], default="outside")
    tagged.spans["sc"] = [Span(tagged, 0, 1, label="X")]
    documents, oddities = read(by_spacy(tagged, doc(["Hallo"], [False])))
    assert documents == [
        Document(
            "🚆 to  São Paulo.",
            (Marked(6, 15, "LOC"),),
            ((0, 1), (2, 4), (6, 9), (10, 15), (15, 16)),
            "a.spacy: text 1",
        ),
        Document("Hallo", None, ((0, 5),), "a.spacy: text 2"),
    ]
    assert oddities == ["1 span in span groups left out (first at a.spacy: text 1)"]


def test_words_whose_annotation_is_missing_are_counted() -> None:
    partly = doc(["in", "Rio", "now"], [True, True, False])
    partly.set_ents([Span(partly, 1, 2, label="LOC")], default="missing")
    documents, oddities = read(by_spacy(partly))
    assert documents[0].marked == (Marked(3, 6, "LOC"),)
    assert oddities == ["2 words whose annotation is missing, read as outside of entities (first at a.spacy: text 1)"]


def test_it_is_recognised_by_its_first_bytes() -> None:
    data, _ = written(Document("Lima", ()))
    assert looks_like_doc_bin(data)
    for other in (b"", b"x^ O\n", b"xyz\tO\n", zlib.compress(b"version"), data[1:]):
        assert not looks_like_doc_bin(other)


@pytest.mark.parametrize("data", [written(Document("Lima", ()))[0][:-20], b"", zlib.compress(b"\x81\xa1a\x01")])
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.spacy: found no DocBin that spaCy can read"):
        read(data)
    with pytest.raises(UserError, match="have no columns"):
        read(b"", tag_column="ner")


def test_a_file_without_the_names_of_its_types_is_refused() -> None:
    tagged = doc(["Rio"], [False])
    tagged.set_ents([Span(tagged, 0, 1, label="River")], default="outside")
    file = DocBin(docs=[tagged])
    file.strings.remove("River")
    with pytest.raises(UserError, match=r"a\.spacy: found no DocBin that spaCy can read"):
        read(file.to_bytes())


def test_without_spacy_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    data, _ = written(Document("Lima", ()))
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r'a\.spacy: spaCy\'s files need spaCy itself .*: pip install -e "\.\[spacy\]"'):
        read(data)


def test_spacy_reads_what_is_written() -> None:
    text = "In  New York, Rio"
    data, oddities = written(Document(text, (Marked(4, 12, "LOC"), Marked(14, 17, "LOC"))), Document("Hallo"))
    first, second = DocBin().from_bytes(data).get_docs(Vocab())
    assert (first.text, [(entity.text, entity.label_) for entity in first.ents]) == (
        text,
        [("New York", "LOC"), ("Rio", "LOC")],
    )
    assert [token.text for token in first] == ["In", " ", "New", "York", ",", "Rio"]
    assert first.has_annotation("ENT_IOB", require_complete=True)
    assert not second.has_annotation("ENT_IOB")
    assert oddities == []


def test_what_a_doc_cannot_hold_is_counted() -> None:
    marked = (Marked(0, 4, "LOC"), Marked(0, 8, "ORG"), Marked(8, 8, "X"), Marked(5, 90, "X"), Marked(9, 12, "PER"))
    data, oddities = written(Document("Lima FC Anabel\ud800", marked, ((0, 4), (5, 7), (8, 14), (14, 15)), "f:1"))
    documents, _ = read(data)
    assert documents[0].text == "Lima FC Anabel\ufffd"
    assert documents[0].marked == (Marked(0, 7, "ORG"), Marked(9, 12, "PER"))
    assert oddities == [
        "1 lone surrogate written as U+FFFD, since UTF-8 has none (first at f:1)",
        "2 entities left out for being empty or outside of the text (first at f:1)",
        "1 entity left out for overlapping another (first at f:1)",
        "2 ends of entities within words, which were cut there (first at f:1)",
    ]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(ANY_TEXT.map(lambda text: "".join(c for c in text if not "\ud800" <= c <= "\udfff")))
    if not text:
        return Document("", ())
    ends = st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True).map(sorted)
    found = draw(st.lists(ends, max_size=3))
    apart = [(a, b) for n, (a, b) in enumerate(found) if all(b <= c or d <= a for c, d in found[:n])]
    shown = sorted((a, b) for a, b in apart if a < b and visible_part(text, a, b) == (a, b))
    return Document(text, tuple(Marked(a, b, draw(st.text(min_size=1))) for a, b in shown))


@given(st.lists(documents(), max_size=3))
def test_what_is_written_is_read_again(items: list[Document]) -> None:
    again, _ = read(written(*items)[0])
    assert [(document.text, document.marked) for document in again] == [(item.text, item.marked) for item in items]


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UserError):
        read(zlib.compress(data))
