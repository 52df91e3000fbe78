"""Labelled example sentences that are added while the service runs, in a database that all replicas read.

SQLite serves one machine, PostgreSQL several. One counter gives the examples their numbers and the store its versions.
Raising the counter locks it until the transaction ends, so numbers and versions become visible in their order, which a
database's own sequences do not promise; and none is used twice. An example's row has the version that changed it last:
its own number while it is stored; once it is deleted and its content is gone, the version of the deletion.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    create_engine,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from metacross.client.contract import Entity, Example
from metacross.corpora.sentence import Sentence, entities
from metacross.errors import RunError, UserError, first_line
from serve.annotations import refuse_unstorable

WAIT_SECONDS = 30  # how long a writer waits for others, each of which needs milliseconds

_SCHEMA = MetaData()
_COUNTER = Table("metacross_counter", _SCHEMA, Column("version", BigInteger, nullable=False))
_EXAMPLES = Table(
    "metacross_examples",
    _SCHEMA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False, index=True),
    Column("language", String, nullable=False),
    Column("created", DateTime, nullable=False),  # UTC
    Column("text", Text, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("presplit", Boolean, nullable=False),
)
_STORED = _EXAMPLES.c.version == _EXAMPLES.c.id
_DELETED = {"language": "", "text": "", "spans": [], "tags": []}
_CREATION_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7236115412)"}
_LANGUAGE = re.compile(r"(?:[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*)?")


@dataclass(frozen=True)
class StoredExample:
    """A labelled sentence of the store.

    Attributes:
        id: its number; later examples have higher ones.
        sentence: with IOB2 tags; its place is "example ID".
        language: code such as pt, "" where none was given.
        created: when it was added, UTC.
    """

    id: int
    sentence: Sentence
    language: str
    created: datetime

    def as_answer(self) -> Example:
        """The example as the service answers it; the time is in full seconds."""
        text, spans = self.sentence.text, self.sentence.spans
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
        )


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
        parsed = _parsed(url)
        self.name = parsed.set(query={}).render_as_string(hide_password=True)
        self._secrets = [str(parsed.password or ""), *(str(v) for k, v in parsed.query.items() if "password" in k)]
        self._engine = _engine(parsed)
        self._lite = parsed.get_backend_name() == "sqlite"
        # Every read is one statement, so it needs no transaction to see one state; SQLite's begin with a change anyway.
        self._reads = self._engine if self._lite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._engine.connect() as connection:
                (_prepare_sqlite if self._lite else _refuse_settings)(connection, self.name)
                _create(connection)
        except SQLAlchemyError as error:
            raise UserError(f"{self.name}: cannot be opened as a store of examples ({self._reason(error)}).") from None

    def close(self) -> None:
        """Lets go of the database; the store is not used afterwards."""
        self._engine.dispose()

    def add(self, sentences: Sequence[Sentence], languages: Sequence[str]) -> list[StoredExample]:
        """Adds all of the examples or none. When this returns they are on disk, and every reader sees them.

        Args:
            sentences: with IOB2 tags, see `serve.annotations`.
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
            created = datetime.now(UTC)
            added = [
                StoredExample(id, replace(sentence, place=f"example {id}"), language, created)
                for id, (sentence, language) in enumerate(zip(sentences, languages, strict=True), first)
            ]
            connection.execute(insert(_EXAMPLES), [_values(example) for example in added])
            connection.commit()
        return added

    def delete(self, id: int) -> bool:
        """Deletes an example and what it held; returns whether it was there."""
        with self._changing(1) as (connection, version):
            here = (_EXAMPLES.c.id == _bounded(id)) & _STORED
            done = connection.execute(update(_EXAMPLES).where(here).values(version=version, **_DELETED)).rowcount == 1
            if done:
                connection.commit()
        return done

    def get(self, id: int) -> StoredExample | None:
        """The example of this number, None where there is none."""
        rows = self._rows(select(_EXAMPLES).where(_EXAMPLES.c.id == _bounded(id), _STORED))
        return _example(rows[0]) if rows else None

    def page(self, after: int = 0, limit: int = 100) -> list[StoredExample]:
        """The first `limit` examples with numbers above `after`, ascending.

        No example appears later among those of a page: new ones have higher numbers.
        """
        statement = select(_EXAMPLES).where(_EXAMPLES.c.id > _bounded(after), _STORED)
        return [_example(row) for row in self._rows(statement.order_by(_EXAMPLES.c.id).limit(limit))]

    def count(self) -> int:
        """How many examples there are."""
        return int(self._rows(select(func.count()).select_from(_EXAMPLES).where(_STORED))[0][0])

    def version(self) -> int:
        """The version of the last change, 0 before the first; cheap enough to be asked before every batch."""
        return int(self._rows(select(_COUNTER.c.version))[0][0])

    def changes(self, since: int) -> Changes:
        """What happened after version `since`; 0 asks for everything.

        Raises:
            RunError: the store has not reached that version, so another store has taken its place.
        """
        # One statement, so that version and rows are of the same moment.
        changed = _COUNTER.outerjoin(_EXAMPLES, _EXAMPLES.c.version > _bounded(since))
        statement = select(_COUNTER.c.version.label("now"), _EXAMPLES).select_from(changed).order_by(_EXAMPLES.c.id)
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
            raised = update(_COUNTER).values(version=_COUNTER.c.version + by).returning(_COUNTER.c.version)
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
    }


def _example(row: Row[Any]) -> StoredExample:
    spans = tuple((start, end) for start, end in row.spans)
    words = tuple(row.text[start:end] for start, end in spans)
    sentence = Sentence(row.text, words, spans, tuple(row.tags), row.presplit, f"example {row.id}")
    return StoredExample(row.id, sentence, row.language, row.created.replace(tzinfo=UTC))


# --- opening ---------------------------------------------------------------------------------------------------------


def _parsed(url: str) -> URL:
    """The address of a database, with its driver.

    Raises:
        UserError: the address cannot be read, or is of another kind of database. The message shows nothing that could
            be part of a password.
    """
    if "://" not in url:
        return URL.create("sqlite", database=url)
    expected = "expected sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE or the path of an SQLite file"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise UserError(f"the address of the store of examples cannot be read; {expected}.") from None
    if "@" in (parsed.host or ""):
        raise UserError("the password in the address of the store of examples holds an @; write it as %40.")
    drivers = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}
    drivername = drivers.get(parsed.drivername, parsed.drivername)
    if drivername not in drivers.values():
        raise UserError(f"found a store of examples of the kind {drivername}; {expected}.")
    return parsed.set(drivername=drivername)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        # isolation_level: Python's driver then begins every change, and nothing else, with BEGIN IMMEDIATE.
        arguments = {"isolation_level": "IMMEDIATE", "timeout": WAIT_SECONDS}
        return create_engine(url, connect_args=arguments, hide_parameters=True)
    try:
        # client_encoding: otherwise a database without an encoding answers in bytes, before it can be refused.
        # pool_pre_ping: a lost connection is replaced before it is used, for instance after a restart of the server.
        arguments = {"client_encoding": "utf8", "connect_timeout": 10}
        return create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    except ImportError:
        raise UserError('PostgreSQL needs the package psycopg: pip install -e ".[postgres]"') from None


def _prepare_sqlite(connection: Connection, name: str) -> None:
    """Makes an SQLite file ready for several processes, if it is undamaged and not another program's.

    Raises:
        UserError: it is damaged, another program's, or on a filesystem that cannot share it.
    """
    tables = inspect(connection).get_table_names()
    if tables and _COUNTER.name not in tables:
        raise UserError(
            f"{name}: is another program's database, with a table {tables[0]}. Give examples their own file."
        )
    damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if damage != "ok":
        raise UserError(f"{name}: the file is damaged ({damage}). Put a copy of it back.")
    if _write_ahead(connection) != "wal":
        raise UserError(f"{name}: processes cannot share this file. Give one on a disk of this machine, or PostgreSQL.")


def _write_ahead(connection: Connection) -> Any:
    """Switches the file to WAL for good; returns the mode that it is in afterwards.

    SQLite itself does not wait here for other processes that open the new file at the same time.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar()
        except OperationalError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0)
            if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _refuse_settings(connection: Connection, name: str) -> None:
    """Refuses a PostgreSQL database that could lose or spoil an example."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise UserError(f"{name}: the database's encoding is {encoding}; make one with ENCODING 'UTF8'.")
    if connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off":
        raise UserError(
            f"{name}: the server answers before it has written. Set synchronous_commit to on for this user."
        )


def _create(connection: Connection) -> None:
    """Makes the tables where they are missing, one process at a time; fails on tables with other columns."""
    connection.exec_driver_sql(_CREATION_LOCK[connection.dialect.name])
    _SCHEMA.create_all(connection)
    connection.execute(select(_EXAMPLES).limit(0))
    if connection.scalar(select(_COUNTER.c.version)) is None:
        connection.execute(insert(_COUNTER).values(version=0))
    connection.commit()
