"""NDJSON: one text per line in, one answer per line out, while the request is still arriving."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from metacross.client.contract import EntitiesAnswer, Result
from metacross.errors import UserError
from metacross.sequences import groups
from serve.jobs import Job
from serve.web import problems, schemas
from serve.web.limits import Limits, job_of, refuse_too_many_neighbours
from serve.web.problems import ProblemError

NDJSON = "application/x-ndjson"
_RESULT = TypeAdapter(Result)


class Lines(Response):
    """A response whose lines are made while the request is still arriving.

    Starlette's StreamingResponse takes messages off the request to see whether the client is still there, and these
    would be missing from the body. Here the reader of the body notices that the client has gone.
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
    options: schemas.RequestOptions,
    tag: Callable[[Sequence[Job]], Awaitable[EntitiesAnswer]],
    limits: Limits,
) -> AsyncIterator[bytes]:
    """An answer for every line that arrives, without waiting for those after it.

    Args:
        request: its body is read piece by piece, so memory is bounded by one piece.
        options: how all lines are to be tagged.
        tag: tags the texts of some lines; ProblemError where it cannot.
        limits: what one line may hold; as many lines are tagged together as one request may have.
    """
    request_id = problems.request_id(request)
    # A code point takes at most four bytes; the rest is for the line's other keys.
    async for lines in _arriving(request, 4 * limits.characters + 1024):
        # A line has at least as many bytes as its text has characters.
        for some in groups(lines, size=_bytes, most=limits.characters, most_items=limits.texts):
            for answer in await _answers(some, options, tag, limits, request_id):
                yield json.dumps(answer, ensure_ascii=False).encode() + b"\n"


async def _arriving(request: Request, longest: int) -> AsyncIterator[list[bytes | None]]:
    """The lines that each piece of the body completes; None in place of a line longer than `longest` bytes."""
    rest, skipping = b"", False  # skipping: the rest of the line is read and dropped
    async for piece in request.stream():
        *complete, rest = (rest + piece).split(b"\n")
        lines: list[bytes | None] = []
        for line in complete:
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
    options: schemas.RequestOptions,
    tag: Callable[[Sequence[Job]], Awaitable[EntitiesAnswer]],
    limits: Limits,
    request_id: str,
) -> list[dict[str, Any]]:
    """What each line is answered by; empty lines have no answer."""
    answers: list[dict[str, Any]] = []
    jobs: list[Job] = []
    waiting: list[dict[str, Any]] = []  # for each job the answer that its result belongs to
    for line in lines:
        if line is not None and not line.strip():
            continue
        try:
            record = _record(line, limits)
            refuse_too_many_neighbours(options, len(record["text"]), limits)
        except (UserError, ProblemError) as error:
            answers.append({"id": None, "error": asdict(problems.described(422, str(error), request_id))})
            continue
        answers.append({"id": record.get("id")})
        waiting.append(answers[-1])
        jobs.append(job_of(record["text"], options))
    try:
        results = (await tag(jobs)).results if jobs else ()
        for answer, result in zip(waiting, results, strict=True):
            answer["result"] = _RESULT.dump_python(result)
    except ProblemError as error:
        for answer in waiting:
            answer["error"] = asdict(problems.described(error.status, error.detail, request_id))
    return answers


def _bytes(line: bytes | None) -> int:
    return len(line or b"")


def _record(line: bytes | None, limits: Limits) -> dict[str, Any]:
    """A line's object. UserError where it is none, or has no text that may be tagged."""
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
