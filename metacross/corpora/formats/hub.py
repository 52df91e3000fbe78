"""Datasets of the Hugging Face hub, by the name `hf:NAME[/CONFIG][:SPLIT]`, through the package `datasets`.

A row is read as `formats.records` reads any record. Integer tags get their names from the dataset's features: in a
`List(ClassLabel(names=...))` (before version 4 of `datasets` a `Sequence`) the names belong to the inner feature.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metacross.corpora.formats.records import RecordReader
from metacross.corpora.raw import Document, Oddities, RawSentence, Reading, ReadOptions
from metacross.errors import UserError, first_line

PREFIX = "hf:"


def read_hub(path: str, options: ReadOptions, oddities: Oddities) -> Reading:
    """Downloads a dataset, or finds it in the cache of `datasets`, and reads its rows.

    Args:
        path: `hf:NAME`, `hf:NAME/CONFIG`, `hf:OWNER/NAME` or `hf:OWNER/NAME/CONFIG`, then `:SPLIT` if it is not train.
        options: what the user says about the rows.
        oddities: gets what is unusual in them.

    Raises:
        UserError: the name has another form, `datasets` is not installed, or it cannot load the dataset; while the
            items are taken: rows that `RecordReader` cannot read, or no rows with words.
    """
    name, _, split = path.removeprefix(PREFIX).partition(":")
    split = split or "train"
    parts = name.split("/")
    if not all(parts) or len(parts) > 3:
        raise UserError(f"{path}: expected hf:NAME, hf:NAME/CONFIG or hf:OWNER/NAME/CONFIG, then :SPLIT if not train.")
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise UserError(
            f'{path}: reading from the Hugging Face hub needs the package datasets: pip install -e ".[hub]"'
        ) from None
    dataset = _load(datasets, path, parts, split)
    reader = RecordReader(path, options, oddities, _names(dataset.features))

    def items() -> Iterator[RawSentence | Document]:
        is_empty = True
        for item in reader.items(enumerate(dataset, 1)):
            is_empty = False
            yield item
        if is_empty:
            raise UserError(f"{path}: the split {split} has no words; name another one, such as hf:{name}:validation.")

    return Reading("huggingface", items())


def _load(datasets: Any, path: str, parts: Sequence[str], split: str) -> Any:
    """Loads a dataset. The name a/b may mean the owner a's dataset b, or the configuration b of the dataset a."""
    arguments = [list(parts)] if len(parts) == 1 else [[f"{parts[0]}/{parts[1]}", *parts[2:]]]
    if len(parts) == 2:
        arguments.append(list(parts))
    problems = []
    for meaning in arguments:
        try:
            return datasets.load_dataset(*meaning, split=split)
        except Exception as error:  # the library, and what it calls, may raise anything
            problems.append(f"as {' with configuration '.join(meaning)}: {first_line(error)}")
    raise UserError(
        f"{path}: cannot be loaded ({'; '.join(problems)}). Check the name, the configuration, the split and the "
        "network, or give the corpus as a file."
    )


def _names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The names of integers, by column."""
    by_column = {}
    for column, feature in features.items():
        while True:
            names = getattr(feature, "names", None)
            inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
            if names or inner is None:
                break
            feature = inner
        if names:
            by_column[column] = names
    return by_column
