"""Requests that may be sent again: what a request with an Idempotency-Key did is written down with what it changed.

A request that comes again finds that, changes nothing, and gets the same answer. No text is kept for this: the request
brings its texts again. See the IETF draft "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from metacross.errors import UserError
from serve.examples.stored import without_zone
from serve.examples.tables import REQUESTS

KEPT = timedelta(hours=24)


@dataclass(frozen=True)
class RequestKey:
    """By what a request is known when it comes again.

    Attributes:
        key: what its sender named it.
        digest: of what it asks for.
    """

    key: str
    digest: str


class KeyUsed(UserError):
    """A request has the key of another one that asked for something else."""


def recalled(connection: Connection, request: RequestKey | None) -> Any:
    """What was written down of this request; None where it is new, or cannot be known again.

    Raises:
        KeyUsed: another request had its key.
    """
    if request is None:
        return None
    row = connection.execute(select(REQUESTS).where(REQUESTS.c.key == request.key)).one_or_none()
    if row is None:
        return None
    if row.digest != request.digest:
        raise KeyUsed(f"the key {request.key!r} was that of another request in the last 24 hours; give each its own.")
    return row.outcome


def write_down(connection: Connection, request: RequestKey | None, outcome: Any) -> None:
    """Writes down what a request did, for a day; nothing where it cannot be known again."""
    if request is None:
        return
    now = without_zone(datetime.now(UTC))
    assert now is not None
    connection.execute(delete(REQUESTS).where(REQUESTS.c.created < now - KEPT))
    connection.execute(insert(REQUESTS).values(key=request.key, digest=request.digest, created=now, outcome=outcome))
