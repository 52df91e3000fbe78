"""The tables of the store of examples, made or upgraded, and how a database is opened: SQLite or PostgreSQL."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable
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
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.schema import CreateColumn

from metacross.errors import UserError

WAIT_SECONDS = 30  # how long a writer waits for others, each of which needs milliseconds

_SCHEMA = MetaData()
COUNTER = Table("metacross_counter", _SCHEMA, Column("version", BigInteger, nullable=False))
EXAMPLES = Table(
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
    # Columns that may be null are newer than the table, see `_upgrade`. Those of machine labels are null for people's.
    Column("confidence", Float),
    Column("uncertain", JSON(none_as_null=True)),  # numbers of words
    Column("labelled_by", String),  # digest of the bundle
    Column("sentence_key", String, index=True),  # see `key_of`
)
STORED = EXAMPLES.c.version == EXAMPLES.c.id
DELETED: dict[str, Any] = {
    **{"language": "", "text": "", "spans": [], "tags": []},
    **dict.fromkeys(("confidence", "uncertain", "labelled_by", "sentence_key")),
}
_CREATION_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7236115412)"}


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


def engine_of(url: URL) -> Engine:
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


def prepare_sqlite(connection: Connection, name: str) -> None:
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


def refuse_settings(connection: Connection, name: str) -> None:
    """Refuses a PostgreSQL database that could lose or spoil an example."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise UserError(f"{name}: the database's encoding is {encoding}; make one with ENCODING 'UTF8'.")
    if connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off":
        raise UserError(
            f"{name}: the server answers before it has written. Set synchronous_commit to on for this user."
        )


def create_tables(connection: Connection) -> None:
    """Makes or upgrades the tables, one process at a time; fails on those with other columns, and leaves them alone."""
    connection.exec_driver_sql(_CREATION_LOCK[connection.dialect.name])
    _SCHEMA.create_all(connection)
    _upgrade(connection)
    connection.execute(select(EXAMPLES).limit(0))
    if connection.scalar(select(COUNTER.c.version)) is None:
        connection.execute(insert(COUNTER).values(version=0))
    connection.commit()


def _upgrade(connection: Connection) -> None:
    """Brings a table that an earlier version made to this one's columns; its examples stay, and earlier versions go on.

    Keys are also given to examples that an earlier version added since.
    """
    there = {column["name"] for column in inspect(connection).get_columns(EXAMPLES.name)}
    for column in EXAMPLES.columns:
        if column.nullable and column.name not in there:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {EXAMPLES.name} ADD COLUMN {definition}")
    for index in EXAMPLES.indexes:
        index.create(connection, checkfirst=True)
    columns = (EXAMPLES.c.id, EXAMPLES.c.text, EXAMPLES.c.spans)
    rows = connection.execute(select(*columns).where(EXAMPLES.c.sentence_key.is_(None), STORED)).all()
    if rows:
        keys = [{"row": row.id, "key": key_of(row.text[start:end] for start, end in row.spans)} for row in rows]
        of_row = update(EXAMPLES).where(EXAMPLES.c.id == bindparam("row"))
        connection.execute(of_row.values(sentence_key=bindparam("key")), keys)


def key_of(words: Iterable[str]) -> str:
    """What two sentences have in common that are the same but for their spaces and the borders of their words."""
    return hashlib.sha256("".join(words).encode()).hexdigest()
