"""NDJSON: a text a line in, an answer a line out, while the request still comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from metacross.errors import UserError
from serve.engine import Answer, Job
from serve.web import problems, schemas
from serve.web.limits import Limits, job_of
from serve.web.problems import ProblemError

NDJSON = "application/x-ndjson"


class Lines(Response):
    """An answer whose lines are made while the request still comes.

    Starlette's StreamingResponse takes messages off the request to see whether the client is still there; these would
    be lines of its body. Here whoever reads the body notices.
    """

    media_type = NDJSON

    def __init__(self, lines: AsyncIterator[bytes], status_code: int = 200) -> None:
        super().__init__(status_code=status_code)
        del self.headers["content-length"]
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for line in self._lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        except ClientDisconnect:
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def answered_lines(
    request: Request,
    options: schemas.Options,
    tagged: Callable[[Sequence[Job]], Awaitable[Answer]],
    limits: Limits,
) -> AsyncIterator[bytes]:
    """An answer for every line that comes, as soon as lines have come; memory is bounded by one piece of the body."""
    name = problems.request_id(request)
    async for lines in _arriving(request, 4 * limits.characters + 1024):
        for start in range(0, len(lines), limits.texts):
            for out in await _answers(lines[start : start + limits.texts], options, tagged, limits, name):
                yield json.dumps(out, ensure_ascii=False).encode() + b"\n"


async def _arriving(request: Request, longest: int) -> AsyncIterator[list[bytes | None]]:
    """The lines that are whole with each piece of the body; None for one that is too long."""
    rest, skipping = b"", False
    async for piece in request.stream():
        *whole, rest = (rest + piece).split(b"\n")
        lines: list[bytes | None] = []
        for line in whole:
            lines.append(None if skipping or len(line) > longest else line)
            skipping = False
        if len(rest) > longest:
            rest, skipping = b"", True
        if lines:
            yield lines
    if rest or skipping:
        yield [None if skipping else rest]


async def _answers(
    lines: Sequence[bytes | None],
    options: schemas.Options,
    tagged: Callable[[Sequence[Job]], Awaitable[Answer]],
    limits: Limits,
    name: str,
) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    jobs: list[Job] = []
    places: list[int] = []
    for line in lines:
        if line is not None and not line.strip():
            continue
        try:
            record = _record(line, limits)
            out.append({"id": record.get("id")})
            places.append(len(out) - 1)
            jobs.append(job_of(record["text"], options))
        except UserError as error:
            out.append({"id": None, "error": problems.described(422, str(error), name).model_dump()})
    try:
        answer = await tagged(jobs) if jobs else Answer([], {})
        for place, result in zip(places, answer.results, strict=True):
            out[place]["result"] = result
    except ProblemError as error:
        for place in places:
            out[place]["error"] = problems.described(error.status, error.detail, name).model_dump()
    return out


def _record(line: bytes | None, limits: Limits) -> dict[str, Any]:
    if line is None:
        raise UserError(f"the line is too long for a text of at most {limits.characters} characters.")
    try:
        record = json.loads(line)
        schemas.EntitiesRequest(text=record["text"])
        # Python reads more than JSON may hold, such as NaN; an id goes back as it came, or not at all.
        json.dumps({"id": record.get("id")}, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        raise UserError('expected an object such as {"id": 1, "text": "..."} on each line.') from None
    if len(record["text"]) > limits.characters:
        raise UserError(f"{len(record['text'])} characters, at most {limits.characters}. Cut the text.")
    return dict(record)
