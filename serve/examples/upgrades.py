"""The store's tables, made where they are missing, and those of earlier versions brought to this one's columns."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, inspect, select, update
from sqlalchemy.schema import CreateColumn

from metacross.wording import counted
from serve.examples.tables import COUNTER, DELETED, EXAMPLES, ONE_A_SENTENCE, SCHEMA, STORED, folded, key_of

log = logging.getLogger("metacross.serve")

_CREATION_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7236115412)"}
_EARLIER_INDEX = "ix_metacross_examples_sentence_key"  # which let a sentence be there twice
_SHOWN = 20  # numbers of examples in a message


def create_tables(connection: Connection) -> None:
    """Makes or upgrades the tables, one process at a time; fails on those with other columns, and leaves them alone."""
    connection.exec_driver_sql(_CREATION_LOCK[connection.dialect.name])
    SCHEMA.create_all(connection)
    _add_columns(connection)
    connection.execute(select(EXAMPLES).limit(0))
    if connection.scalar(select(COUNTER.c.version)) is None:
        connection.execute(insert(COUNTER).values(version=0))
    _fill_columns(connection)
    _delete_repeated(connection)
    for index in EXAMPLES.indexes:
        index.create(connection, checkfirst=True)
    connection.commit()


def _add_columns(connection: Connection) -> None:
    """Adds the columns that an earlier version did not have; its examples stay."""
    there = {column["name"] for column in inspect(connection).get_columns(EXAMPLES.name)}
    for column in EXAMPLES.columns:
        if column.nullable and column.name not in there:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {EXAMPLES.name} ADD COLUMN {definition}")


def _fill_columns(connection: Connection) -> None:
    """Makes what is derived from an example's text, where an earlier version did not; it may still be running."""
    if _EARLIER_INDEX in _index_names(connection):
        connection.exec_driver_sql(f"DROP INDEX {_EARLIER_INDEX}")
    connection.execute(update(EXAMPLES).where(~STORED, EXAMPLES.c.sentence_key.is_not(None)).values(sentence_key=None))
    missing = EXAMPLES.c.sentence_key.is_(None) | EXAMPLES.c.folded.is_(None)
    columns = (EXAMPLES.c.id, EXAMPLES.c.text, EXAMPLES.c.spans)
    rows = connection.execute(select(*columns).where(STORED, missing)).all()
    if not rows:
        return
    if ONE_A_SENTENCE.name in _index_names(connection):
        # A new key may be that of another example. It is made again once only one of them is left.
        ONE_A_SENTENCE.drop(connection)
    derived = [
        {"row": row.id, "sentence_key": key_of(row.text[s:e] for s, e in row.spans), "folded": folded(row.text)}
        for row in rows
    ]
    connection.execute(update(EXAMPLES).where(EXAMPLES.c.id == bindparam("row")), derived)


def _delete_repeated(connection: Connection) -> None:
    """Of several examples of a sentence, which earlier versions stored, leaves the newest by people, or by machine."""
    if ONE_A_SENTENCE.name in _index_names(connection):
        return
    columns = (EXAMPLES.c.id, EXAMPLES.c.sentence_key, EXAMPLES.c.labelled_by)
    by_key: dict[str, list[Any]] = defaultdict(list)  # rows
    for row in connection.execute(select(*columns).where(STORED).order_by(EXAMPLES.c.id)):
        by_key[row.sentence_key].append(row)
    repeated: list[int] = []
    for same in by_key.values():
        kept = max(same, key=lambda row: (row.labelled_by is None, row.id))
        repeated += [row.id for row in same if row.id != kept.id]
    if not repeated:
        return
    _delete(connection, sorted(repeated))
    log.warning(
        "deleted %s whose sentence a later example has, too: %s%s",
        counted(len(repeated), "examples"),
        ", ".join(map(str, sorted(repeated)[:_SHOWN])),
        ", ..." if len(repeated) > _SHOWN else "",
    )


def _delete(connection: Connection, ids: Sequence[int]) -> None:
    raised = update(COUNTER).values(version=COUNTER.c.version + 1).returning(COUNTER.c.version)
    version = connection.execute(raised).scalar_one()
    rows = [{"row": id, "version": version, **DELETED} for id in ids]
    connection.execute(update(EXAMPLES).where(EXAMPLES.c.id == bindparam("row")), rows)


def _index_names(connection: Connection) -> set[str | None]:
    return {index["name"] for index in inspect(connection).get_indexes(EXAMPLES.name)}
