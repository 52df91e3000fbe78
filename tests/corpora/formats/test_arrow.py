"""Parquet and Arrow files: what tools write, what we write, and damaged ones."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.formats import arrow
from metacross.corpora.formats.arrow import (
    looks_like_arrow,
    looks_like_parquet,
    read_arrow,
    read_parquet,
    write_arrow,
    write_parquet,
)
from metacross.corpora.raw import Document, Oddities, RawSentence, Reading, ReadOptions
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.source import Source
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT

Read = Callable[[Source, ReadOptions], Reading]


def as_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def as_file(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def as_stream(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


WAYS = pytest.mark.parametrize(
    ("save", "read"), [(as_parquet, read_parquet), (as_file, read_arrow), (as_stream, read_arrow)]
)


def items_of(
    content: bytes, read: Read, options: ReadOptions | None = None
) -> tuple[list[RawSentence | Document], list[str]]:
    source = Source("file", io.BytesIO(content))
    return list(read(source, options or ReadOptions()).items), source.oddities.lines()


def rows_of(content: bytes, read: Read) -> list[list[tuple[str, str]]]:
    items, oddities = items_of(content, read)
    assert oddities == []
    return [[(row.word, row.tag) for row in item.rows] for item in items if isinstance(item, RawSentence)]


WORDS = [["Ana", "لندن", "🙂"], [], ["東京"]]
NAMES = ["O", "B-PER", "B-LOC"]
NUMBERS = [[1, 2, 0], [], [2]]
TAGS = [[NAMES[number] for number in row] for row in NUMBERS]
EXPECTED = [list(zip(WORDS[0], TAGS[0], strict=True)), [("東京", "B-LOC")]]


def huggingface(feature: object) -> dict[str, str]:
    """The metadata of a schema with a feature for ner_tags."""
    return {"huggingface": json.dumps({"info": {"features": {"ner_tags": feature}}})}


@WAYS
@pytest.mark.parametrize(
    "metadata",
    [
        huggingface({"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "List"}),
        huggingface({"feature": {"num_classes": 3, "names": NAMES, "_type": "ClassLabel"}, "length": -1}),
        huggingface([{"names": NAMES, "_type": "ClassLabel"}]),
        {"label_names": json.dumps(NAMES)},
    ],
)
def test_names_of_integers(save: Callable[[pa.Table], bytes], read: Read, metadata: dict[str, str]) -> None:
    table = pa.table({"id": [1, 2, 3], "tokens": WORDS, "ner_tags": NUMBERS}).replace_schema_metadata(metadata)
    assert rows_of(save(table), read) == EXPECTED


@WAYS
def test_names_in_a_column(save: Callable[[pa.Table], bytes], read: Read) -> None:
    table = pa.table({"words": WORDS, "tags": NUMBERS, "label_names": [NAMES, None, None]})
    assert rows_of(save(table), read) == EXPECTED


@WAYS
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
        pa.list_(pa.string_view()),
    ],
)
def test_types_of_strings(save: Callable[[pa.Table], bytes], read: Read, kind: pa.DataType) -> None:
    table = pa.table({"tokens": pa.array(WORDS, kind), "ner_tags": pa.array(TAGS, kind)})
    assert rows_of(save(table), read) == EXPECTED


@WAYS
def test_lists_of_fixed_size_and_many_batches(save: Callable[[pa.Table], bytes], read: Read) -> None:
    kind = pa.list_(pa.string(), 2)
    part = pa.table({"tokens": pa.array([["a", "b"]], kind), "tags": pa.array([["O", "O"]], kind)})
    table = pa.concat_tables([part.slice(0, 0), part] * 3)
    assert rows_of(save(table), read) == [[("a", "O"), ("b", "O")]] * 3


@WAYS
def test_texts_with_entities(save: Callable[[pa.Table], bytes], read: Read) -> None:
    entities = [[{"start": 0, "end": 3, "label": "PER"}], []]
    table = pa.table({"text": ["Ana 🙂", "b"], "entities": entities, "image": [b"\0", None]})
    items, _ = items_of(save(table), read)
    assert [(item.text, item.marked, item.place) for item in items if isinstance(item, Document)] == [
        ("Ana 🙂", ((0, 3, "PER"),), "file:1"),
        ("b", (), "file:2"),
    ]
    json.dumps([item.record for item in items])  # binary columns are left out, so that answers can be written


@WAYS
def test_to_be_tagged(save: Callable[[pa.Table], bytes], read: Read) -> None:
    items, _ = items_of(save(pa.table({"id": [5, 6], "tokens": [["a"], []]})), read, ReadOptions(labelled=False))
    assert [item.record["id"] for item in items] == [5, 6]


@WAYS
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"a": [1]}), r"file:1: found the keys \['a'\]; expected words with tags"),
        (pa.table({"tokens": WORDS, "ner_tags": NUMBERS}), "file:1: found integers in ner_tags, .*label_names"),
        (pa.table({"tokens": [["a", None]], "tags": [["O", "O"]]}), r"file:1: found \['a', None\] in tokens"),
        (
            pa.table({"tokens": WORDS, "ner_tags": NUMBERS}).replace_schema_metadata({"huggingface": "{"}),
            "file:1: found integers in ner_tags",
        ),
        (
            pa.table({"tokens": WORDS, "ner_tags": NUMBERS}).replace_schema_metadata(huggingface({"feature": 3})),
            "file:1: found integers in ner_tags",
        ),
    ],
)
def test_what_is_wrong(save: Callable[[pa.Table], bytes], read: Read, table: pa.Table, message: str) -> None:
    with pytest.raises(UserError, match=message):
        items_of(save(table), read)


@WAYS
@given(data=st.data())
def test_damaged_files(save: Callable[[pa.Table], bytes], read: Read, data: st.DataObject) -> None:
    content = bytearray(save(pa.table({"tokens": WORDS, "ner_tags": TAGS})))
    content = content[: data.draw(st.integers(0, len(content)))]
    for at in data.draw(st.lists(st.integers(0, len(content)), max_size=3)):
        content[at : at + 1] = data.draw(st.binary(max_size=2))
    try:
        items_of(bytes(content), read)
    except UserError as error:
        assert "file" in str(error)


@WAYS
def test_recognition(save: Callable[[pa.Table], bytes], read: Read) -> None:
    head = save(pa.table({"tokens": WORDS}))[:64]
    assert (looks_like_parquet(head), looks_like_arrow(head)) == (read is read_parquet, read is read_arrow)


@pytest.mark.parametrize(
    "head", [b"", b"PAR O\n", b"ARROW O\n", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0", b"\xff\xfea\0\n\0"]
)
def test_other_files_are_not_taken(head: bytes) -> None:
    assert not looks_like_parquet(head)
    assert not looks_like_arrow(head)


# --- writing ---------------------------------------------------------------------------------------------------------

WRITERS = pytest.mark.parametrize(("write", "read"), [(write_parquet, read_parquet), (write_arrow, read_arrow)])


@WRITERS
def test_what_is_written(write: Callable[..., None], read: Read) -> None:
    sentences = [
        sentence_from_words(["Rom", "und", "Ana"], ["B-LOC", "O", "B-PER"]),
        sentence_from_words(["nobody", "tagged", "it"]),
    ]
    file, oddities = io.BytesIO(), Oddities()
    write(sentences, file, oddities)
    content = file.getvalue()
    table = pq.read_table(io.BytesIO(content)) if read is read_parquet else pa.ipc.open_stream(content).read_all()
    assert table.schema.types == [pa.list_(pa.string()), pa.list_(pa.int64())]
    assert table["ner_tags"].to_pylist() == [[1, 0, 3], None]
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["ner_tags"] == {
        "feature": {"names": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "_type": "ClassLabel"},
        "_type": "Sequence",
    }
    assert oddities.lines() == []


@WRITERS
def test_lone_surrogates_are_replaced_and_counted(write: Callable[..., None], read: Read) -> None:
    file, oddities = io.BytesIO(), Oddities()
    write([sentence_from_words(["a\ud800", "\udc00"], ["O", "O"], place="corpus:7")], file, oddities)
    assert rows_of(file.getvalue(), read) == [[("a\ufffd", "O"), ("\ufffd", "O")]]
    assert oddities.lines() == ["2 lone surrogates written as U+FFFD, since UTF-8 has none (first at corpus:7)"]


WORD = ANY_TEXT.map(lambda word: re.sub("[\ud800-\udfff]", "", word)).filter(bool)
SENTENCE: st.SearchStrategy[Sentence] = st.lists(
    st.tuples(WORD, st.sampled_from(["O", "B-X", "I-X", "B-Y"])), min_size=1, max_size=5
).map(lambda rows: sentence_from_words(*zip(*rows, strict=True)))


@WRITERS
@given(sentences=st.lists(SENTENCE, max_size=5))
def test_sentences_come_back(write: Callable[..., None], read: Read, sentences: list[Sentence]) -> None:
    file = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "_ROWS", 2)
        write(sentences, file, Oddities())
        rows = rows_of(file.getvalue(), read)
    assert rows == [list(zip(sentence.words, sentence.tags or (), strict=True)) for sentence in sentences]


def test_odd_schema_metadata_says_nothing() -> None:
    broken: list[Any] = [None, 3, [], {"info": 3}, {"info": {"features": [1]}}, {"info": {"features": {"a": [[]]}}}]
    for value in broken:
        table = pa.table({"tokens": WORDS, "ner_tags": TAGS})
        table = table.replace_schema_metadata({"huggingface": json.dumps(value), "label_names": "3"})
        assert rows_of(as_stream(table), read_arrow) == EXPECTED
