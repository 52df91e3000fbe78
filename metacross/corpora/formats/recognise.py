"""Which format a file is in: found by its content, never by its name."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from metacross.corpora.characters import visible
from metacross.corpora.formats.columns import KNOWN, read_columns, short
from metacross.corpora.formats.json_lines import looks_like_json, looks_like_json_lines, read_json, read_json_lines
from metacross.corpora.raw import RawSentence, Reading, ReadOptions, Row
from metacross.corpora.source import Source
from metacross.errors import UserError


@contextmanager
def opened(path: str, options: ReadOptions, stream: IO[bytes] | None = None) -> Iterator[tuple[Source, Reading]]:
    """Opens a corpus in any known format.

    Args:
        path: a file, a directory of BRAT files, or `hf:NAME[/config][:split]` for a Hugging Face dataset.
        options: what the user says about it.
        stream: the file's bytes, if they do not come from `path`.

    Yields:
        the file, whose oddities and encoding are complete when all of it was read, and what it holds.

    Raises:
        UserError: there is no such file, it is empty or binary, or it breaks its format.
    """
    if path.startswith("hf:"):
        source = Source(path, io.BytesIO())
        source.encoding = "utf-8"
        yield source, _read_hub(path)
        return
    with Source(path, stream) as source:
        yield source, _recognised(source, options)


def _recognised(source: Source, options: ReadOptions) -> Reading:
    start = source.start()
    if not visible(start):
        raise UserError(f"{source.path}: the file is empty; expected {KNOWN}.")
    if looks_like_json_lines(start):
        return read_json_lines(source, options)
    if looks_like_json(start):
        return read_json(source, options)
    return read_columns(source, options)


def _record(record: dict[str, Any], place: str, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The words and tags of one record."""
    key = next((key for key in ("ner_tags", "tags") if key in record), None)
    if "tokens" not in record or key is None:
        raise UserError(f'{place}: found the keys {sorted(record)}; expected "tokens", and "ner_tags" or "tags".')
    words = _strings(record["tokens"], "tokens", place)
    given = record[key]
    if isinstance(given, list) and given and all(type(tag) is int for tag in given):
        tags = list(_named(given, names, key, place))
    else:
        tags = _strings(given, key, place)
    if len(words) != len(tags):
        raise UserError(f"{place}: found {len(words)} tokens and {len(tags)} {key}; expected as many of both.")
    return words, tags


def _named(numbers: Sequence[int], names: Sequence[str] | None, key: str, place: str) -> Iterator[str]:
    if names is None:
        raise UserError(
            f"{place}: found integers in {key}, but not what they mean; expected tags such as B-PER. Put their names, "
            'in order, into the first line of a JSON lines file: {"label_names": ["O", "B-PER", "I-PER"]}'
        )
    for number in numbers:
        if not 0 <= number < len(names):
            raise UserError(
                f"{place}: found {number} in {key}; expected 0 to {len(names) - 1}, as there are {len(names)} names."
            )
        yield names[number]


def _strings(value: object, key: str, place: str) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    kind = "integers" if key.endswith("tags") else "nothing else"
    raise UserError(f"{place}: found {short(repr(value))} in {key}; expected a list of strings (or {kind}).")


def _read_hub(path: str) -> Reading:
    """Reads a Hugging Face dataset with a column tokens, and a column ner_tags or tags."""
    name, _, split = path.removeprefix("hf:").partition(":")
    split = split or "train"
    if not name.strip("/") or name.count("/") > 2:
        raise UserError(f"{path}: expected hf:NAME, hf:NAME/CONFIG or hf:OWNER/NAME/CONFIG, then :SPLIT if not train.")
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise UserError(
            f"{path}: reading from the Hugging Face hub needs the package datasets: pip install 'metacross[hub]'"
        ) from None
    dataset = _load(datasets, path, name.split("/"), split)
    column = "ner_tags" if "ner_tags" in dataset.features else "tags"
    # The feature is Sequence(ClassLabel(names=...)): the names belong to the inner one.
    names = getattr(getattr(dataset.features.get(column), "feature", None), "names", None)
    blocks = []
    for number, record in enumerate(dataset, 1):
        words, tags = _record(record, f"{path}:{number}", names)
        blocks.append(RawSentence([Row(word, tag, number) for word, tag in zip(words, tags, strict=True)]))
    if not any(block.rows for block in blocks):
        raise UserError(f"{path}: the split {split} has no words; name another one, such as {name}:validation.")
    return Reading("huggingface", iter(blocks))


def _load(datasets: Any, path: str, parts: Sequence[str], split: str) -> Any:
    """Loads a dataset. The name a/b may mean the owner a's dataset b, or the configuration b of the dataset a."""
    readings = [list(parts)] if len(parts) == 1 else [[f"{parts[0]}/{parts[1]}", *parts[2:]]]
    if len(parts) == 2:
        readings.append(list(parts))
    problems = []
    for reading in readings:
        try:
            return datasets.load_dataset(*reading, split=split)
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(f"as {' with configuration '.join(reading)}: {error}")
    raise UserError(
        f"{path}: cannot be loaded ({'; '.join(problems)}). Check the name, the configuration, the split and the "
        "network, or give the corpus as a file."
    )
