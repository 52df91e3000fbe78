"""Parquet and Arrow files, as Hugging Face's `datasets` and other tools for tables keep corpora: a row for each record.

A row is read as `formats.records` reads any record. Integer tags get their names from the schema's metadata: `datasets`
writes its features there, as JSON under the key "huggingface" (its module arrow_writer), among them the names of a
ClassLabel; a plain list of names may stand under "label_names". An Arrow file is either an IPC file or an IPC stream;
`Dataset.save_to_disk` writes streams (Arrow's documentation, "Serialization and Interprocess Communication").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from metacross.corpora.formats.records import LABEL_NAMES, RecordReader
from metacross.corpora.raw import Oddities, Reading, ReadOptions
from metacross.corpora.sentence import Sentence
from metacross.corpora.source import Source
from metacross.corpora.utf8 import without_surrogates
from metacross.errors import UserError, first_line

_ROWS = 4096  # that are Python objects, or are written, at a time
_FEATURES = b"huggingface"
_PARQUET_MAGIC = b"PAR1"
_FILE_MAGIC = b"ARROW1"
_CONTINUATION = b"\xff\xff\xff\xff"  # begins every message of an IPC stream; the length of its metadata follows
_DAMAGED = (pa.ArrowException, OSError, ValueError)


# --- reading ---------------------------------------------------------------------------------------------------------


def looks_like_parquet(head: bytes) -> bool:
    """Whether a file that begins so is a Parquet file."""
    return head.startswith(_PARQUET_MAGIC)


def looks_like_arrow(head: bytes) -> bool:
    """Whether a file that begins so is an Arrow IPC file or an IPC stream."""
    if head.startswith(_CONTINUATION):
        length = int.from_bytes(head[4:8], "little")
        return length > 0 and length % 8 == 0  # messages are padded to 8 bytes
    return head.startswith(_FILE_MAGIC)


def read_parquet(source: Source, options: ReadOptions) -> Reading:
    """Reads a Parquet file. The file's bytes are held in memory, and of its rows a few thousand at a time.

    Raises:
        UserError: the file is damaged; while the items are taken: records that `RecordReader` cannot read.
    """
    data = source.data()
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = [field.name for field in file.schema_arrow if _is_json(field.type)]
        batches = file.iter_batches(_ROWS, columns=columns)
        return _reading("parquet", file.schema_arrow, batches, source, options)
    except _DAMAGED as error:
        raise _damaged(source.path, "Parquet", error) from None


def read_arrow(source: Source, options: ReadOptions) -> Reading:
    """Reads an Arrow IPC file or stream. The file's bytes are held in memory, and of its rows one batch at a time.

    Raises:
        UserError: as `read_parquet`.
    """
    data = source.data()
    try:
        if data.startswith(_FILE_MAGIC):
            file = pa.ipc.open_file(pa.BufferReader(data))
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
            return _reading("arrow", file.schema, batches, source, options)
        stream = pa.ipc.open_stream(pa.BufferReader(data))
        return _reading("arrow", stream.schema, stream, source, options)
    except _DAMAGED as error:
        raise _damaged(source.path, "Arrow", error) from None


def _reading(
    name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], source: Source, options: ReadOptions
) -> Reading:
    names, default_names = _names(schema)
    reader = RecordReader(source.path, options, source.oddities, names, default_names)
    rows = _rows(batches, source.path, name.capitalize())
    return Reading(name, reader.items(enumerate(rows, 1)))


def _rows(batches: Iterable[pa.RecordBatch], path: str, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of batches as dictionaries."""
    try:
        for batch in batches:
            # Without this, damaged offsets would be followed into foreign memory.
            batch.validate(full=True)
            columns = [number for number, field in enumerate(batch.schema) if _is_json(field.type)]
            for start in range(0, batch.num_rows, _ROWS):
                yield from batch.select(columns).slice(start, _ROWS).to_pylist()
    except _DAMAGED as error:
        raise _damaged(path, kind, error) from None


def _is_json(kind: pa.DataType) -> bool:
    """Whether JSON has such values: others hold no annotation, and could not be written together with answers."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_json(kind.value_type)
    if types.is_struct(kind):
        return all(_is_json(field.type) for field in kind)
    is_string = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_number = types.is_integer(kind) or types.is_floating(kind)
    return bool(is_string or is_number or types.is_boolean(kind) or types.is_null(kind))


def _names(schema: pa.Schema) -> tuple[dict[str, list[str]], list[str] | None]:
    """The names of integers, by column, and those for all columns; from the schema's metadata."""
    metadata = schema.metadata or {}
    features = _parsed(metadata.get(_FEATURES))
    for key in ("info", "features"):
        features = features.get(key) if isinstance(features, dict) else None
    by_column = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        names = _class_names(feature)
        if names is not None:
            by_column[column] = names
    default_names = _parsed(metadata.get(LABEL_NAMES.encode()))
    return by_column, default_names if _are_strings(default_names) else None


def _parsed(written: bytes | None) -> Any:
    try:
        return json.loads(written or b"null")
    except (ValueError, RecursionError):
        return None  # as if it were not there: integers without names are refused with a hint


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, or of a list of ClassLabels: {"feature": {"names": [...]}}, or [{"names": [...]}]."""
    while feature:
        if isinstance(feature, list):
            feature = feature[0]
        elif isinstance(feature, dict) and _are_strings(feature.get("names")):
            return list(feature["names"])
        else:
            feature = feature.get("feature") if isinstance(feature, dict) else None
    return None


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _damaged(path: str, kind: str, error: BaseException) -> UserError:
    return UserError(f"{path}: damaged {kind} file ({first_line(error)}); copy or download it again.")


# --- writing ---------------------------------------------------------------------------------------------------------


def write_parquet(items: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes a Parquet file with the columns `tokens` and `ner_tags`, the latter a ClassLabel for `datasets`.

    Words with lone surrogates, which Arrow cannot hold, get U+FFFD in their place and are counted.
    """
    pq.write_table(_table(items, oddities), file, compression="zstd")


def write_arrow(items: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes an Arrow IPC stream, as `Dataset.from_file` reads it; otherwise like `write_parquet`."""
    table = _table(items, oddities)
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _table(items: Iterable[Sentence], oddities: Oddities) -> pa.Table:
    sentences = list(items)  # the schema, which comes first, has the names of all tags
    names = _tag_names(sentences)
    numbers = {name: number for number, name in enumerate(names)}
    schema = _schema(names)
    batches = []
    for start in range(0, len(sentences), _ROWS):
        part = sentences[start : start + _ROWS]
        words = [[without_surrogates(word, s.place, oddities) for word in s.words] for s in part]
        tags = [None if sentence.tags is None else [numbers[tag] for tag in sentence.tags] for sentence in part]
        batches.append(pa.record_batch([pa.array(words, schema.types[0]), pa.array(tags, schema.types[1])], schema))
    return pa.Table.from_batches(batches, schema)


def _tag_names(sentences: Iterable[Sentence]) -> list[str]:
    """O, then B- and I- of each type in the order in which the types first occur, and E-, S-, L-, U- if used."""
    tags = dict.fromkeys(tag for sentence in sentences for tag in sentence.tags or () if tag != "O")
    letters = ["B", "I", *sorted({tag[0] for tag in tags} - {"B", "I"})]
    types = dict.fromkeys(tag[2:] for tag in tags)
    return ["O", *(f"{letter}-{kind}" for kind in types for letter in letters)]


def _schema(names: Sequence[str]) -> pa.Schema:
    # "Sequence" is the name that every version of datasets reads; since version 4 it writes "List".
    features = {
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
        "ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    return pa.schema(
        [("tokens", pa.list_(pa.string())), ("ner_tags", pa.list_(pa.int64()))],
        metadata={_FEATURES: json.dumps({"info": {"features": features}})},
    )
