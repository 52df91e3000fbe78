"""Which format a file is in: found by its content, never by its name. Only brat's files are known by their names."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from metacross.corpora.characters import visible
from metacross.corpora.formats import brat, csv_table, doc_bin, json_lines, label_studio
from metacross.corpora.formats.columns import KNOWN, read_columns
from metacross.corpora.formats.hub import PREFIX, read_hub
from metacross.corpora.raw import Reading, ReadOptions
from metacross.corpora.source import Source
from metacross.errors import UserError

_HEAD = 1 << 16  # characters that hold the header of a table and its first rows
# Each format's test of a file's first characters, and its reader. The first that fits counts.
_TEXT = (
    (label_studio.looks_like_label_studio, label_studio.read_label_studio),
    (json_lines.looks_like_json_lines, json_lines.read_json_lines),
    (json_lines.looks_like_json, json_lines.read_json),
)


@contextmanager
def opened(path: str, options: ReadOptions, stream: IO[bytes] | None = None) -> Iterator[tuple[Source, Reading]]:
    """Opens a corpus in any known format.

    Args:
        path: a file, a directory of brat's files, or `hf:NAME[/config][:split]` for a Hugging Face dataset.
        options: what the user says about it.
        stream: the file's bytes, if they do not come from `path`.

    Yields:
        the file, whose oddities and encoding are complete when all of it was read, and what it holds.

    Raises:
        UserError: there is no such file, it is empty or binary, or it breaks its format.
    """
    if stream is None and (path.startswith(PREFIX) or brat.is_brat(path)):
        source = Source(path, io.BytesIO())  # of several files, or none: it only gathers what is odd
        source.encoding = "utf-8"
        read = read_hub if path.startswith(PREFIX) else brat.read_brat
        yield source, read(path, options, source.oddities)
        return
    with Source(path, stream) as source:
        yield source, _recognised(source, options)


def _recognised(source: Source, options: ReadOptions) -> Reading:
    from metacross.corpora.formats import arrow  # pyarrow takes long to import; who tags by a service needs none

    first = source.peek()
    if arrow.looks_like_parquet(first):
        return arrow.read_parquet(source, options)
    if arrow.looks_like_arrow(first):
        return arrow.read_arrow(source, options)
    if doc_bin.looks_like_doc_bin(first):
        return doc_bin.read_doc_bin(source, options)
    start = source.start()
    if not visible(start):
        raise UserError(f"{source.path}: the file is empty; expected {KNOWN}.")
    for looks_like, read in _TEXT:
        if looks_like(start):
            return read(source, options)
    if csv_table.looks_like_csv_table(start[:_HEAD].splitlines(), options):
        return csv_table.read_csv_table(source, options)
    return read_columns(source, options)
