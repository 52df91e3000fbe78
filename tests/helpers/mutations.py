"""Small damage to the text or the bytes of a file, as people, editors, programs and disks do it.

A mutation takes a random generator and what it changes, and returns it changed; where it finds nothing to change, it
returns it as it was. The same generator gives the same result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

TextMutation = Callable[[Random, str], str]
BytesMutation = Callable[[Random, bytes], bytes]

INVISIBLE = "\ufeff\u200b\u200c\u200d\u200e\u202a\u2060\u00ad\u00a0\u3000 \x00\x1c\x85\u2028"
ODD_TEXT = [*INVISIBLE, *"\r\n\t\ud800\ufffd\U0001f30d\"'\\#|", "e\u0301", "क्\u200d"]
ODD_TAGS = ["", *"0o-_B1é", "B-", "B-O", "b-per", "E-PER", "U-LOC", "PER", "NN", "I-A|B-B", "B-a b"]
_ODD_NUMBERS = [True, False, 0, -1, 3.0, 1.5, 10**30, 1e308, float("nan"), float("inf")]
_ODD_LISTS = [[], [[]], [None], ["a"], [1, "a"], [0, 4, "LOC"]]
_ODD_OBJECTS = [{}, {"a": []}, {"names": ["O"]}, {"start": 0, "end": 1, "label": "A"}]
ODD_VALUES: list[Any] = [None, "", "x", "\ud800", "O", "a" * 5000, *_ODD_NUMBERS, *_ODD_LISTS, *_ODD_OBJECTS]
ODD_KEYS = [
    *("tokens", "words", "ner_tags", "tags", "labels", "label", "text", "data", "entities", "spans", "label_names"),
    *("start", "end", "answer", "annotations", "result", "value", "id", ""),
]


def _span(rng: Random, length: int) -> tuple[int, int]:
    """A short stretch of something of this length; sometimes a long one."""
    start = rng.randrange(length + 1)
    return start, min(length, start + rng.choice([1, 1, 2, 5, 20, 200]))


# --- bytes -----------------------------------------------------------------------------------------------------------


def flip_bytes(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), rng.choice([1, 1, 3, 10]))):
        changed[rng.randrange(len(data))] = rng.choice([0, 0x80, 0xFF, rng.randrange(256)])
    return bytes(changed)


def insert_bytes(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice([rng.randbytes(rng.randint(1, 8)), b"\xef\xbb\xbf", b"\0", b"\xff\xfe"]) + data[at:]


def delete_bytes(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, len(data))
    return data[:start] + data[end:]


def duplicate_bytes(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, len(data))
    return data[:end] + data[start:]


def truncate_bytes(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


BYTES: Sequence[BytesMutation] = (flip_bytes, insert_bytes, delete_bytes, duplicate_bytes, truncate_bytes)


# --- text ------------------------------------------------------------------------------------------------------------


def insert_odd_text(rng: Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(ODD_TEXT) * rng.choice([1, 1, 2]) + text[at:]


def delete_text(rng: Random, text: str) -> str:
    start, end = _span(rng, len(text))
    return text[:start] + text[end:]


def duplicate_text(rng: Random, text: str) -> str:
    start, end = _span(rng, len(text))
    return text[:end] + text[start:]


def truncate(rng: Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def edit_lines(rng: Random, text: str) -> str:
    """Deletes, repeats, swaps or joins lines."""
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.choice(["delete", "repeat", "swap", "join", "blank"]):
        case "delete":
            del lines[i]
        case "repeat":
            lines.insert(j, lines[i])
        case "swap":
            lines[i], lines[j] = lines[j], lines[i]
        case "join":
            lines[i : i + 2] = [rng.choice(["", " ", "\t"]).join(lines[i : i + 2])]
        case _:
            lines.insert(i, rng.choice(["", " ", "\t", "\u3000", "#", "# x", "-DOCSTART- O"]))
    return "\n".join(lines)


def edit_fields(rng: Random, text: str) -> str:
    """Deletes, repeats, swaps or empties fields of one line."""
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    separator = rng.choice([one for one in "\t ,;" if one in lines[i]] or [" "])
    fields = lines[i].split(separator)
    a, b = rng.randrange(len(fields)), rng.randrange(len(fields))
    match rng.choice(["delete", "repeat", "swap", "empty"]):
        case "delete":
            del fields[a]
        case "repeat":
            fields.insert(b, fields[a])
        case "swap":
            fields[a], fields[b] = fields[b], fields[a]
        case _:
            fields[a] = ""
    lines[i] = separator.join(fields)
    return "\n".join(lines)


def change_line_ends(rng: Random, text: str) -> str:
    end = rng.choice(["\r", "\r\n", "\r\r\n", "\n\r", "\u2028", "\x85", "\x0b"])
    share = rng.choice([1.0, 1.0, 0.3])
    return re.sub("\n", lambda _: end if rng.random() < share else "\n", text)


def change_separators(rng: Random, text: str) -> str:
    old, new = rng.choice([("\t", " "), ("\t", "  "), (" ", "\t"), (" ", "  "), (",", ";"), (",", "\t"), ("\t", ",")])
    if rng.random() < 0.5:
        return text.replace(old, new)
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    lines[i] = lines[i].replace(old, new)
    return "\n".join(lines)


def add_invisible(rng: Random, text: str) -> str:
    """Adds characters that nobody sees at the edges of words or lines."""
    edges = [match.start() for match in re.finditer(r"\b|^|$", text, re.MULTILINE)]
    for at in sorted(rng.sample(edges, min(len(edges), rng.choice([1, 1, 3]))), reverse=True):
        text = text[:at] + rng.choice(INVISIBLE) + text[at:]
    return text


def replace_tags(rng: Random, text: str) -> str:
    share = rng.choice([1.0, 0.3, 0.05])
    odd = rng.choice(ODD_TAGS)
    return re.sub(r"\b([BIES]-[A-Za-z]+|O)\b", lambda tag: odd if rng.random() < share else tag[0], text)


def swell(rng: Random, text: str) -> str:
    """Repeats a stretch very often: time must not grow as the square of what it is read from."""
    start, end = _span(rng, len(text))
    return text[:start] + text[start:end] * (rng.choice([5_000, 50_000]) // max(end - start, 1)) + text[end:]


TEXT: Sequence[TextMutation] = (
    insert_odd_text,
    delete_text,
    duplicate_text,
    truncate,
    edit_lines,
    edit_fields,
    change_line_ends,
    change_separators,
    add_invisible,
    replace_tags,
)


# --- JSON ------------------------------------------------------------------------------------------------------------


def edit_json(rng: Random, text: str) -> str:
    """Changes one value in a JSON document, or in one line of JSON lines; other text stays as it is."""
    try:
        return _dumped(rng, edit_value(rng, json.loads(text)))
    except (ValueError, RecursionError):
        pass
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    try:
        lines[i] = _dumped(rng, edit_value(rng, json.loads(lines[i])))
    except (ValueError, RecursionError):
        return text
    return "\n".join(lines)


def edit_value(rng: Random, value: Any) -> Any:
    """The value with one change: something in it replaced, left out, repeated, nested, or a key renamed."""
    if not isinstance(value, list | dict) or not value or rng.random() < 0.1:
        return rng.choice([rng.choice(ODD_VALUES), [value], {rng.choice(ODD_KEYS): value}, str(value)])
    if isinstance(value, list):
        i = rng.randrange(len(value))
        change = rng.choice(["inside", "inside", "inside", "delete", "repeat"])
        inside = [] if change == "delete" else [value[i]] * 2 if change == "repeat" else [edit_value(rng, value[i])]
        return [*value[:i], *inside, *value[i + 1 :]]
    key = rng.choice(list(value))
    match rng.choice(["inside", "inside", "inside", "delete", "rename", "add"]):
        case "inside":
            return {**value, key: edit_value(rng, value[key])}
        case "delete":
            return {name: item for name, item in value.items() if name != key}
        case "rename":
            new = rng.choice([*ODD_KEYS, key.upper(), f" {key}"])
            return {new if name == key else name: item for name, item in value.items()}
        case _:
            return {**value, rng.choice(ODD_KEYS): rng.choice([*ODD_VALUES, value[key]])}


def _dumped(rng: Random, value: Any) -> str:
    written = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, None, 1]))
    if rng.random() < 0.03:
        deep = rng.choice([50, rng.randint(800, 1_000), 100_000])
        written = written.replace("null", "[" * deep + "]" * deep).replace("1", "1" * rng.choice([1, 6_000]), 1)
    return written


JSON: Sequence[TextMutation] = (edit_json,)
