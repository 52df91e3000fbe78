"""Line breaks in raw text: which of them end a sentence, and which only wrap one.

In a list of names every line is by itself, so a break there must end the sentence, or two names become one. In text that
was wrapped at a fixed width, as in e-mails, a break may stand inside a name, and must not end anything. In doubt a break
is a wrap: a sentence that is too long costs less than a name that is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_QUOTED = re.compile(r"[>\s]*")  # the marks of quotation in e-mails
_INITIAL = re.compile(r"[^\w\s]*(\w)")
_TABULAR = re.compile(r"\S(?:\t| {3})\s*\S")  # cells beside each other; justified prose has two spaces
_CONTINUED = re.compile(r"[,،、，/&(\[（\-‐‑–—]\Z")
_STOPPED = re.compile(r"[.!?؟।॥。！？:][^\w\s]*\Z")
# Drawn on two columns (East Asian width W and F).
_WIDE = re.compile("[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\U00020000-\U0003fffd]")

# In columns. Text is seldom wrapped at fewer than the first, and lines beyond the last are paragraphs, not wrapped text.
# One line may be long only because it holds an address of the web, hence the second.
_NARROWEST, _USUAL, _WIDEST = 40, 80, 120
_LONGEST_WORD = 20  # a longer one says nothing about the width: it may have been broken off, too
_LIST = 4  # capitals at the beginning of so many lines are no accident


@dataclass(frozen=True)
class _Line:
    """A line with something to see in it.

    Attributes:
        start: where it begins in the text.
        end: where its line end begins.
        columns: its width.
        first_word: the width of its first word, or of one character in scripts that break lines anywhere.
        initial: its first letter or digit, "" if there is none before its first space.
        tabular: whether it has cells like a table's row.
        continued: whether it ends in a comma, a hyphen or the like.
        stopped: whether it ends in a full stop or the like.
    """

    start: int
    end: int
    columns: int
    first_word: int
    initial: str
    tabular: bool
    continued: bool
    stopped: bool


def unwrap(text: str) -> tuple[str, list[int]]:
    r"""Tells wraps from the line breaks that end a sentence.

    A break is a wrap if the line before it is at least half as long as the longest around it, which must be a plausible
    width for wrapped text. It is none if the lines look like a table's rows; nor if nearly all of them begin with a
    capital, unless they are filled so evenly that the next line's first word would never have fitted.

    A break that is no wrap ends a sentence, unless the line ends in a comma or hyphen, or the next line begins with a
    small letter and most lines around it do. Blank lines end sentences always.

    Args:
        text: the text.

    Returns:
        The text with spaces in place of wraps and \n in place of all other line ends, as long as before; and the
        places in it where a line break ends a sentence, in order.

    >>> unwrap("Angela Merkel\nBarack Obama")
    ('Angela Merkel\nBarack Obama', [13])
    >>> unwrap("They say that yesterday evening Angela\nMerkel came.")
    ('They say that yesterday evening Angela Merkel came.', [])
    """
    line_ends = list(_LINE_END.finditer(text))
    if not line_ends:
        return text, []
    parts: list[str] = []
    borders: list[int] = []
    done = 0
    for start, end, is_wrap, is_border in _breaks(text, line_ends):
        parts += [text[done:start], (" " if is_wrap else "\n") * (end - start)]
        done = end
        if is_border:
            borders.append(start)
    return "".join([*parts, text[done:]]), borders


def _breaks(text: str, line_ends: Sequence[re.Match[str]]) -> Iterator[tuple[int, int, bool, bool]]:
    """Start and end of every line end, whether it is a wrap, and whether it ends a sentence."""
    starts = [0, *(mark.end() for mark in line_ends)]
    stops = [*(mark.start() for mark in line_ends), len(text)]
    spans = zip(starts, stops, strict=True)
    blocks = groupby((_line(text, start, end) for start, end in spans), key=lambda line: line is not None)
    wraps: set[int] = set()
    inside: set[int] = set()
    for _, found in blocks:
        block = [line for line in found if line is not None]
        for line, wrapped, joined in zip(block, _wraps(block), _joined(block), strict=False):
            if wrapped:
                wraps.add(line.end)
            if wrapped or joined:
                inside.add(line.end)
    for mark in line_ends:
        yield mark.start(), mark.end(), mark.start() in wraps, mark.start() not in inside


def _line(text: str, start: int, end: int) -> _Line | None:
    """Measures a line; None if it is blank."""
    line = text[start:end].rstrip()
    if not line:
        return None
    inner = line[_QUOTED.match(line).end() :]  # type: ignore[union-attr]
    first_word = inner.split(None, 1)[0] if inner else ""
    wide = _WIDE.match(first_word)
    initial = _INITIAL.match(inner)
    return _Line(
        start,
        end,
        _columns(line),
        2 if wide else min(_columns(first_word), _LONGEST_WORD),
        initial.group(1) if initial else "",
        _TABULAR.search(inner) is not None,
        _CONTINUED.search(line) is not None,
        _STOPPED.search(line) is not None,
    )


def _columns(line: str) -> int:
    return len(line) if line.isascii() else len(line) + len(_WIDE.findall(line))


def _wraps(block: Sequence[_Line]) -> list[bool]:
    """For every line of a block but the last whether the break behind it is a wrap."""
    width = min(max((line.columns for line in block), default=0), _USUAL)
    if width < _NARROWEST:
        return [False] * (len(block) - 1)
    long_enough = [
        line.columns <= _WIDEST
        and _columns_needed(line, after) > width / 2
        and not (line.tabular and after.tabular)
        for line, after in pairwise(block)
    ]
    wraps: list[bool] = []
    for is_long, run in groupby(long_enough):
        first, length = len(wraps), len(list(run))
        wraps += [is_long and not _is_list(block[first : first + length + 1])] * length
    return wraps


def _columns_needed(line: _Line, after: _Line) -> int:
    """The width that a line would have with the first word of the next."""
    return line.columns + 1 + after.first_word


def _is_list(lines: Sequence[_Line]) -> bool:
    """Whether long lines are a list's: nearly all begin with a capital, and they are not filled to the same width."""
    upper = sum(line.initial.isupper() for line in lines[1:])
    lower = sum(line.initial.islower() for line in lines[1:])
    if upper < _LIST or 2 * upper < len(lines) or 8 * lower >= upper:
        return False
    width = max(line.columns for line in lines)
    return not all(line.stopped or _columns_needed(line, after) > width for line, after in pairwise(lines))


def _joined(block: Sequence[_Line]) -> list[bool]:
    """For every line of a block but the last whether a break behind it, though no wrap, is inside a sentence."""
    lower = sum(line.initial.islower() for line in block)
    mostly_lower = 2 * lower > sum(line.initial.isupper() for line in block)
    return [line.continued or (mostly_lower and after.initial.islower()) for line, after in pairwise(block)]
