"""Line breaks in raw text: which of them end a sentence, and which only wrap one.

In a list of names a line's end must end the sentence, or two names become one. In text that was wrapped at a fixed
width, as in e-mails, a line may end inside a name, and then nothing may end there. In doubt a line break is a wrap: a
sentence that is too long costs less than a name that is cut. `benchmarks/line_breaks.py` measures both mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, pairwise

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_QUOTED = re.compile(r"[>\s]*")  # e-mails mark quoted lines with >
_INITIAL = re.compile(r"[^\w\s]*(\w)")
_TABULAR = re.compile(r"\S(?:\t| {3})\s*\S")  # not two spaces: they stand between the sentences of some typists
_CONTINUED = tuple(",،、，/&([（-‐‑–—")
_STOPPED = tuple(".!?؟।॥。！？:")
_CLOSING = "\"'”’“»«)]」』）》】"
# Characters as wide as two: Chinese, Japanese and Korean ones (Unicode's East Asian Width is W or F).
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\U00020000-\U0003fffd]"
)

_NARROWEST = 40  # columns; text is seldom wrapped at fewer, and names are seldom longer
_WIDEST = 120  # columns; a longer line was not wrapped at all
_LONGEST_WORD = 12  # columns of a line's first word that count: after a short line a long word is no sign of a wrap
_LIST = 4  # so many lines that begin with a capital, and nearly none that does not, are no accident


class _Break(Enum):
    WRAP = "stands where a space would"
    INSIDE = "does not end the sentence, but a full stop before it does"
    BORDER = "ends the sentence"


@dataclass(frozen=True)
class _Line:
    """What has to be known of a line that is not blank.

    Attributes:
        columns: its width.
        first_columns: the width of its first word, or of its first character in scripts that break lines anywhere.
        initial: the first letter or digit of its first word; "" if that has none.
        tabular: whether it has cells like a row of a table.
        continued: whether it ends in a comma, a hyphen or the like.
        stopped: whether it ends in a full stop or the like.
    """

    columns: int
    first_columns: int
    initial: str
    tabular: bool
    continued: bool
    stopped: bool


def unwrap(text: str) -> tuple[str, list[int]]:
    r"""Tells the line breaks that end a sentence from those that only wrap it.

    1. A blank line ends a sentence.
    2. A line break is a wrap if the line and the next one's first word together have between 40 and about 120 columns.
       It is none between rows of a table, and none in a list, where lines begin with capitals. Lines that are all
       filled to the same width are no list.
    3. Any other line break ends a sentence, unless the line ends in a comma, a hyphen or the like, or the next line
       begins with a small letter and so do most lines around it.

    Returns:
        The text, as long as before, with spaces in place of wraps and \n in place of all other line ends; and where
        in it a line break ends a sentence, in order.

    >>> unwrap("Angela Merkel\nBarack Obama")
    ('Angela Merkel\nBarack Obama', [13])
    >>> unwrap("We spoke with the former chancellor Angela\nMerkel.")
    ('We spoke with the former chancellor Angela Merkel.', [])
    """
    if not _LINE_END.search(text):
        return text, []
    breaks = _breaks([_line(line) for line in _LINE_END.split(text)])
    borders = [
        mark.start() for mark, found in zip(_LINE_END.finditer(text), breaks, strict=True) if found is _Break.BORDER
    ]
    following = iter(breaks)
    return _LINE_END.sub(lambda mark: _stand_in(next(following)) * len(mark.group()), text), borders


def _stand_in(found: _Break) -> str:
    return " " if found is _Break.WRAP else "\n"


def _line(line: str) -> _Line | None:
    """Measures a line; None if it is blank."""
    line = line.rstrip()
    if not line:
        return None
    inner = _QUOTED.sub("", line, count=1)
    first_word = inner.split(None, 1)[0] if inner else ""
    initial = _INITIAL.match(first_word)
    return _Line(
        columns=_columns(line),
        first_columns=2 if _WIDE.match(first_word) else min(_columns(first_word), _LONGEST_WORD),
        initial=initial.group(1) if initial else "",
        tabular=_TABULAR.search(inner) is not None,
        continued=line.endswith(_CONTINUED),
        stopped=line.rstrip(_CLOSING).endswith(_STOPPED),
    )


def _columns(line: str) -> int:
    return len(line) if line.isascii() else len(line) + len(_WIDE.findall(line))


def _breaks(lines: Sequence[_Line | None]) -> list[_Break]:
    """What the break behind each line but the last is."""
    breaks: list[_Break] = []
    for is_blank, group in groupby(lines, key=lambda line: line is None):
        if is_blank:
            breaks += [_Break.BORDER for _ in group]
            continue
        block = [line for line in group if line is not None]
        breaks += [
            _Break.WRAP if wraps else _Break.INSIDE if inside else _Break.BORDER
            for wraps, inside in zip(_wraps(block), _inside(block), strict=True)
        ]
        breaks.append(_Break.BORDER)
    return breaks[:-1]


def _wraps(block: Sequence[_Line]) -> list[bool]:
    """For each line of a block but the last, whether the break behind it is a wrap."""
    long_enough = [
        _columns_with(line, after) >= _NARROWEST and line.columns <= _WIDEST and not (line.tabular and after.tabular)
        for line, after in pairwise(block)
    ]
    in_capitals = _has_capitals(block)  # once: a block may have many runs, or time would grow as its square
    wraps: list[bool] = []
    for is_long, run in groupby(long_enough):
        first, length = len(wraps), len(list(run))
        wraps += [is_long and not _is_list(block[first : first + length + 1], in_capitals)] * length
    return wraps


def _columns_with(line: _Line, after: _Line) -> int:
    """The width that a line would have with the next one's first word."""
    return line.columns + 1 + after.first_columns


def _is_list(lines: Sequence[_Line], in_capitals: bool) -> bool:
    """Whether long lines in a block are a list: they begin with capitals, and are not filled to the same width.

    A few lines are too few to say; but in a block of capitals they are a list unless one begins with a small letter.

    Args:
        lines: some of the block's that follow one another.
        in_capitals: whether nearly all of the block's lines begin with a capital.
    """
    has_small = any(line.initial.islower() for line in lines[1:])
    if not (_has_capitals(lines) or (in_capitals and not has_small)):
        return False
    width = max(line.columns for line in lines)
    is_filled = all(line.stopped or _columns_with(line, after) > width for line, after in pairwise(lines))
    return len(lines) < _LIST or not is_filled


def _has_capitals(lines: Sequence[_Line]) -> bool:
    """Whether nearly all of the lines begin with a capital; the first begins so in prose as well."""
    upper = sum(line.initial.isupper() for line in lines[1:])
    lower = sum(line.initial.islower() for line in lines[1:])
    # Half of them at least: a Chinese text has some Latin letters, too.
    return upper >= _LIST and 2 * upper >= len(lines) and 8 * lower < upper


def _inside(block: Sequence[_Line]) -> list[bool]:
    """For each line of a block but the last, whether the sentence seems to go on though the line is short."""
    lower = sum(line.initial.islower() for line in block)
    upper = sum(line.initial.isupper() for line in block)
    return [line.continued or (after.initial.islower() and 2 * lower > upper) for line, after in pairwise(block)]
