"""JSON: a line for each object, or a document with a list of objects. `formats.records` reads what the objects hold.

A document is a list of records, or an object with the list under "data" or "annotations"; several documents may follow
one another, as the program jq prints them. A record may also be a pair of a text and its annotation,
`["Rome", {"entities": [[0, 4, "LOC"]]}]`, which is how spaCy's version 2 had its training data (its documentation of
the time) and how NER Annotator still exports them. The names of integer tags stand in an object
`{"label_names": ["O", "B-PER", "I-PER"]}`: the first line, or the object around the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from metacross.corpora.formats.records import LABEL_NAMES, WORD_KEYS, RecordReader
from metacross.corpora.raw import Document, Oddities, Reading, ReadOptions, shortened
from metacross.corpora.sentence import Sentence
from metacross.corpora.source import Source
from metacross.corpora.utf8 import json_bytes
from metacross.errors import UserError

_LIST_KEYS = ("data", "annotations")
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_OBJECT_START = re.compile(rf"\s*\{{\s*(?:{_STRING}\s*:|\}})")
_DOCUMENT_START = re.compile(rf"\s*\[\s*(?:\[\s*\"|\{{\s*(?:{_STRING}\s*:|\}})|\]\s*\Z)")
_SPACE = re.compile(r"[ \t\r\n]*")


# --- reading ---------------------------------------------------------------------------------------------------------


def looks_like_json_lines(head: str) -> bool:
    """Whether a file that begins so has a JSON object in each line.

    Args:
        head: the beginning of the text; a line that is longer counts as complete.
    """
    if not _OBJECT_START.match(head):
        return False
    first, end, _ = head.lstrip().partition("\n")
    # An object over several lines is a document. A damaged line still is a line: its message is the better one.
    return not end or first.rstrip().endswith("}")


def looks_like_json(head: str) -> bool:
    """Whether a file that begins so is a JSON document with records. It is none if it `looks_like_json_lines`.

    Args:
        head: the beginning of the text.
    """
    is_document = _DOCUMENT_START.match(head) or _OBJECT_START.match(head)
    return is_document is not None and not looks_like_json_lines(head)


def read_json_lines(source: Source, options: ReadOptions) -> Reading:
    """Reads a file with a JSON object in each line. Empty lines are passed over; memory stays flat.

    Raises:
        UserError: while the items are taken: lines that are not JSON, or that `RecordReader` cannot read.
    """
    reader = RecordReader(source.path, options, source.oddities)

    def records() -> Iterator[tuple[int, object]]:
        for number, line in enumerate(source.lines(), 1):
            if not line or line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:  # ValueError: also an integer of more than 4,300 digits
                reader.add_problem(number, f"found {shortened(line)}, which is not JSON ({error}); expected an object")
            else:
                yield from ((number, inner) for inner in _records(record))

    return Reading("jsonl", reader.items(records()))


def read_json(source: Source, options: ReadOptions) -> Reading:
    """Reads a JSON document with a list of records, all of it into memory. Messages count the records from 1.

    Raises:
        UserError: it is not JSON; while the items are taken: records that `RecordReader` cannot read.
    """
    reader = RecordReader(source.path, options, source.oddities)
    records = [record for document in _documents(source) for record in _records(document)]
    return Reading("json", reader.items(enumerate(records, 1)))


def _documents(source: Source) -> Iterator[object]:
    """The JSON values that follow one another in a file."""
    text = source.text()
    decoder = json.JSONDecoder()
    at = _end(_SPACE, text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise UserError(f"{source.place(error.lineno)}: not JSON ({error}); repair the file there.") from None
        except (ValueError, RecursionError) as error:  # ValueError: an integer of more than 4,300 digits
            raise UserError(f"{source.path}: not JSON that can be read ({error}); repair the file.") from None
        yield value
        at = _end(_SPACE, text, at)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _records(value: object) -> Iterator[object]:
    """The records in a JSON value: in a list, in the list that an object holds, or the value itself."""
    items: object = value
    if isinstance(value, dict) and not any(key in value for key in (*WORD_KEYS, "text")):
        items = next((value[key] for key in _LIST_KEYS if isinstance(value.get(key), list)), value)
        if items is not value and LABEL_NAMES in value:
            yield {LABEL_NAMES: value[LABEL_NAMES]}
    if isinstance(items, list):
        yield from map(_without_pair, items)
    else:
        yield items


def _without_pair(item: object) -> object:
    """A pair of a text and its annotation as one object; everything else as it is."""
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict):
        return {**item[1], "text": item[0]}
    return item


# --- writing ---------------------------------------------------------------------------------------------------------


def write_json_lines_tokens(items: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes a line for each sentence: `tokens`, and `ner_tags` unless nobody has annotated it."""
    for sentence in items:
        tags = {} if sentence.tags is None else {"ner_tags": sentence.tags}
        file.write(json_bytes({"tokens": sentence.words, **tags}) + b"\n")


def write_json_lines_spans(items: Iterable[Document], file: IO[bytes], oddities: Oddities) -> None:
    """Writes a line for each text as doccano imports it: `text`, and `label` with a [start, end, type] an entity."""
    for document in items:
        label = {} if document.marked is None else {"label": document.marked}
        file.write(json_bytes({"text": document.text, **label}) + b"\n")


def write_json_lines_prodigy(items: Iterable[Document], file: IO[bytes], oddities: Oddities) -> None:
    """Writes a line for each text as Prodigy imports it: `text`, `spans`, and `tokens` where words are known.

    Entities that cut a word are written without the numbers of their words, and counted.
    """
    for document in items:
        record: dict[str, Any] = {"text": document.text}
        if document.words is not None:
            record["tokens"] = _tokens(document.text, document.words)
        if document.marked is not None:
            record["spans"] = _spans(document, oddities)
        file.write(json_bytes(record) + b"\n")


def _tokens(text: str, words: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Prodigy's tokens; `ws` says whether a space follows."""
    return [
        {"text": text[start:end], "start": start, "end": end, "id": w, "ws": text[end : end + 1].isspace()}
        for w, (start, end) in enumerate(words)
    ]


def _spans(document: Document, oddities: Oddities) -> list[dict[str, Any]]:
    words = document.words or ()
    by_start = {start: w for w, (start, _) in enumerate(words)}
    by_end = {end: w for w, (_, end) in enumerate(words)}
    spans = []
    for start, end, kind in document.marked or ():
        span: dict[str, Any] = {"start": start, "end": end, "label": kind}
        if start in by_start and end in by_end:
            span |= {"token_start": by_start[start], "token_end": by_end[end]}  # the last word is included
        elif words:
            oddities.count("entities with an end inside a word, written without the numbers of words", document.place)
        spans.append(span)
    return spans
