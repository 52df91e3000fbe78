"""What the format readers hand on, before tags are understood: sentences of words, and documents of text.

A reader of a format gives `RawSentence` where the file has words, and `Document` where it has text. What was odd in the
file is counted in `Oddities`; what cannot be meant is gathered in `Problems` and refused together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metacross.errors import UserError
from metacross.wording import counted

MOST_PROBLEMS = 20


class Row(NamedTuple):
    """A word, its tag as the file has it ("" if the file has no tags), and its line or record, counted from 1."""

    word: str
    tag: str
    line: int


@dataclass(frozen=True)
class RawSentence:
    """A sentence whose words the file gives; or, in a file of columns without sentence breaks, a longer stretch.

    Attributes:
        rows: its words and tags, at least one. Words may be empty or invisible.
        record: the object that it comes from, where the format has objects (JSON lines).
        words_key: the key of the words in `record`.
    """

    rows: list[Row]
    record: Mapping[str, Any] = field(default_factory=dict)
    words_key: str = "tokens"


class Marked(NamedTuple):
    """An entity as it is marked in a document: text[start:end], offsets in code points."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class Document:
    """A text with its entities; several sentences or one.

    Attributes:
        text: the text, unchanged.
        marked: the entities, in any order; they may overlap. None if nobody has annotated the text.
        words: start and end of each word, where the tool that wrote the file found words, else None.
        place: "file:line" or "file: record n", for messages.
        record: the object that it comes from, where the format has objects.
    """

    text: str
    marked: tuple[Marked, ...] | None = None
    words: tuple[tuple[int, int], ...] | None = None
    place: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """What a user says about a file that its content does not.

    Attributes:
        tag_column: where the tags are, if not where the reader would look: the number of a column, counted from 1, or
            its name; of records the key. None: the reader looks.
        labelled: whether the sentences have to have tags. To be tagged they need none.
    """

    tag_column: int | str | None = None
    labelled: bool = True


@dataclass(frozen=True)
class Reading:
    """A file whose format is known, about to be read.

    Attributes:
        format: the format's name.
        items: what it holds, one by one; UserError where the file breaks its format.
        breaks_given: whether the format cannot come without sentence breaks.
        language: the language the words are marked with (WikiANN), else None.
    """

    format: str
    items: Iterator[RawSentence | Document]
    breaks_given: bool = True
    language: str | None = None


class Oddities:
    """What was unusual in a file, one line a kind, each with its number and first place."""

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._counts: dict[str, tuple[int, str]] = {}

    def note(self, text: str) -> None:
        """Adds a line; the same one only once."""
        if text not in self._notes:
            self._notes.append(text)

    def count(self, what: str, place: str = "", number: int = 1) -> None:
        """Counts one more of a kind.

        Args:
            what: the kind, as `counted` takes it: "empty words left out".
            place: where this one is; the first one's is shown.
            number: how many there are.
        """
        before, first = self._counts.get(what, (0, place))
        self._counts[what] = (before + number, first)

    def lines(self) -> list[str]:
        """All of it: the notes, then the counts."""
        counts = [
            counted(number, what) + (f" (first at {place})" if place else "")
            for what, (number, place) in self._counts.items()
        ]
        return self._notes + counts


def shortened(value: object, limit: int = 60) -> str:
    """A value as Python writes it, cut to `limit` characters, for messages."""
    try:
        written = repr(value)
    except RecursionError:  # JSON is read to a greater depth than it can be written from here
        written = f"a value of the type {type(value).__name__} that is nested too deeply"
    return written if len(written) <= limit else written[: limit - 3] + "..."


class Problems:
    """What cannot be meant in a file. It is refused in one message, so that all of it can be repaired in one go."""

    def __init__(self, expected: str) -> None:
        """Begins with none.

        Args:
            expected: what ends the message: "expected ... Correct the lines."
        """
        self._expected = expected
        self._found: list[str] = []
        self._number = 0

    def add(self, place: str, problem: str) -> None:
        """Adds one.

        Args:
            place: "file:line".
            problem: what was found there: "found the tag 'X'".
        """
        self._number += 1
        if len(self._found) < MOST_PROBLEMS:
            self._found.append(f"{place}: {problem}")

    def refuse(self) -> None:
        """Raises UserError if there was any; the message has the first 20, a line each."""
        if not self._number:
            return
        if self._number == 1:
            raise UserError(f"{self._found[0]}; {self._expected}")
        more = self._number - len(self._found)
        lines = [*self._found, *([f"... and {more} more"] if more else [])]
        file = self._found[0].partition(": ")[0].rpartition(":")[0]
        raise UserError("\n".join([f"{file}: {self._number} places cannot be read; {self._expected}", *lines]))
