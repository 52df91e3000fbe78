r"""Offsets that a tool counted in another unit than code points, converted by the text that its annotations repeat.

JavaScript counts a character beyond U+FFFF as two (UTF-16 code units), some tools count bytes, and some counted before
or after \r\n was turned into \n. A file does not say so. But annotations usually repeat the text that they mark, and
only the right unit makes all of them fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

CODE_POINTS = "code points"
UTF_16 = "UTF-16 code units"
BY_START = "code points, with another end than the text they mark"


class Stretch(NamedTuple):
    """A stretch of text as an annotation gives it.

    Attributes:
        start: where it begins, in a unit that is not known.
        end: where it ends.
        quoted: the text that it marks, as the annotation repeats it; "" if it does not.
    """

    start: int
    end: int
    quoted: str = ""


class Located(NamedTuple):
    """Where a stretch is: text[start:end], and the unit its offsets were counted in."""

    start: int
    end: int
    unit: str


def locate(text: str, stretches: Sequence[Stretch]) -> list[Located | None]:
    r"""Finds stretches in their text.

    Offsets are taken as code points if that fits what the annotation quotes (white space apart), else in the unit that
    fits. A stretch without a quotation is taken in the unit that fits most of the others. Where only the end of a
    stretch is wrong, such as an end that includes its last character, the quotation decides where it ends.

    Args:
        text: the text.
        stretches: those of one text.

    Returns:
        For each of them where it is; None if it is empty, outside of the text, or not at its offsets in any unit.

    >>> [tuple(found) for found in locate("🌍 in Rio", [Stretch(6, 9, "Rio"), Stretch(0, 2)])]
    [(5, 8, 'UTF-16 code units'), (0, 1, 'UTF-16 code units')]
    """
    in_code_points = [_located(text, stretch, lambda offset: offset, CODE_POINTS) for stretch in stretches]
    if None not in in_code_points:
        return in_code_points
    readings = [in_code_points]
    for unit in _UNITS:
        to_code_points = converter(text, unit)
        readings.append([_located(text, stretch, to_code_points, unit) for stretch in stretches])
    # The unit in which the most quotations fit comes first; code points if as many fit in them (sorted is stable).
    readings.sort(key=lambda reading: -sum(map(_fits_quoted, reading, stretches)))
    readings.append([_by_start(text, stretch) for stretch in stretches])
    return [
        next((found for found in (of_one if stretch.quoted else of_one[:1]) if found), None)
        for stretch, of_one in zip(stretches, zip(*readings, strict=True), strict=True)
    ]


_AFTER_MARK = "code points, the byte-order mark included"
_UNITS: dict[str, Callable[[str], Iterable[int]]] = {
    UTF_16: lambda text: (1 + (character > "\uffff") for character in text),
    "bytes of UTF-8": lambda text: (len(character.encode("utf-8", "surrogatepass")) for character in text),
    r"code points, with \r\n as one": lambda text: (
        0 if pair == ("\r", "\n") else 1 for pair in zip(text, f"{text[1:]} ", strict=False)
    ),
    r"code points, with \r\n for \n": lambda text: (
        2 if this == "\n" and before != "\r" else 1 for before, this in zip(f" {text}", text, strict=False)
    ),
    _AFTER_MARK: lambda text: (1 for _ in text),
}


def converter(text: str, unit: str) -> Callable[[int], int]:
    """Makes the function that converts offsets into a text, counted in a unit, into code points.

    Args:
        text: the text.
        unit: one that `Located` can have, such as `UTF_16`; not code points.

    Returns:
        the function; it returns -1 for an offset at which no code point begins.

    >>> [converter("🌍 in", UTF_16)(offset) for offset in (0, 1, 2)]
    [0, -1, 1]
    """
    # In this unit the code point text[i] begins at begins[i].
    begins = list(accumulate(_UNITS[unit](text), initial=1 if unit == _AFTER_MARK else 0))

    def to_code_points(offset: int) -> int:
        at = bisect_left(begins, offset)
        return at if at < len(begins) and begins[at] == offset else -1

    return to_code_points


def _located(text: str, stretch: Stretch, to_code_points: Callable[[int], int], unit: str) -> Located | None:
    start, end = to_code_points(stretch.start), to_code_points(stretch.end)
    if not 0 <= start < end <= len(text):
        return None
    fits = not stretch.quoted or _visible(stretch.quoted) == _visible(text[start:end])
    return Located(start, end, unit) if fits else None


def _by_start(text: str, stretch: Stretch) -> Located | None:
    if stretch.start < 0 or not stretch.quoted or not text.startswith(stretch.quoted, stretch.start):
        return None
    return Located(stretch.start, stretch.start + len(stretch.quoted), BY_START)


def _fits_quoted(found: Located | None, stretch: Stretch) -> bool:
    return found is not None and bool(stretch.quoted)


def _visible(text: str) -> str:
    r"""Text without white space: tools show line breaks as spaces, as \n written out, or not at all."""
    return "".join(text.replace("\\n", " ").split())
