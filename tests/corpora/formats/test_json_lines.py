"""JSON lines and JSON documents: read, recognised, written."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from metacross.corpora.formats.json_lines import (
    looks_like_json,
    looks_like_json_lines,
    read_json,
    read_json_lines,
    write_json_lines_prodigy,
    write_json_lines_spans,
    write_json_lines_tokens,
)
from metacross.corpora.raw import Document, Marked, Oddities, RawSentence, Reading, ReadOptions
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.source import Source
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT, CORPORA, write

Item = RawSentence | Document


def items_of(content: bytes, read: Callable[[Source, ReadOptions], Reading]) -> tuple[list[Item], list[str]]:
    source = Source("file", io.BytesIO(content))
    return list(read(source, ReadOptions()).items), source.oddities.lines()


def marked_in(items: Iterable[Item]) -> list[list[tuple[str, str]]]:
    """Type and text of the entities of each text."""
    return [
        [(kind, item.text[start:end]) for start, end, kind in item.marked or ()]
        for item in items
        if isinstance(item, Document)
    ]


def written(write_items: Callable[[Any, IO[bytes], Oddities], None], items: Iterable[Any]) -> bytes:
    file = io.BytesIO()
    write_items(items, file, Oddities())
    return file.getvalue()


# --- reading ---------------------------------------------------------------------------------------------------------


def test_json_lines_of_words() -> None:
    with Source(str(CORPORA / "rows.jsonl")) as source:
        reading = read_json_lines(source, ReadOptions())
        items = list(reading.items)
    assert (reading.format, reading.breaks_given) == ("jsonl", True)
    assert [item.rows for item in items if isinstance(item, RawSentence)] == [
        [("Ana", "B-PER", 2), ("Rey", "I-PER", 2), ("left", "O", 2), ("Rome", "B-LOC", 2)],
        [("Oslo", "B-LOC", 4), ("!", "O", 4)],
    ]
    assert items[0].record["id"] == 1


def test_json_lines_of_texts() -> None:
    with Source(str(CORPORA / "doccano.jsonl")) as source:
        items = list(read_json_lines(source, ReadOptions()).items)
        assert source.oddities.lines() == [
            "2 entities with offsets in UTF-16 code units, which were converted to characters "
            f"(first at {CORPORA / 'doccano.jsonl'}:3)"
        ]
    found = [
        [(m.type, item.text[m.start : m.end]) for m in item.marked or ()] for item in items if type(item) is Document
    ]
    assert found == [
        [("PER", "Ana Rey"), ("LOC", "Осло")],
        [],
        [("LOC", "दिल्ली"), ("LOC", "Rome")],
        [("LOC", "東京")],
    ]


def test_prodigy_file() -> None:
    with Source(str(CORPORA / "prodigy.jsonl")) as source:
        items = list(read_json_lines(source, ReadOptions()).items)
        assert len(source.oddities.lines()) == 1
    found = [
        [(m.type, item.text[m.start : m.end]) for m in item.marked or ()] for item in items if type(item) is Document
    ]
    assert found == [[("PER", "Ana"), ("LOC", "Bergen")], []]


RECORDS = [{"tokens": ["Ana"], "ner_tags": [1]}, {"tokens": ["é", "b"], "ner_tags": [0, 0]}]
NAMES = ["O", "B-PER"]


@pytest.mark.parametrize(
    "document",
    [
        [{"label_names": NAMES}, *RECORDS],
        {"label_names": NAMES, "data": RECORDS},
        {"label_names": NAMES, "version": 3, "annotations": RECORDS},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_documents(document: object, indent: int | None) -> None:
    content = json.dumps(document, indent=indent)
    in_one_line = content.startswith("{") and indent is None
    assert (looks_like_json_lines(content), looks_like_json(content)) == (in_one_line, not in_one_line)
    items, oddities = items_of(content.encode(), read_json_lines if in_one_line else read_json)
    assert oddities == []
    assert [[row[:2] for row in item.rows] for item in items if isinstance(item, RawSentence)] == [
        [("Ana", "B-PER")],
        [("é", "O"), ("b", "O")],
    ]


def test_pairs_of_text_and_annotation() -> None:
    pair = ["Ana left", {"entities": [[0, 3, "PER"]]}]
    for document in ([pair], {"classes": ["PER"], "annotations": [pair]}):
        items, _ = items_of(json.dumps(document).encode(), read_json)
        assert [(item.text, item.marked) for item in items if isinstance(item, Document)] == [
            ("Ana left", (Marked(0, 3, "PER"),))
        ]


def test_objects_over_several_lines() -> None:
    content = "\n".join(json.dumps({"text": text, "label": []}, indent=1) for text in ("a", "b"))
    assert looks_like_json(content) and not looks_like_json_lines(content)
    items, _ = items_of(content.encode(), read_json)
    assert [(item.text, item.place) for item in items if isinstance(item, Document)] == [
        ("a", "file:1"),
        ("b", "file:2"),
    ]


def test_odd_characters_and_encodings() -> None:
    line = '{"tokens": ["\\ud800a", "a\u2028b", "\\u0000"], "tags": ["O", "O", "O"]}\r\n'
    for content in (
        line.encode(),
        b"\xef\xbb\xbf" + line.encode(),
        line.encode("utf-16"),
        line.replace("\r\n", "\r").encode(),
    ):
        items, _ = items_of(content, read_json_lines)
        assert [[row.word for row in item.rows] for item in items if isinstance(item, RawSentence)] == [
            ["\ud800a", "a\u2028b", "\0"]
        ]


@pytest.mark.parametrize(
    "head",
    [
        "{ NN O\n} NN O\n",
        "[ O\nAna B-PER\n",
        '" O\n{ O\n',
        "[\n{\n",
        '["a", "b"]',
        "[1, 2]",
        "{a: 1}",
        '{"a"',
        '{"a" O\n',
        "",
        "Ana left.",
        '"tokens": 3',
    ],
)
def test_no_json(head: str) -> None:
    assert not looks_like_json(head)
    assert not looks_like_json_lines(head)


@pytest.mark.parametrize(
    "head", ['{"text": "a long te', ' \n{"a": 1}\n3', "{}", '{"tokens": [}\n{"tokens": []}', '{"a\\"": 1}']
)
def test_json_lines_are_recognised(head: str) -> None:
    assert looks_like_json_lines(head)
    assert not looks_like_json(head)


DEEP = '{"tokens": ' + "[" * 100_000
BROKEN: dict[str, tuple[str, str]] = {
    "cut": ('{"tokens": [\n', "file:1: found '{\"tokens\": \\[', which is not JSON .*; expected an object"),
    "deep": (DEEP, "file:1: found .* which is not JSON"),
    "long integer": ('{"text": "a", "label": [[0, ' + "1" * 5000 + ', "X"]]}', "file:1: found .* which is not JSON"),
    "no object": ("3\n", "file:1: found 3; expected a JSON object"),
    "several": ('{"text": 3}\n', r"file:1: found the keys \['text'\]"),
    "infinite": ('{"text": "a", "label": [[0, Infinity, "X"]]}', "file:1: found the entity"),
    "lone bracket": ("{]\n}\n", "file: 2 places cannot be read; correct the file there.\nfile:1: .*\nfile:2: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_json_lines(name: str) -> None:
    content, message = BROKEN[name]
    with pytest.raises(UserError) as error:
        items_of(content.encode(), read_json_lines)
    assert re.match(message, str(error.value)), str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a", "label": []},\n{"text" "b"}]', "file:2: not JSON"),
        ('[{"text": "a"', "file:1: not JSON"),
        ("[" * 100_000, "file: not JSON that can be read"),
        ("[" + "1" * 5000 + "]", "file: not JSON that can be read"),
        ('[{"text": "a", "label": []}, null]', "file:2: found None; expected a JSON object"),
        ('{"train": [], "test": []}', r"file:1: found the keys \['test', 'train'\]"),
    ],
)
def test_what_is_wrong_with_json_documents(content: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        items_of(content.encode(), read_json)
    assert re.match(message, str(error.value)), str(error.value)


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path, '{"tokens": ["a"], "tags": ["O"]}\n' * 3 + "nonsense\n")
    with Source(str(path)) as source:
        items = read_json_lines(source, ReadOptions()).items
        assert [next(items).record["tokens"] for _ in range(3)] == [["a"]] * 3


# --- writing ---------------------------------------------------------------------------------------------------------


def test_what_is_written() -> None:
    sentence = sentence_from_words(["Jürg", "\ud800"], ["B-PER", "O"])
    assert written(write_json_lines_tokens, [sentence]) == (
        '{"tokens": ["Jürg", "\\ud800"], "ner_tags": ["B-PER", "O"]}\n'.encode()
    )
    assert written(write_json_lines_tokens, [sentence_from_words(["a"])]) == b'{"tokens": ["a"]}\n'
    document = Document("Jürg!", (Marked(0, 4, "PER"),), ((0, 4), (4, 5)))
    assert written(write_json_lines_spans, [document, Document("a")]) == (
        '{"text": "Jürg!", "label": [[0, 4, "PER"]]}\n{"text": "a"}\n'.encode()
    )
    assert [json.loads(line) for line in written(write_json_lines_prodigy, [document, Document("a")]).splitlines()] == [
        {
            "text": "Jürg!",
            "tokens": [
                {"text": "Jürg", "start": 0, "end": 4, "id": 0, "ws": False},
                {"text": "!", "start": 4, "end": 5, "id": 1, "ws": False},
            ],
            "spans": [{"start": 0, "end": 4, "label": "PER", "token_start": 0, "token_end": 0}],
        },
        {"text": "a"},
    ]


def test_an_entity_that_cuts_a_word_is_counted_for_prodigy() -> None:
    oddities = Oddities()
    document = Document("Anas", (Marked(0, 3, "PER"),), ((0, 4),), place="file:1")
    write_json_lines_prodigy([document], io.BytesIO(), oddities)
    assert oddities.lines() == [
        "1 entity with an end inside a word, written without the numbers of words (first at file:1)"
    ]


def sentences() -> st.SearchStrategy[Sentence]:
    words = st.lists(st.tuples(ANY_TEXT.filter(bool), st.sampled_from(["O", "B-X", "I-X"])), min_size=1, max_size=6)
    return words.map(lambda rows: sentence_from_words(*zip(*rows, strict=True)))


@given(st.lists(sentences(), max_size=4))
def test_sentences_come_back(given_sentences: list[Sentence]) -> None:
    items, oddities = items_of(written(write_json_lines_tokens, given_sentences), read_json_lines)
    assert oddities == []
    assert [[row[:2] for row in item.rows] for item in items if isinstance(item, RawSentence)] == [
        list(zip(sentence.words, sentence.tags or (), strict=True)) for sentence in given_sentences
    ]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Texts with words and entities anywhere; where characters count twice in UTF-16, only entities of whole words."""
    text = draw(ANY_TEXT.filter(bool))
    words = tuple((match.start(), match.end()) for match in re.finditer(r"\S+", text))
    offsets = st.integers(0, len(text))
    anywhere = st.tuples(offsets, offsets).map(sorted).filter(lambda pair: pair[0] < pair[1])
    if max(text) > "\uffff":
        assume(words)
        anywhere = st.sampled_from(words).map(list)
    marked = draw(st.lists(st.tuples(anywhere, st.sampled_from(["PER", "Ort 2"])), max_size=4))
    return Document(text, tuple(Marked(*pair, kind) for pair, kind in marked), words)


@pytest.mark.parametrize("write_items", [write_json_lines_spans, write_json_lines_prodigy])
@given(st.lists(documents(), max_size=3))
def test_texts_come_back(
    write_items: Callable[[Any, IO[bytes], Oddities], None], given_documents: list[Document]
) -> None:
    items, oddities = items_of(written(write_items, given_documents), read_json_lines)
    assert oddities == []
    read = [item for item in items if isinstance(item, Document)]
    assert [(item.text, item.marked) for item in read] == [(item.text, item.marked) for item in given_documents]
    if write_items is write_json_lines_prodigy:
        # A text without words is as good as one whose words nobody has found.
        assert [item.words or None for item in read] == [item.words or None for item in given_documents]
