"""Labelled example sentences that are added while the service runs, in a database that all replicas read.

SQLite serves one machine, PostgreSQL several. One counter gives the examples their numbers and the store its versions.
Raising the counter locks it until the transaction ends, so numbers and versions become visible in their order, which a
database's own sequences do not promise; and none is used twice. An example's row has the version that changed it last:
its own number while it is stored; once it is deleted and its content is gone, the version of the deletion.

People label examples, and so do taggers. Of the same sentence the labels by people are kept, whichever came first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from metacross.client.contract import Entity, Example, Stretch
from metacross.corpora.sentence import MachineLabels, Sentence, entities
from metacross.errors import RunError, UserError, first_line
from serve.annotations import refuse_unstorable
from serve.example_tables import (
    COUNTER,
    DELETED,
    EXAMPLES,
    STORED,
    create_tables,
    engine_of,
    key_of,
    parsed_address,
    prepare_sqlite,
    refuse_settings,
    shown,
)

_LANGUAGE = re.compile(r"(?:[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*)?")


@dataclass(frozen=True)
class StoredExample:
    """A labelled sentence of the store.

    Attributes:
        id: its number; later examples have higher ones.
        sentence: with IOB2 tags, and with `machine` where a tagger gave them; its place is "example ID".
        language: code such as pt, "" where none was given.
        created: when it was added, UTC.
        labelled_by: digest of the bundle that labelled it; None where people did.
    """

    id: int
    sentence: Sentence
    language: str
    created: datetime
    labelled_by: str | None = None

    def as_answer(self) -> Example:
        """The example as the service answers it; the time is in full seconds."""
        text, spans, machine = self.sentence.text, self.sentence.spans, self.sentence.machine
        labelled = []
        for entity in entities(self.sentence.tags or ()):
            start, end = spans[entity.start][0], spans[entity.end - 1][1]
            labelled.append(Entity(start, end, text[start:end], entity.type))
        return Example(
            id=self.id,
            text=text,
            entities=tuple(labelled),
            language=self.language,
            created=self.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            confidence=machine.confidence if machine else None,
            uncertain=tuple(Stretch(*spans[word]) for word in machine.uncertain) if machine else None,
            labelled_by=self.labelled_by,
        )


@dataclass(frozen=True)
class AddedLabels:
    """What became of sentences that a tagger labelled.

    Attributes:
        examples: those that were added, in their order.
        by_people: how many others were stored with labels by people.
        stored: how many others were stored with labels by the same bundle.
        replaced: how many examples with labels by other bundles were deleted, as the new ones took their place.
    """

    examples: list[StoredExample]
    by_people: int
    stored: int
    replaced: int


@dataclass(frozen=True)
class Changes:
    """What happened to the store since a version.

    Attributes:
        version: the store's version after these changes.
        added: examples that are new, by ascending id.
        deleted: ids of examples that were there at the version asked about, ascending.
    """

    version: int
    added: list[StoredExample]
    deleted: list[int]


class ExampleStore:
    """The examples in a database, whose tables are made where they are missing. Any number of threads may use it.

    Once it is open, all methods raise RunError where the database does not answer.

    Args:
        url: sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or the path of an SQLite file, which must
            lie on a disk of this machine.

    Attributes:
        name: the database as it may be shown, without a password.

    Raises:
        UserError: the address makes no sense, a driver is missing, or the database cannot be opened or is no store.
    """

    def __init__(self, url: str) -> None:
        parsed = parsed_address(url)
        self.name = shown(url)
        self._secrets = [str(parsed.password or ""), *(str(v) for k, v in parsed.query.items() if "password" in k)]
        self._engine = engine_of(parsed)
        self._lite = parsed.get_backend_name() == "sqlite"
        # Every read is one statement, so it needs no transaction to see one state; SQLite's begin with a change anyway.
        self._reads = self._engine if self._lite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._engine.connect() as connection:
                (prepare_sqlite if self._lite else refuse_settings)(connection, self.name)
                create_tables(connection)
        except SQLAlchemyError as error:
            raise UserError(f"{self.name}: cannot be opened as a store of examples ({self._reason(error)}).") from None

    def close(self) -> None:
        """Lets go of the database; the store is not used afterwards."""
        self._engine.dispose()

    def add(self, sentences: Sequence[Sentence], languages: Sequence[str]) -> list[StoredExample]:
        """Adds all of the examples or none. When this returns they are on disk, and every reader sees them.

        Machine-labelled examples of the same sentences are deleted.

        Args:
            sentences: with IOB2 tags by people, see `serve.annotations`.
            languages: for each sentence a code such as pt, or "".

        Raises:
            UserError: a language that is no code, or a text that databases cannot hold.
            RunError: the database did not answer. If it was lost in the last moment, the examples may have been added.
        """
        for number, (sentence, language) in enumerate(zip(sentences, languages, strict=True), 1):
            refuse_unstorable(f"example {number}", sentence.text)
            if not _LANGUAGE.fullmatch(language):
                raise UserError(
                    f"example {number}: language {language!r} is no code; expected one such as pt, or none."
                )
        if not sentences:
            return []
        with self._changing(len(sentences)) as (connection, version):
            first = version - len(sentences) + 1
            added = _numbered(first, sentences, languages, None)
            _delete_labels(connection, [key_of(sentence.words) for sentence in sentences], version)
            connection.execute(insert(EXAMPLES), [_values(example) for example in added])
            connection.commit()
        return added

    def add_labelled(self, sentences: Sequence[Sentence], *, bundle: str) -> AddedLabels:
        """Adds sentences that a tagger labelled, but for those that are stored with better or the same labels.

        Labels by another bundle make way. What is added is on disk when this returns, and every reader sees it.

        Args:
            sentences: with `machine`; all different, see `key_of`.
            bundle: digest of the bundle that labelled them.

        Raises:
            RunError: the database did not answer. If it was lost in the last moment, the examples may have been added.
        """
        keys = [key_of(sentence.words) for sentence in sentences]
        with self._changing(len(sentences)) as (connection, version):
            same = select(EXAMPLES.c.sentence_key, EXAMPLES.c.labelled_by).where(EXAMPLES.c.sentence_key.in_(keys))
            labelled_by = {(row.sentence_key, row.labelled_by) for row in connection.execute(same.where(STORED))}
            by_people = {key for key, who in labelled_by if who is None}
            stored = {key for key, who in labelled_by if who == bundle} - by_people
            new = {k: s for k, s in zip(keys, sentences, strict=True) if k not in by_people | stored}
            languages = [s.machine.language if s.machine else "" for s in new.values()]
            added = _numbered(version - len(sentences) + 1, list(new.values()), languages, bundle)
            replaced = 0
            if added:
                replaced = _delete_labels(connection, list(new), version)
                connection.execute(insert(EXAMPLES), [_values(example) for example in added])
                connection.commit()
        return AddedLabels(added, len(by_people), len(stored), replaced)

    def delete(self, id: int) -> bool:
        """Deletes an example and what it held; returns whether it was there."""
        with self._changing(1) as (connection, version):
            here = (EXAMPLES.c.id == _bounded(id)) & STORED
            done = connection.execute(update(EXAMPLES).where(here).values(version=version, **DELETED)).rowcount == 1
            if done:
                connection.commit()
        return done

    def get(self, id: int) -> StoredExample | None:
        """The example of this number, None where there is none."""
        rows = self._rows(select(EXAMPLES).where(EXAMPLES.c.id == _bounded(id), STORED))
        return _example(rows[0]) if rows else None

    def page(self, after: int = 0, limit: int = 100) -> list[StoredExample]:
        """The first `limit` examples with numbers above `after`, ascending.

        No example appears later among those of a page: new ones have higher numbers.
        """
        statement = select(EXAMPLES).where(EXAMPLES.c.id > _bounded(after), STORED)
        return [_example(row) for row in self._rows(statement.order_by(EXAMPLES.c.id).limit(limit))]

    def count(self, *, labelled: bool = False) -> int:
        """How many examples there are that people labelled, or those that taggers labelled."""
        of_kind = EXAMPLES.c.labelled_by.is_not(None) if labelled else EXAMPLES.c.labelled_by.is_(None)
        return int(self._rows(select(func.count()).select_from(EXAMPLES).where(STORED, of_kind))[0][0])

    def version(self) -> int:
        """The version of the last change, 0 before the first; cheap enough to be asked before every batch."""
        return int(self._rows(select(COUNTER.c.version))[0][0])

    def changes(self, since: int) -> Changes:
        """What happened after version `since`; 0 asks for everything.

        Raises:
            RunError: the store has not reached that version, so another store has taken its place.
        """
        # One statement, so that version and rows are of the same moment.
        changed = COUNTER.outerjoin(EXAMPLES, EXAMPLES.c.version > _bounded(since))
        statement = select(COUNTER.c.version.label("now"), EXAMPLES).select_from(changed).order_by(EXAMPLES.c.id)
        rows = self._rows(statement)
        now = rows[0].now
        if since > now:
            raise RunError(f"{self.name}: is at version {now}, but was at {since}; an older copy? Restart the service.")
        rows = [row for row in rows if row.id is not None]
        added = [_example(row) for row in rows if row.version == row.id]
        return Changes(now, added, [row.id for row in rows if row.id <= since])

    @contextmanager
    def _changing(self, by: int) -> Iterator[tuple[Connection, int]]:
        """A transaction with the counter raised by `by` and locked, and the new version; undone unless it commits."""
        with self._answering(), self._engine.connect() as connection:
            if self._lite:
                # A commit in WAL mode is then on disk when it returns. SQLite's default depends on how it was built.
                connection.exec_driver_sql("PRAGMA synchronous = FULL")
            raised = update(COUNTER).values(version=COUNTER.c.version + by).returning(COUNTER.c.version)
            yield connection, connection.execute(raised).scalar_one()

    def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with self._answering(), self._reads.connect() as connection:
            return connection.execute(statement).all()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turns the database's errors into RunErrors."""
        try:
            yield
        except SQLAlchemyError as error:
            raise RunError(f"{self.name}: the examples cannot be reached ({self._reason(error)}). Try again.") from None

    def _reason(self, error: SQLAlchemyError) -> str:
        """The first line of what the driver says, without passwords. SQLAlchemy's own message holds statements."""
        line = first_line(getattr(error, "orig", None) or error)
        for secret in filter(None, self._secrets):
            line = line.replace(secret, "***")
        return line


def _bounded(number: int) -> int:
    """A number that databases can hold. No example has a number beyond these bounds."""
    return max(-1, min(number, 2**63 - 1))


# --- rows ------------------------------------------------------------------------------------------------------------


def _numbered(
    first: int, sentences: Sequence[Sentence], languages: Sequence[str], bundle: str | None
) -> list[StoredExample]:
    created = datetime.now(UTC)
    return [
        StoredExample(id, replace(sentence, place=f"example {id}"), language, created, bundle)
        for id, (sentence, language) in enumerate(zip(sentences, languages, strict=True), first)
    ]


def _delete_labels(connection: Connection, keys: Sequence[str], version: int) -> int:
    """Deletes the machine-labelled examples with these keys; returns how many there were."""
    labelled = EXAMPLES.c.sentence_key.in_(keys) & EXAMPLES.c.labelled_by.is_not(None) & STORED
    return connection.execute(update(EXAMPLES).where(labelled).values(version=version, **DELETED)).rowcount


def _values(example: StoredExample) -> dict[str, Any]:
    sentence = example.sentence
    if sentence.tags is None:
        raise ValueError(f"{sentence.place} has no tags")
    return {
        "id": example.id,
        "version": example.id,
        "language": example.language,
        "created": example.created.replace(tzinfo=None),
        "text": sentence.text,
        "spans": sentence.spans,
        "tags": sentence.tags,
        "presplit": sentence.presplit,
        "confidence": sentence.machine.confidence if sentence.machine else None,
        "uncertain": sentence.machine.uncertain if sentence.machine else None,
        "labelled_by": example.labelled_by,
        "sentence_key": key_of(sentence.words),
    }


def _example(row: Row[Any]) -> StoredExample:
    spans = tuple((start, end) for start, end in row.spans)
    words = tuple(row.text[start:end] for start, end in spans)
    machine = None
    if row.labelled_by is not None:
        machine = MachineLabels(row.language, row.confidence, tuple(row.uncertain))
    sentence = Sentence(row.text, words, spans, tuple(row.tags), row.presplit, f"example {row.id}", machine)
    return StoredExample(row.id, sentence, row.language, row.created.replace(tzinfo=UTC), row.labelled_by)
