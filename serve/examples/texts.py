"""Texts that nobody labelled, from when they are queued until a tagger has labelled them; then their content goes.

A replica that labels a text takes it for some minutes. If it dies, another one takes the text afterwards. What two of
them label is stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, true, update

from metacross.client.contract import AddedTexts, LeftOut
from metacross.corpora.sentence import Sentence
from serve.examples.changes import put_by_machine
from serve.examples.database import Database
from serve.examples.filters import language_is
from serve.examples.requests import RequestKey, recalled, write_down
from serve.examples.stored import shown_time, with_zone, without_zone
from serve.examples.tables import DELETED, EXAMPLES, STORED, TEXTS, bounded

MOST_QUEUED = 100  # texts that wait at a time

State = Literal["queued", "labelled", "failed"]


@dataclass(frozen=True)
class StoredText:
    """What one request brought that nobody had labelled.

    Attributes:
        id: its number; later texts have higher ones.
        state: whether it waits to be labelled, or is, or cannot be.
        language: code of all of it.
        created: when it came, UTC.
        found: how many sentences it has.
        sentences: the different ones, while they are not labelled.
        labelled: when they were, UTC.
        labelled_by: digest of the bundle.
        left_out: how many sentences were not stored, by reason.
        examples: numbers of those that were.
        replaced: how many examples with labels by other bundles made way.
        reason: why it cannot be labelled.
    """

    id: int
    state: State
    language: str
    created: datetime
    found: int
    sentences: tuple[str, ...] = ()
    labelled: datetime | None = None
    labelled_by: str | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    examples: tuple[int, ...] = ()
    replaced: int = 0
    reason: str | None = None

    def as_answer(self) -> AddedTexts:
        """The text as the service answers it; times are in full seconds."""
        return AddedTexts(
            id=self.id,
            state=self.state,
            language=self.language,
            created=shown_time(self.created),
            found=self.found,
            kept=len(self.examples),
            left_out=self.left_out,
            examples=self.examples,
            replaced=self.replaced,
            labelled_by=self.labelled_by or "",
            labelled=None if self.labelled is None else shown_time(self.labelled),
            reason=self.reason,
        )


class QueueFull(Exception):
    """So many texts wait that no other one is taken."""


class TextStore:
    """The texts in a database. All methods raise RunError where it does not answer.

    Args:
        database: of the store of examples.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(
        self,
        sentences: Sequence[str],
        *,
        found: int,
        language: str,
        seconds: float,
        request: RequestKey | None = None,
    ) -> tuple[int, bool]:
        """Stores a text that is to be labelled.

        Args:
            sentences: the different ones.
            found: how many there were.
            language: code of all of them.
            seconds: for so long nobody else takes it, because the caller labels it.
            request: by which the same request is known when it comes again.

        Returns:
            The text's number, and whether it is new.

        Raises:
            KeyUsed: the request's key is that of another one.
            QueueFull: too many wait.
        """
        with self._database.changing(1) as (connection, version):
            done = recalled(connection, request)
            if done is not None:
                return int(done), False
            waiting = select(func.count()).select_from(TEXTS).where(TEXTS.c.state == "queued")
            if connection.execute(waiting).scalar_one() >= MOST_QUEUED:
                raise QueueFull
            now = datetime.now(UTC)
            values = {
                **{"id": version, "language": language, "state": "queued", "found": found},
                **{"sentences": list(sentences), "created": without_zone(now), "taken_until": _in(seconds)},
            }
            connection.execute(insert(TEXTS).values(**values))
            write_down(connection, request, version)
            connection.commit()
        return version, True

    def take(self, seconds: float) -> StoredText | None:
        """The oldest text that waits and that nobody labels, for the caller to label within so many seconds."""
        waits = (TEXTS.c.state == "queued") & (TEXTS.c.taken_until <= without_zone(datetime.now(UTC)))
        if not self._count(waits):  # asked often, and without locking anything
            return None
        with self._database.changing(0) as (connection, _):
            row = connection.execute(select(TEXTS).where(waits).order_by(TEXTS.c.id).limit(1)).one_or_none()
            if row is not None:
                connection.execute(update(TEXTS).where(TEXTS.c.id == row.id).values(taken_until=_in(seconds)))
                connection.commit()
        return None if row is None else _text_of(row)

    def give_back(self, id: int) -> None:
        """Lets others take a text that waits."""
        with self._database.changing(0) as (connection, _):
            connection.execute(update(TEXTS).where(TEXTS.c.id == bounded(id)).values(taken_until=_in(0)))
            connection.commit()

    def finish(self, id: int, sentences: Sequence[Sentence], *, bundle: str) -> StoredText | None:
        """Stores the labels of a text, its sentences as examples, and drops its content, all at once.

        Args:
            id: of the text.
            sentences: those whose labels may shape answers, with `machine`.
            bundle: digest of the bundle that labelled them.

        Returns:
            The text; None where it was deleted meanwhile. Where somebody else has labelled it, it stays as it is.
        """
        with self._database.changing(len(sentences)) as (connection, version):
            text = _text(connection, id)
            if text is None or text.state != "queued":
                return text
            added = put_by_machine(connection, version, sentences, bundle=bundle, text_id=id)
            different, certain = len(text.sentences), len(sentences)
            left_out = [text.found - different, different - certain, added.by_people, added.stored]
            examples = [example.id for example in added.examples]
            outcome = {"left_out": left_out, "examples": examples, "replaced": added.replaced}
            now = without_zone(datetime.now(UTC))
            values: dict[str, Any] = {
                "state": "labelled",
                "sentences": [],
                "labelled": now,
                "labelled_by": bundle,
                "outcome": outcome,
            }
            connection.execute(update(TEXTS).where(TEXTS.c.id == id).values(**values))
            connection.commit()
            return _text(connection, id)

    def fail(self, id: int, reason: str) -> None:
        """Says why a text that waits cannot be labelled, and drops its content."""
        waits = (TEXTS.c.id == id) & (TEXTS.c.state == "queued")
        with self._database.changing(0) as (connection, _):
            connection.execute(update(TEXTS).where(waits).values(state="failed", sentences=[], reason=reason))
            connection.commit()

    def delete(self, id: int, *, examples: bool) -> bool:
        """Deletes a text, and with `examples` those that come from it, but for those that people corrected.

        Returns:
            Whether it was there.
        """
        with self._database.changing(1) as (connection, version):
            gone = connection.execute(delete(TEXTS).where(TEXTS.c.id == bounded(id))).rowcount == 1
            if gone and examples:
                own = (EXAMPLES.c.text_id == id) & STORED
                connection.execute(update(EXAMPLES).where(own).values(version=version, **DELETED))
            if gone:
                connection.commit()
        return gone

    def get(self, id: int) -> StoredText | None:
        """The text of this number, None where there is none."""
        rows = self._database.rows(select(TEXTS).where(TEXTS.c.id == bounded(id)))
        return _text_of(rows[0]) if rows else None

    def page(
        self,
        after: int | None,
        limit: int,
        *,
        state: State | None = None,
        language: str | None = None,
        newest: bool = False,
    ) -> tuple[list[StoredText], int]:
        """The first `limit` texts of a state and language, after the one of number `after`; and how many there are."""
        wanted = and_(
            true() if state is None else TEXTS.c.state == state,
            true() if language is None else language_is(TEXTS.c.language, language),
        )
        further = wanted
        if after is not None:
            further &= TEXTS.c.id < bounded(after) if newest else TEXTS.c.id > bounded(after)
        order = TEXTS.c.id.desc() if newest else TEXTS.c.id
        rows = self._database.rows(select(TEXTS).where(further).order_by(order).limit(limit))
        return [_text_of(row) for row in rows], self._count(wanted)

    def _count(self, condition: ColumnElement[bool]) -> int:
        return int(self._database.rows(select(func.count()).select_from(TEXTS).where(condition))[0][0])


def _in(seconds: float) -> datetime | None:
    return without_zone(datetime.now(UTC) + timedelta(seconds=seconds))


def _text(connection: Connection, id: int) -> StoredText | None:
    row = connection.execute(select(TEXTS).where(TEXTS.c.id == id)).one_or_none()
    return None if row is None else _text_of(row)


def _text_of(row: Row[Any]) -> StoredText:
    outcome: dict[str, Any] = row.outcome or {}
    return StoredText(
        id=row.id,
        state=row.state,
        language=row.language,
        created=row.created.replace(tzinfo=UTC),
        found=row.found,
        sentences=tuple(row.sentences),
        labelled=with_zone(row.labelled),
        labelled_by=row.labelled_by,
        left_out=LeftOut(*outcome.get("left_out", ())),
        examples=tuple(outcome.get("examples", ())),
        replaced=outcome.get("replaced", 0),
        reason=row.reason,
    )
