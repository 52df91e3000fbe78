"""The formats that a corpus can be written in, by name, and what each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from metacross.corpora.raw import Document, Oddities
from metacross.corpora.sentence import Sentence

FormatName = Literal[
    "conll",
    "conll-4",
    "conllu",
    "csv",
    "jsonl",
    "parquet",
    "arrow",
    "jsonl-spans",
    "prodigy",
    "label-studio",
    "label-studio-predictions",
    "brat",
    "docbin",
]


@dataclass(frozen=True)
class WordFormat:
    """A format of words with tags, which may be written in any tagging scheme.

    Attributes:
        write: writes sentences into a file.
        is_text: whether the file is text, which may go to a terminal or a pipe.
    """

    write: Callable[[Iterable[Sentence], IO[bytes], Oddities], None]
    is_text: bool = True


@dataclass(frozen=True)
class TextFormat:
    """A format of texts with marked entities.

    Attributes:
        write: writes documents into a file.
        is_text: as of `WordFormat`.
        is_gold: whether entities are written as annotations. A reader leaves a model's predictions out.
    """

    write: Callable[[Iterable[Document], IO[bytes], Oddities], None]
    is_text: bool = True
    is_gold: bool = True


@dataclass(frozen=True)
class FolderFormat:
    """A format of texts with marked entities that needs several files.

    Attributes:
        write: writes documents into an empty folder.
    """

    write: Callable[[Iterable[Document], Path, Oddities], None]


Format = WordFormat | TextFormat | FolderFormat


def formats() -> dict[FormatName, Format]:
    """All formats. Their modules are imported here, so that the names alone cost nothing."""
    from metacross.corpora.formats.arrow import write_arrow, write_parquet
    from metacross.corpora.formats.brat import write_brat
    from metacross.corpora.formats.conll_writer import write_conll, write_conll_2003, write_conllu
    from metacross.corpora.formats.csv_table import write_csv_table
    from metacross.corpora.formats.doc_bin import write_doc_bin
    from metacross.corpora.formats.json_lines import (
        write_json_lines_prodigy,
        write_json_lines_spans,
        write_json_lines_tokens,
    )
    from metacross.corpora.formats.label_studio import write_label_studio

    return {
        "conll": WordFormat(write_conll),
        "conll-4": WordFormat(write_conll_2003),
        "conllu": WordFormat(write_conllu),
        "csv": WordFormat(write_csv_table),
        "jsonl": WordFormat(write_json_lines_tokens),
        "parquet": WordFormat(write_parquet, is_text=False),
        "arrow": WordFormat(write_arrow, is_text=False),
        "jsonl-spans": TextFormat(write_json_lines_spans),
        "prodigy": TextFormat(write_json_lines_prodigy),
        "label-studio": TextFormat(partial(write_label_studio, predictions=False)),
        "label-studio-predictions": TextFormat(partial(write_label_studio, predictions=True), is_gold=False),
        "brat": FolderFormat(write_brat),
        "docbin": TextFormat(write_doc_bin, is_text=False),
    }
