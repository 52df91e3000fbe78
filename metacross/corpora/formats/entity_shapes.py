"""Entities with offsets into a text, in the shapes that annotation tools and taggers write them.

Sources: doccano's documentation (`[start, end, type]`, and with relations objects with `start_offset` and
`end_offset`), Prodigy's documentation of its annotation interfaces (`start`, `end`, `label`, and words by `token_start`
and `token_end`, the last one included), Hugging Face's token classification pipeline (`entity_group` or `entity`,
`word`, `start`, `end`).

Offsets count code points. doccano's page counts UTF-16 code units instead unless the project counts grapheme clusters
(its issue 2290), so characters above U+FFFF count twice there. Such offsets are recognised and converted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from metacross.corpora.offset_units import UTF_16, converter
from metacross.corpora.raw import Marked, Oddities, shortened

_START_KEYS = ("start", "start_offset")
_END_KEYS = ("end", "end_offset")
_TYPE_KEYS = ("label", "entity_group", "entity", "type", "labels")
_TEXT_KEYS = ("word", "text")
_TAG = re.compile(r"([BI])-(.+)", re.DOTALL)
_EXPECTED = 'expected [start, end, type] or {"start": 0, "end": 4, "label": "PER"}'


class RecordError(ValueError):
    """A record that cannot be read; the message says what was found and what was expected."""


class _Span(NamedTuple):
    """An entity as the record gives it; `text` is what the record repeats of the text, if it does."""

    start: int
    end: int
    type: str
    text: str | None


def read_entities(
    value: object, text: str, words: Sequence[tuple[int, int]] | None, place: str, oddities: Oddities
) -> tuple[Marked, ...]:
    """Reads the entities of a text.

    Entities that are empty or do not lie in the text are left out and counted.

    Args:
        value: the entities: a list, or an object of lists of equal length (how Arrow files hold a list of objects).
        text: the text that the offsets refer to.
        words: start and end of each word, for entities that are given by their words.
        place: "file:line".
        oddities: counts what was converted, joined or left out.

    Raises:
        RecordError: an entity in an unknown shape.
    """
    spans = [_span(item, words) for item in _listed(value)]
    marked = []
    for span in _joined(_in_code_points(spans, text, place, oddities), text):
        inside = text[max(span.start, 0) : max(span.end, 0)]
        if not 0 <= span.start <= span.end <= len(text):
            oddities.count("entities outside of the text left out", place)
        elif not inside:
            oddities.count("empty entities left out", place)
        else:
            if span.text is not None and _folded(span.text) != _folded(inside):
                oddities.count("entities whose repeated text is not the one at the offsets, which were read", place)
            marked.append(Marked(span.start, span.end, span.type))
    return tuple(marked)


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        with contextlib.suppress(ValueError):  # lists of different lengths
            return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    raise RecordError(f"found {shortened(value)} for the entities; expected a list of them")


def _span(item: object, words: Sequence[tuple[int, int]] | None) -> _Span:
    start: Any
    end: Any
    kind: Any
    text: Any = None
    if isinstance(item, list | tuple) and len(item) >= 3:
        start, end, kind = item[:3]
    elif isinstance(item, dict):
        start, end, kind, text = (_first(item, keys) for keys in (_START_KEYS, _END_KEYS, _TYPE_KEYS, _TEXT_KEYS))
        if start is None and end is None and words is not None:
            start, end = _of_words(item, words)
        if isinstance(kind, list) and len(kind) == 1:
            kind = kind[0]
    else:
        raise RecordError(f"found the entity {shortened(item)}; {_EXPECTED}")
    if not (_is_offset(start) and _is_offset(end) and isinstance(kind, str) and kind.strip()):
        raise RecordError(f"found the entity {shortened(item)}; {_EXPECTED}")
    return _Span(int(start), int(end), kind, text if isinstance(text, str) else None)


def _first(item: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """The value of the first of these keys that has one, or None."""
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _of_words(item: Mapping[str, Any], words: Sequence[tuple[int, int]]) -> tuple[int | None, int | None]:
    """Start and end of an entity that is given by its first and its last word."""
    first, last = item.get("token_start"), item.get("token_end")
    if type(first) is int and type(last) is int and 0 <= first <= last < len(words):
        return words[first][0], words[last][1]
    return None, None


def _is_offset(value: object) -> bool:
    # Programs that keep numbers as floats, such as pandas for a column with gaps, write 3.0 for 3.
    return type(value) is int or (type(value) is float and value.is_integer())


def _folded(text: str) -> str:
    # Tokenizers join the pieces of a word with other spaces, and some have no capitals.
    return "".join(text.split()).casefold()


def _joined(spans: Iterable[_Span], text: str) -> list[_Span]:
    """Joins the word pieces that Hugging Face's pipeline gives without aggregation: their types are tags, B-PER."""
    joined: list[_Span] = []
    for span in spans:
        tag = _TAG.fullmatch(span.type)
        if not tag:
            joined.append(span)
            continue
        before = joined[-1] if joined else None
        continues = tag[1] == "I" and before is not None and before.type == tag[2] and before.end <= span.start
        if before is not None and continues and not text[before.end : span.start].strip():
            joined[-1] = before._replace(end=span.end)
        else:
            joined.append(_Span(span.start, span.end, tag[2], None))
    return joined


# --- UTF-16 ----------------------------------------------------------------------------------------------------------


def _in_code_points(spans: list[_Span], text: str, place: str, oddities: Oddities) -> list[_Span]:
    """Converts offsets that count UTF-16 code units.

    They count those if all entities fit when read so, and not all of them fit otherwise. An entity fits if its text is
    the one that the record repeats; where it repeats none, if it begins and ends where words do.
    """
    if text.isascii() or max(text) <= "\uffff" or all(_fits(span, text) for span in spans):
        return spans
    to_code_points = converter(text, UTF_16)
    converted = [span._replace(start=to_code_points(span.start), end=to_code_points(span.end)) for span in spans]
    if not all(_fits(span, text) for span in converted):
        return spans
    moved = sum(before != after for before, after in zip(spans, converted, strict=True))
    oddities.count("entities with offsets in UTF-16 code units, which were converted to characters", place, moved)
    return converted


def _fits(span: _Span, text: str) -> bool:
    start, end = span.start, span.end
    if not 0 <= start < end <= len(text):
        return False
    inside = text[start:end]
    if span.text is not None:
        return _folded(inside) == _folded(span.text)
    cuts = any(0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() for at in (start, end))
    return not cuts and inside == inside.strip()
