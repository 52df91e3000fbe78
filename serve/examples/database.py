"""The database of the store: how SQLite or PostgreSQL is opened, read, and changed by one writer at a time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, Row, Select, create_engine, inspect, make_url, update
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from metacross.errors import RunError, UserError, first_line
from serve.examples.tables import COUNTER
from serve.examples.upgrades import create_tables

WAIT_SECONDS = 30  # how long a writer waits for others, each of which needs milliseconds


class Database:
    """A database whose tables are made where they are missing. Any number of threads may use it.

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
        self._engine = _engine_of(parsed)
        self._lite = parsed.get_backend_name() == "sqlite"
        # Every read is one statement, so it needs no transaction to see one state; SQLite's begin with a change anyway.
        self._reads = self._engine if self._lite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._engine.connect() as connection:
                (_prepare_sqlite if self._lite else _refuse_settings)(connection, self.name)
                create_tables(connection)
        except SQLAlchemyError as error:
            raise UserError(f"{self.name}: cannot be opened as a store of examples ({self._reason(error)}).") from None

    def close(self) -> None:
        """Lets go of the database; it is not used afterwards."""
        self._engine.dispose()

    @contextmanager
    def changing(self, by: int) -> Iterator[tuple[Connection, int]]:
        """A transaction with the counter raised by `by` and locked, and the new version; undone unless it commits.

        All changes are made so. Whoever reads in such a transaction knows that nobody else changes anything until it
        ends.

        Raises:
            RunError: the database did not answer. If it was lost in the last moment, the change may have been made.
        """
        with self._answering(), self._engine.connect() as connection:
            if self._lite:
                # A commit in WAL mode is then on disk when it returns. SQLite's default depends on how it was built.
                connection.exec_driver_sql("PRAGMA synchronous = FULL")
            raised = update(COUNTER).values(version=COUNTER.c.version + by).returning(COUNTER.c.version)
            yield connection, connection.execute(raised).scalar_one()

    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        """What a statement that changes nothing finds. RunError where the database does not answer."""
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


# --- addresses -------------------------------------------------------------------------------------------------------


def parsed_address(url: str) -> URL:
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


def shown(url: str) -> str:
    """The address of a store as it may be shown, without a password.

    >>> shown("postgresql+psycopg://ana:secret@db/examples?sslpassword=secret")
    'postgresql+psycopg://ana:***@db/examples'
    """
    return parsed_address(url).set(query={}).render_as_string(hide_password=True)


def _engine_of(url: URL) -> Engine:
    """Connections to a database. UserError where its driver is missing."""
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
    if tables and COUNTER.name not in tables:
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
