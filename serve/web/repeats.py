"""The header Idempotency-Key: by it a request is known when it comes again, and is then not done again."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request

from serve.examples import KeyUsed, RequestKey
from serve.web.problems import ProblemError

NAME = "Idempotency-Key"

_Header = Annotated[
    str | None,
    Header(
        alias=NAME,
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="The same request with the same key is done once within 24 hours, however often it comes.",
    ),
]


async def _request_key(request: Request, key: _Header = None) -> RequestKey | None:
    """By what a request is known, from its key and what it asks for; None where it has no key."""
    if key is None:
        return None
    asked = hashlib.sha256(f"{request.url.path}?{request.url.query}\n".encode())
    asked.update(await request.body())
    return RequestKey(key, asked.hexdigest())


Key = Annotated[RequestKey | None, Depends(_request_key)]


def refusal(error: KeyUsed) -> ProblemError:
    """The problem of a request whose key is that of another one."""
    return ProblemError(422, str(error), field=NAME)
