"""The file formats of tagged corpora. A format is recognised by its content, never by the file's name.

Every format is read into blocks of rows: word, tag as written, line number. What the tags mean is found out by
`corpora.schemes`; sentences are made by `corpora.reader`.
"""

import codecs
import gzip
import importlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metacross.corpora.layout import Layout, Row, find_layout, is_document_start, most
from metacross.corpora.words import is_unspaced
from metacross.errors import UserError

_KNOWN = (
    "one word and its tag a line (columns separated by tabs or single spaces, an empty line after each sentence), or "
    'one JSON object a line such as {"tokens": ["Rome"], "ner_tags": ["B-LOC"]}'
)
_RANGES = "word ranges or empty nodes (such as 3-4 or 8.1)"
_JSON = re.compile(r'\s*\{\s*"')


@dataclass(frozen=True)
class RawCorpus:
    """The content of a corpus file, its tags still as written.

    Attributes:
        path: the path or `hf:` name that the user gave.
        format: the name of the format.
        encoding: the text's encoding, with "+gzip" if it was compressed.
        blocks: stretches of rows between sentence breaks, none empty.
        breaks_given: whether the format cannot come without sentence breaks.
        language: the language the words are marked with (WikiANN), else None.
        oddities: unusual things about the file, one sentence each.
    """

    path: str
    format: str
    encoding: str
    blocks: list[list[Row]]
    breaks_given: bool
    language: str | None = None
    oddities: list[str] = field(default_factory=list)

    def place(self, block: int, row: int) -> str:
        """Where a row is, "file:line", for messages."""
        return f"{self.path}:{self.blocks[block][row].line}"


def read_raw(path: str) -> RawCorpus:
    """Reads a corpus in any known format.

    Args:
        path: a file, or `hf:NAME[/config][:split]` for a Hugging Face dataset.

    Raises:
        UserError: there is no such file, it is empty or binary, or it breaks its format.
    """
    if path.startswith("hf:"):
        return _read_hub(path)
    data, packed = _read_bytes(path)
    text, encoding, oddities = _decode(data, path)
    # Not splitlines(): words may hold characters such as U+0085 or U+2028 that it would break at.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise UserError(f"{path}: the file is empty; expected {_KNOWN}.")
    raw = _read_json_lines(lines, path) if _JSON.match(first) else _read_columns(lines, path)
    return RawCorpus(
        path=path,
        format=raw.format,
        encoding=encoding + ("+gzip" if packed else ""),
        blocks=raw.blocks,
        breaks_given=raw.breaks_given,
        language=raw.language,
        oddities=oddities + raw.oddities,
    )


def _read_bytes(path: str) -> tuple[bytes, bool]:
    """The file's bytes, decompressed, and whether they were compressed."""
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{path}: is a directory; name one corpus file in it.")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Paths are relative to {Path.cwd()}.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path!r}: cannot be read: {error}") from error
    if not data.startswith(b"\x1f\x8b"):
        return data, False
    try:
        return gzip.decompress(data), True
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); copy or download it again.") from error


def _decode(data: bytes, path: str) -> tuple[str, str, list[str]]:
    """Decodes bytes into text, encoding and oddities: as UTF-8 if possible, else as latin-1, which takes any bytes."""
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding), encoding, []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    lenient = data.decode("utf-8", "replace")
    bad = lenient.count("\ufffd")
    good = sum(character > "\x7f" for character in lenient) - bad
    # A mostly sound UTF-8 file must not be read as latin-1: every accented letter would silently become two wrong ones.
    if encoding != "utf-8" or good > bad:
        raise UserError(
            f"{path}:{line}: found bytes that are not {encoding}, though the rest of the file is; expected one "
            "encoding in the whole file. Repair this line, or save the file as UTF-8 again."
        )
    if b"\0" in data:
        raise UserError(f"{path}: is a binary file; expected text: {_KNOWN}.")
    return data.decode("latin-1"), "latin-1", [f"not UTF-8 (first at line {line}): read as latin-1"]


# --- columns ---------------------------------------------------------------------------------------------------------


def _read_columns(lines: Sequence[str], path: str) -> RawCorpus:
    numbered_lines = [(n, line) for n, line in enumerate(lines, 1) if line.strip(" \t") and not is_document_start(line)]
    if not numbered_lines:
        raise UserError(f"{path}: found no words; expected {_KNOWN}.")
    layout = find_layout(lines)
    if layout is None:
        number, line = next((pair for pair in numbered_lines if not pair[1].startswith("#")), numbered_lines[0])
        raise UserError(
            f"{path}:{number}: found {_short(line)}, and most lines have no tag in any column; expected {_KNOWN}. "
            "Tags are O or like B-PER."
        )
    blocks: list[list[Row]] = [[]]
    ranges = 0
    for number, line in enumerate(lines, 1):
        if not line.strip(" \t") or is_document_start(line):
            blocks.append([])
        elif layout.numbered and line.startswith("#"):
            continue
        elif layout.is_range(line):
            ranges += 1
        else:
            try:
                blocks[-1].append(layout.row(line, number))
            except ValueError as error:
                # Before a sentence this is a comment; elsewhere # is a word.
                if line.startswith("# ") and not blocks[-1]:
                    continue
                raise UserError(
                    f"{path}:{number}: found {error} in the line {_short(line)}; expected {layout}."
                ) from None
    blocks = [block for block in blocks if block]
    return RawCorpus(
        path=path,
        format=_name(layout, blocks),
        encoding="",
        blocks=blocks,
        breaks_given=layout.numbered,
        language=layout.language,
        oddities=layout.oddities() + ([f"{ranges} lines of {_RANGES} left out"] if ranges else []),
    )


def _name(layout: Layout, blocks: Sequence[Sequence[Row]]) -> str:
    words = [row.word for block in blocks for row in block]
    if layout.numbered:
        return "universal-ner" if (layout.separator, layout.tag) == ("\t", 2) else "numbered-columns"
    if layout.language:
        return "wikiann"
    if layout.columns == 2 and all(len(word) < 2 for word in words) and most(map(is_unspaced, filter(None, words))):
        return "characters"
    if layout.separator == " ":
        return "conll-2003" if layout.columns > 3 else "conll-2002"
    return "word-tab-tag" if layout.columns == 2 else "columns-tab"


# --- JSON lines and the hub ------------------------------------------------------------------------------------------


def _read_json_lines(lines: Sequence[str], path: str) -> RawCorpus:
    """One object per line, with tokens, and ner_tags or tags; `label_names` names integer tags."""
    blocks = []
    names: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: found {_short(line)}, which is not JSON ({error}); expected {_KNOWN}.") from None
        if not isinstance(record, dict):
            raise UserError(f"{place}: found {_short(line)}; expected a JSON object, in braces.")
        if "label_names" in record:
            names = _strings(record["label_names"], "label_names", place)
            if "tokens" not in record:
                continue
        words, tags = _record(record, place, names)
        blocks.append([Row(word, tag, number) for word, tag in zip(words, tags, strict=True)])
    if not any(blocks):
        raise UserError(f"{path}: found no words; expected {_KNOWN}.")
    return RawCorpus(path, "jsonl", "", [block for block in blocks if block], breaks_given=True)


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
    raise UserError(f"{place}: found {_short(repr(value))} in {key}; expected a list of strings (or {kind}).")


def _read_hub(path: str) -> RawCorpus:
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
        blocks.append([Row(word, tag, number) for word, tag in zip(words, tags, strict=True)])
    if not any(blocks):
        raise UserError(f"{path}: the split {split} has no words; name another one, such as {name}:validation.")
    return RawCorpus(path, "huggingface", "utf-8", [block for block in blocks if block], breaks_given=True)


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


def _short(line: str, limit: int = 60) -> str:
    return repr(line if len(line) <= limit else line[: limit - 3] + "...")
