"""NDJSON: one text, or the words of one, per line in, one answer per line out, while the request is still arriving."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from metacross.client.contract import EntitiesAnswer, Result
from metacross.sequences import groups
from serve.jobs import Job
from serve.web import problems, schemas
from serve.web.limits import Limits, characters_of, job_of, refuse_too_many_neighbours, refuse_too_much
from serve.web.problems import ProblemError

NDJSON = "application/x-ndjson"
_RESULT = TypeAdapter(Result)
_EXPECTED = 'expected an object such as {"id": 1, "text": "..."} or {"id": 1, "words": ["..."]} on each line.'


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
    request_id, number = problems.request_id(request), 0
    # A code point takes at most four bytes; the rest is for the line's other keys.
    async for lines in _arriving(request, 4 * limits.characters + 1024):
        # A line has at least as many bytes as its text has characters.
        for some in groups(lines, size=_bytes, most=limits.characters, most_items=limits.texts):
            read = [_read(number + i, line, options, limits) for i, line in enumerate(some, 1) if line != b""]
            number += len(some)
            for answer in await _answers(read, tag, request_id):
                yield json.dumps(answer, ensure_ascii=False).encode() + b"\n"


async def _arriving(request: Request, longest: int) -> AsyncIterator[list[bytes | None]]:
    """The lines that each piece of the body completes, without the white space around them.

    None stands in place of a line longer than `longest` bytes.
    """
    rest, skipping = b"", False  # skipping: the rest of the line is read and dropped
    async for piece in request.stream():
        *complete, rest = (rest + piece).split(b"\n")
        lines: list[bytes | None] = []
        for line in complete:
            lines.append(None if skipping or len(line) > longest else line.strip())
            skipping = False
        if len(rest) > longest:
            rest, skipping = b"", True
        if lines:
            yield lines
    if rest or skipping:
        yield [None if skipping else rest.strip()]


@dataclass(frozen=True)
class _Line:
    """A line of a request.

    Attributes:
        number: counted from 1, empty lines included.
        id: what it calls itself; None where it does not, or where that is no JSON.
        job: what it asks for; or what is wrong with it.
    """

    number: int
    id: Any
    job: Job | str


async def _answers(
    lines: Sequence[_Line], tag: Callable[[Sequence[Job]], Awaitable[EntitiesAnswer]], request_id: str
) -> list[dict[str, Any]]:
    """What each line is answered by."""
    jobs = [line.job for line in lines if isinstance(line.job, Job)]
    failed = None
    results: Iterator[Result] = iter(())
    try:
        results = iter((await tag(jobs)).results if jobs else ())
    except ProblemError as error:
        failed = problems.described(error.status, error.detail, request_id)
    answers = []
    for line in lines:
        wrong = problems.described(422, line.job, request_id) if isinstance(line.job, str) else failed
        if wrong is None:
            answers.append({"id": line.id, "result": _RESULT.dump_python(next(results))})
        else:
            answers.append({"id": line.id, "line": line.number, "error": asdict(wrong)})
    return answers


def _bytes(line: bytes | None) -> int:
    return len(line or b"")


def _read(number: int, line: bytes | None, options: schemas.RequestOptions, limits: Limits) -> _Line:
    """A line's id, and its job or what is wrong with it."""
    if line is None:
        return _Line(number, None, f"the line is too long for a text of at most {limits.characters} characters.")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return _Line(number, None, _EXPECTED)
    if not isinstance(record, dict):
        return _Line(number, None, _EXPECTED)
    name = record.get("id")
    try:
        # Python reads more than JSON may hold, such as NaN; an id goes back as it came, or not at all.
        json.dumps(name, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return _Line(number, None, _EXPECTED)
    try:
        return _Line(number, name, job_of(_text(record, options, limits), options))
    except ValidationError:
        return _Line(number, name, _EXPECTED)
    except ProblemError as error:
        return _Line(number, name, error.detail)


def _text(record: dict[str, Any], options: schemas.RequestOptions, limits: Limits) -> str | tuple[str, ...]:
    """The text or the words on a line.

    Raises:
        ValidationError: there is none of them, or both, or something else.
        ProblemError: there are too many, or too many for the options.
    """
    words = record.get("words")
    given = schemas.EntitiesRequest(text=record.get("text"), words=None if words is None else [words])
    text = tuple(given.words[0]) if given.words is not None else given.text or ""
    refuse_too_much("text", [text], limits)
    refuse_too_many_neighbours(options, characters_of(text), limits)
    return text
