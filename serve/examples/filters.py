"""Which examples are meant: by language, label, text, time, who labelled them, and the text that they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import ColumnElement, Text, and_, cast, func, or_

from metacross.corpora.types import spellings
from serve.examples.stored import without_zone
from serve.examples.tables import EXAMPLES, STORED, folded

By = Literal["people", "machine"]
UNDETERMINED = "und"  # BCP 47's code for a language that nobody has told


@dataclass(frozen=True)
class ExampleFilter:
    """Conditions that all have to be met; None means that anything does.

    Attributes:
        language: its code, or that of a language of which it is a variety: pt also finds pt-BR; und, those without.
        label: of one of its entities, in whatever case, or another spelling of it: person also finds PER.
        text: is in its text, in whatever case.
        by: who labelled it.
        added_since: when it was added, at the earliest; UTC where no zone is given.
        added_before: when it was added, at the latest just before this.
        from_text: number of the text that it comes from.
    """

    language: str | None = None
    label: str | None = None
    text: str | None = None
    by: By | None = None
    added_since: datetime | None = None
    added_before: datetime | None = None
    from_text: int | None = None

    def condition(self) -> ColumnElement[bool]:
        """The same in SQL, for examples that are stored."""
        return and_(STORED, *self._conditions())

    def _conditions(self) -> Iterator[ColumnElement[bool]]:
        if self.language is not None:
            yield language_is(EXAMPLES.c.language, self.language)
        if self.label is not None:
            # A list of tags is stored as JSON, whose text this is; an entity begins with B-. What the tags are that a
            # tagger knows is not asked, so that examples of another bundle are found, and while no tagger answers.
            tags = func.lower(cast(EXAMPLES.c.tags, Text))
            begins = [json.dumps(f"B-{label}").lower() for label in sorted(spellings(self.label))]
            yield or_(*(tags.contains(begin, autoescape=True) for begin in begins))
        if self.text is not None:
            yield EXAMPLES.c.folded.contains(folded(self.text), autoescape=True)
        if self.by is not None:
            labelled_by = EXAMPLES.c.labelled_by
            yield labelled_by.is_(None) if self.by == "people" else labelled_by.is_not(None)
        if self.added_since is not None:
            yield EXAMPLES.c.created >= _in_utc(self.added_since)
        if self.added_before is not None:
            yield EXAMPLES.c.created < _in_utc(self.added_before)
        if self.from_text is not None:
            yield EXAMPLES.c.text_id == self.from_text


def language_is(column: ColumnElement[str], language: str) -> ColumnElement[bool]:
    """That a column has a language or a variety of it, in whatever case (RFC 4647, 3.3.1)."""
    if language.lower() == UNDETERMINED:
        return column == ""
    lower = func.lower(column)
    return (lower == language.lower()) | lower.startswith(f"{language.lower()}-", autoescape=True)


def _in_utc(time: datetime) -> datetime | None:
    return without_zone((time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC))
