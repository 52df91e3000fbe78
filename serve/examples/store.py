"""The store of examples: labelled sentences that are added while the service runs, in a database all replicas read.

SQLite serves one machine, PostgreSQL several. One counter gives the examples their numbers and the store its versions.
Raising the counter locks it until the transaction ends, so numbers and versions become visible in their order, which a
database's own sequences do not promise; and none is used twice. An example's row has the version that changed it last:
its own number until it is corrected; once it is deleted and its content is gone, the version of the deletion.

People label examples, and so do taggers. Of the same sentence the labels by people are kept, whichever came first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, select, update

from metacross.corpora.languages import PATTERN
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError
from serve.annotations import refuse_unstorable
from serve.examples.changes import examples_by_key, put_by_people, write_corrected
from serve.examples.database import Database
from serve.examples.filters import ExampleFilter
from serve.examples.requests import RequestKey, recalled, write_down
from serve.examples.stored import (
    Addition,
    Changes,
    StoredExample,
    example_of,
    keys_of,
    without_zone,
)
from serve.examples.tables import COUNTER, DELETED, EXAMPLES, STORED, bounded
from serve.examples.texts import TextStore


@dataclass(frozen=True)
class Said:
    """What people say of a sentence.

    Attributes:
        sentence: with IOB2 tags.
        language: code such as pt, "" where none is given.
    """

    sentence: Sentence
    language: str


class SentenceTaken(UserError):
    """An example cannot get a sentence, because another one has it.

    Attributes:
        id: of the other one.
    """

    def __init__(self, id: int) -> None:
        super().__init__(f"Example {id} has this sentence. Correct that one, or delete it first.")
        self.id = id


class ExampleStore:
    """The examples in a database, whose tables are made where they are missing. Any number of threads may use it.

    Once it is open, all methods raise RunError where the database does not answer. If it was lost in the last moment of
    a change, the change may have been made.

    Args:
        url: see `Database`.

    Attributes:
        name: the database as it may be shown, without a password.
        texts: those that nobody labelled.

    Raises:
        UserError: the address makes no sense, a driver is missing, or the database cannot be opened or is no store.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.name = self._database.name
        self.texts = TextStore(self._database)

    def close(self) -> None:
        """Lets go of the database; the store is not used afterwards."""
        self._database.close()

    # --- changes -----------------------------------------------------------------------------------------------------

    def add(
        self, sentences: Sequence[Sentence], languages: Sequence[str], *, request: RequestKey | None = None
    ) -> list[Addition]:
        """Stores what people say of sentences: of all or of none. When this returns it is on disk, and readers see it.

        A sentence that is there keeps its number, and gets these labels.

        Args:
            sentences: with IOB2 tags by people, see `serve.annotations`.
            languages: for each sentence a code such as pt, or "".
            request: by which the same request is known when it comes again; it then changes nothing.

        Raises:
            UserError: a language that is no code, or a text that databases cannot hold.
            KeyUsed: the request's key is that of another one.
        """
        for number, (sentence, language) in enumerate(zip(sentences, languages, strict=True), 1):
            refuse_unstorable(f"example {number}", sentence.text)
            if language and not re.fullmatch(PATTERN, language):
                raise UserError(
                    f"example {number}: language {language!r} is no code; expected one such as pt, or none."
                )
        if not sentences:
            return []
        with self._database.changing(len(sentences)) as (connection, version):
            done = recalled(connection, request)
            if done is not None:
                return _additions_again(done, sentences)
            additions = put_by_people(connection, version, sentences, languages)
            write_down(connection, request, [_noted(addition) for addition in additions])
            if request is not None or any(addition.outcome != "unchanged" for addition in additions):
                connection.commit()
        return additions

    def correct(self, id: int, change: Callable[[StoredExample], Said]) -> StoredExample | None:
        """Changes what an example says, which are then labels by people; its number stays.

        Args:
            id: its number.
            change: what it is to say in place of what it says; called while nobody else can change it.

        Returns:
            The example as it is now; None where there is none of this number.

        Raises:
            SentenceTaken: another example has the sentence.
            UserError: what `change` raises; nothing was changed.
        """
        with self._database.changing(1) as (connection, version):
            row = connection.execute(select(EXAMPLES).where(EXAMPLES.c.id == bounded(id), STORED)).one_or_none()
            if row is None:
                return None
            old = example_of(row)
            said = change(old)
            others = examples_by_key(connection, keys_of([said.sentence])).values()
            for other in others:
                if other.id != old.id:
                    raise SentenceTaken(other.id)
            new = old.corrected(said.sentence, said.language)
            if replace(new, changed=old.changed) == old:
                return old
            write_corrected(connection, [new], version)
            connection.commit()
        return new

    def delete(self, id: int) -> bool:
        """Deletes an example and what it held; returns whether it was there."""
        return bool(self.delete_ids([id]))

    def delete_ids(self, ids: Sequence[int]) -> set[int]:
        """Deletes examples and what they held; returns the numbers of those that were there."""
        return self._delete(EXAMPLES.c.id.in_([bounded(id) for id in ids]) & STORED)

    def delete_matching(self, wanted: ExampleFilter) -> int:
        """Deletes all examples that match, and what they held; returns how many there were."""
        return len(self._delete(wanted.condition()))

    def add_uses(self, counts: Mapping[int, int], last: datetime) -> None:
        """Writes down how often examples shaped answers since this was done last.

        Args:
            counts: of each example by number; those that are deleted are passed over.
            last: when the last of these answers was given, UTC.
        """
        rows = [{"row": bounded(id), "more": count, "last": without_zone(last)} for id, count in counts.items()]
        more = func.coalesce(EXAMPLES.c.uses, 0) + bindparam("more")
        statement = update(EXAMPLES).where(EXAMPLES.c.id == bindparam("row"), STORED)
        with self._database.changing(0) as (connection, _):  # 0: taggers need not hear of it
            connection.execute(statement.values(uses=more, last_used=bindparam("last")), rows)
            connection.commit()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, id: int) -> StoredExample | None:
        """The example of this number, None where there is none."""
        rows = self._database.rows(select(EXAMPLES).where(EXAMPLES.c.id == bounded(id), STORED))
        return example_of(rows[0]) if rows else None

    def page(
        self,
        after: int | None = None,
        limit: int = 100,
        *,
        wanted: ExampleFilter = ExampleFilter(),  # noqa: B008  # it cannot be changed
        newest: bool = False,
    ) -> list[StoredExample]:
        """The first `limit` examples that match, in the order of their numbers, after the one of number `after`.

        Oldest first, no example appears later among those of a page: new ones have higher numbers.

        Args:
            after: number of the last example of the page before; None for the first page.
            limit: how many, at most.
            wanted: which.
            newest: the newest first.
        """
        condition = wanted.condition()
        if after is not None:
            at = bounded(after)
            condition &= EXAMPLES.c.id < at if newest else EXAMPLES.c.id > at
        order = EXAMPLES.c.id.desc() if newest else EXAMPLES.c.id
        rows = self._database.rows(select(EXAMPLES).where(condition).order_by(order).limit(limit))
        return [example_of(row) for row in rows]

    def total(self, wanted: ExampleFilter) -> int:
        """How many examples match."""
        return self._count(wanted.condition())

    def count(self, *, labelled: bool = False) -> int:
        """How many examples there are that people labelled, or those that taggers labelled."""
        return self.total(ExampleFilter(by="machine" if labelled else "people"))

    def version(self) -> int:
        """The version of the last change, 0 before the first; cheap enough to be asked before every batch."""
        return int(self._database.rows(select(COUNTER.c.version))[0][0])

    def changes(self, since: int) -> Changes:
        """What happened after version `since`; 0 asks for everything.

        Raises:
            RunError: the store has not reached that version, so another store has taken its place.
        """
        # One statement, so that version and rows are of the same moment.
        changed = COUNTER.outerjoin(EXAMPLES, EXAMPLES.c.version > bounded(since))
        statement = select(COUNTER.c.version.label("now"), EXAMPLES).select_from(changed).order_by(EXAMPLES.c.id)
        rows = self._database.rows(statement)
        now = rows[0].now
        if since > now:
            raise RunError(f"{self.name}: is at version {now}, but was at {since}; an older copy? Restart the service.")
        rows = [row for row in rows if row.id is not None]
        return Changes(now, [example_of(row) for row in rows if row.text], [row.id for row in rows if row.id <= since])

    def _delete(self, condition: ColumnElement[bool]) -> set[int]:
        with self._database.changing(1) as (connection, version):
            gone = update(EXAMPLES).where(condition).values(version=version, **DELETED).returning(EXAMPLES.c.id)
            ids = set(connection.execute(gone).scalars())
            if ids:
                connection.commit()
        return ids

    def _count(self, condition: ColumnElement[bool]) -> int:
        return int(self._database.rows(select(func.count()).select_from(EXAMPLES).where(condition))[0][0])


def _noted(addition: Addition) -> list[Any]:
    """What is written down of an addition; the request has its text and labels."""
    example = addition.example
    changed = example.changed and example.changed.isoformat()
    return [example.id, addition.outcome, example.language, example.created.isoformat(), changed]


def _additions_again(noted: Sequence[Sequence[Any]], sentences: Sequence[Sentence]) -> list[Addition]:
    """The additions that were written down, with the sentences that the request has brought again."""
    again = []
    for (id, outcome, language, created, changed), sentence in zip(noted, sentences, strict=True):
        placed = replace(sentence, place=f"example {id}")
        example = StoredExample(id, placed, language, datetime.fromisoformat(created))
        again.append(Addition(replace(example, changed=changed and datetime.fromisoformat(changed)), outcome))
    return again
