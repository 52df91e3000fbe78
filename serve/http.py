"""The HTTP interface: routes, limits and tokens. No Ray: what answers is given to `make_app`."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metacross.data import Sentence
from metacross.errors import RunError, UserError
from metacross.examples import ExampleStore
from metacross.marking import sentence_of, sentence_of_words
from serve import problems, schemas
from serve.auth import Token, needs
from serve.document import DocumentedAPI
from serve.engine import Answer, Job, Refusal
from serve.page import PAGE, policy
from serve.problems import ProblemError

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
NDJSON = "application/x-ndjson"
_LINE = '{"id": 1, "text": "Otto moved from Bern to Quito."}\n'
Observed = Callable[[str, int, float], None]
_LINKS = {  # of the answer to new examples: where the first of them is
    method: {
        "operationRef": f"#/paths/~1v1~1examples~1{{number}}/{method}",
        "parameters": {"number": "$response.body#/examples/0/id"},
    }
    for method in ("get", "delete")
}
log = logging.getLogger("metacross.serve")
T = TypeVar("T")


class Backend(Protocol):
    """What tags: a Serve deployment, or an engine in this process."""

    async def tag(self, jobs: Sequence[Job]) -> Answer | Refusal:
        """Tags texts by one checkpoint. ProblemError 503 where it is too busy or not there."""

    async def model(self) -> dict[str, Any]:
        """Facts about the checkpoint that answers now. ProblemError 503 before one is loaded."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    body_bytes: int
    texts: int
    characters: int  # of one text
    seconds: float


def make_app(
    backend: Backend,
    store: ExampleStore | None,
    *,
    limits: Limits,
    tokens: list[Token] | None = None,
    observed: Observed = lambda route, status, seconds: None,
    send_request_id: bool = True,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        backend: answers.
        store: keeps examples; None where there are none.
        limits: beyond them requests are refused.
        tokens: who may do what; None lets everybody.
        observed: is told every request's route ("" where there is none), status and seconds.
        send_request_id: answer with the header x-request-id; Serve does so by itself, and adds one where there is none.
    """
    app = DocumentedAPI(
        title="metacross",
        summary="Named entities in languages nobody has labelled; similar labelled sentences shape every answer.",
        version="1",
    )
    problems.install(app)
    app.state.send_request_id = send_request_id
    app.add_middleware(Envelope, body_bytes=limits.body_bytes, observed=observed)
    may_tag, may_read, may_write = (
        Depends(needs(tokens, grant)) for grant in ("tag", "read_examples", "write_examples")
    )
    refusals = (401, 403, 422)
    waits = (503, 504)
    bodies = (400, 413)
    kept = errors(*refusals, 404, 503)

    async def tagged(jobs: Sequence[Job]) -> Answer:
        found = await within(backend.tag(jobs), limits.seconds)
        if isinstance(found, Refusal):
            raise ProblemError(422, found.detail, field=found.field)
        return found

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        text = await run_in_threadpool(PAGE.read_text, encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": policy(text)})

    @app.get("/healthz", summary="Is the service alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Are model and index loaded?", responses=errors(*waits))
    async def readyz() -> dict[str, str]:
        await within(backend.model(), limits.seconds)
        return {"status": "ready"}

    @app.get("/v1/model", summary="What answers come from", responses=errors(401, 403, *waits), dependencies=[may_tag])
    async def model() -> schemas.ModelInfo:
        facts = await within(backend.model(), limits.seconds)
        count = await stored(store.count) if store else 0
        return schemas.ModelInfo(**facts, examples=count)

    @app.post(
        "/v1/entities",
        summary="Find the entities of texts",
        responses=errors(*refusals, *bodies, *waits),
        dependencies=[may_tag],
        response_model_exclude_unset=True,
    )
    async def entities(request: schemas.EntitiesRequest) -> schemas.EntitiesAnswer:
        jobs = jobs_of(request, limits)
        answer = await tagged(jobs) if jobs else Answer([], (await within(backend.model(), limits.seconds)))
        results = [schemas.Result(**result) for result in answer.results]
        named = schemas.ModelName(bundle=answer.model["bundle"], method=answer.model["method"])
        return schemas.EntitiesAnswer(results=results, model=named)

    @app.post(
        "/v1/entities:stream",
        summary="Find the entities of many texts, a JSON object a line",
        responses={
            **errors(*refusals),
            200: {"content": {NDJSON: {}}, "description": "a line for every line, in their order"},
        },
        dependencies=[may_tag],
        response_class=Lines,
        openapi_extra={"requestBody": {"content": {NDJSON: {"schema": {"type": "string"}, "example": _LINE}}}},
    )
    async def stream(request: Request, options: Annotated[schemas.Options, Query()]) -> Lines:
        return Lines(answered_lines(request, options, tagged, limits))

    @app.post(
        "/v1/examples",
        status_code=201,
        summary="Add examples",
        responses={**errors(*refusals, 404, *bodies, *waits), 201: {"links": _LINKS}},
        dependencies=[may_write],
    )
    async def add(request: schemas.NewExamples) -> schemas.StoredExamples:
        known = (await within(backend.model(), limits.seconds))["labels"]
        sentences = [_sentence(i, example, known, limits) for i, example in enumerate(request.examples)]
        found = await stored(lambda: examples_of(store).add(sentences, [e.language for e in request.examples]))
        return schemas.StoredExamples(examples=[schemas.StoredExample(**e.as_dict()) for e in found])

    @app.get("/v1/examples", summary="List examples", responses=kept, dependencies=[may_read])
    async def listed(
        after: Annotated[int, Query(ge=0, le=2**53)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> schemas.ExamplePage:
        found = await stored(lambda: examples_of(store).page(after, limit + 1))
        last = found[limit - 1].id if len(found) > limit else None
        return schemas.ExamplePage(examples=[schemas.StoredExample(**e.as_dict()) for e in found[:limit]], next=last)

    @app.get("/v1/examples/{number}", summary="One example", responses=kept, dependencies=[may_read])
    async def one(number: int) -> schemas.StoredExample:
        found = await stored(lambda: examples_of(store).get(number))
        if found is None:
            raise _no_example(number)
        return schemas.StoredExample(**found.as_dict())

    @app.delete(
        "/v1/examples/{number}",
        status_code=204,
        summary="Delete an example",
        responses=kept,
        dependencies=[may_write],
    )
    async def delete(number: int) -> Response:
        if not await stored(lambda: examples_of(store).delete(number)):
            raise _no_example(number)
        return Response(status_code=204)

    return app


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the document says about problems that a route may answer with; any may fail."""
    return {
        status: {"model": schemas.Problem, "content": {problems.MEDIA_TYPE: {}}} for status in sorted({*statuses, 500})
    }


async def within(work: Awaitable[T], seconds: float) -> T:
    """Waits for an answer; a ProblemError 504 where it takes too long."""
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise ProblemError(
            504, f"No answer within {seconds:g} s. Send fewer or shorter texts, or try again later."
        ) from None


async def stored(work: Callable[[], T]) -> T:
    """What the store says, asked in a thread."""
    try:
        return await run_in_threadpool(work)
    except RunError as error:
        log.error("the store of examples failed: %s", error)
        raise problems.busy("The store of examples cannot be reached. Nothing was changed; try again.") from error


def examples_of(store: ExampleStore | None) -> ExampleStore:
    """The store. ProblemError 404 where the service has none."""
    if store is None:
        raise ProblemError(404, "This service keeps no examples: serve.examples is empty.")
    return store


def jobs_of(request: schemas.EntitiesRequest, limits: Limits) -> list[Job]:
    """The texts of a request. ProblemError 422 where it asks for more than it may."""
    texts: Sequence[str | tuple[str, ...]]
    if request.words is not None:
        name, texts = "words", [tuple(words) for words in request.words]
    else:
        name, texts = ("texts", request.texts) if request.texts is not None else ("text", [request.text or ""])
    if len(texts) > limits.texts:
        raise ProblemError(
            422,
            f"{len(texts)} texts, at most {limits.texts} a call. Send several, or use /v1/entities:stream.",
            field=name,
        )
    for i, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else sum(map(len, text)) + len(text)
        if length > limits.characters:
            field = name if name == "text" else f"{name}.{i}"
            raise ProblemError(422, f"{length} characters, at most {limits.characters}. Cut the text.", field=field)
    return [_job(text, request) for text in texts]


def _job(text: str | tuple[str, ...], options: schemas.Options) -> Job:
    labels = None if options.labels is None else tuple(options.labels)
    return Job(text, options.adapt, options.explain, labels, options.threshold, options.neighbours)


def _sentence(i: int, example: schemas.NewExample, known: Sequence[str], limits: Limits) -> Sentence:
    try:
        if example.text is not None:
            if len(example.text) > limits.characters:
                raise UserError(f"{len(example.text)} characters, at most {limits.characters}; cut the text.")
            marked = [(entity.start, entity.end, entity.label) for entity in example.entities or ()]
            return sentence_of(example.text, marked, labels=known)
        return sentence_of_words(example.words or [], example.tags or [], labels=known, language=example.language)
    except UserError as error:
        raise ProblemError(422, str(error), field=f"examples.{i}") from None


def _no_example(number: int) -> ProblemError:
    return ProblemError(404, f"There is no example {number}. GET /v1/examples lists them.")


# --- lines -----------------------------------------------------------------------------------------------------------


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
            jobs.append(_job(record["text"], options))
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


# --- around every request --------------------------------------------------------------------------------------------


class Envelope:
    """Gives every request an id, bounds its body, counts it, and logs it: never what is in it."""

    def __init__(self, app: ASGIApp, *, body_bytes: int, observed: Observed) -> None:
        self._app, self._most, self._observed = app, body_bytes, observed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        name = scope["metacross_request_id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["app"].state.send_request_id:
                    MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        try:
            endless = scope["path"].endswith(":stream")
            await self._app(scope, receive if endless else self._bounded(headers, receive), sending)
        finally:
            seconds = time.perf_counter() - began
            self._observed(getattr(scope.get("route"), "path", ""), status, seconds)
            log.info(
                json.dumps(
                    {
                        "request_id": name,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "ms": round(1000 * seconds, 1),
                    }
                )
            )

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        declared = headers.get("content-length", "")
        taken = int(declared) if declared.isdigit() and int(declared) > self._most else 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(413)
            return message

        return bounded
