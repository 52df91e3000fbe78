"""The HTTP interface: routes and who may use them. No Ray: what answers is given to `make_app`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError
from serve.annotations import sentence_of, sentence_of_words
from serve.engine import Answer, Job, Refusal
from serve.examples import ExampleStore
from serve.web import problems, schemas
from serve.web.auth import Token, needs
from serve.web.document import DocumentedAPI
from serve.web.envelope import Envelope, Observed
from serve.web.limits import Limits, jobs_of
from serve.web.lines import NDJSON, Lines, answered_lines
from serve.web.page import PAGE, policy
from serve.web.problems import ProblemError

_LINE = '{"id": 1, "text": "Otto moved from Bern to Quito."}\n'
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
        limits=limits,
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
