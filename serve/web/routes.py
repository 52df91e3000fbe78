"""The HTTP interface: its routes and who may use them. No Ray: what answers is given to `make_app`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from metacross.client.contract import (
    AddedExamples,
    AddedTexts,
    EntitiesAnswer,
    Example,
    ExamplePage,
    ImportedExamples,
    LeftOut,
    Model,
    ModelName,
    Problem,
    Readiness,
)
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError
from serve.annotations import sentence_of, sentence_of_words
from serve.examples import ExampleStore
from serve.web import api_page, page, problems, schemas
from serve.web.auth import Token
from serve.web.browsers import ANY_NAME, Browsers, guard
from serve.web.document import DocumentedAPI
from serve.web.draining import Drained, Draining
from serve.web.envelope import Envelope, Observed
from serve.web.gate import EarlyChecks
from serve.web.imports import read_examples
from serve.web.limits import Limits, jobs_of, refuse_too_many_neighbours
from serve.web.lines import NDJSON, Lines, answered_lines
from serve.web.problems import ProblemError, busy
from serve.web.service import Backend, Service
from serve.web.texts import FoundSentences, read_file, read_texts

log = logging.getLogger("metacross.serve")
# Statuses of problems, for the document.
REFUSED = (401, 403, 422)  # of every route below /v1
FILE = (408, 413, 415)  # where a body is read
BODY = (400, *FILE)  # where it is read as JSON
WAIT = (503, 504)  # where the backend is asked
STORE = (404, 503)  # where the store is asked; 404: there is none, or no such example

_PROMETHEUS = "text/plain; version=0.0.4"  # the format that Ray exports
_LINE = '{"id": 1, "text": "Otto moved from Bern to Quito."}\n'
_FILES = {  # what `metacross tag` writes, and all else that `metacross data` reads as text
    NDJSON: {"schema": {"type": "string"}, "example": '{"tokens": ["Quito", "espera"], "ner_tags": ["B-LOC", "O"]}\n'},
    "text/plain": {"schema": {"type": "string"}, "example": "Quito\tB-LOC\nespera\tO\n"},
}
_PLAIN = {"schema": {"type": "string"}, "example": "Der Zug nach Bern fiel aus.\n"}
_TEXTS = (
    "The service finds sentences and labels them, without adaptation. Sentences with certain labels become "
    "machine-labelled examples and shape the next answer; their uncertain words have no influence. Labels by people of "
    "the same sentence are kept in their place, whichever came first."
)
_LINKS = {  # of the answer to new examples: where the first of them is
    method: {
        "operationRef": f"#/paths/~1v1~1examples~1{{number}}/{method}",
        "parameters": {"number": "$response.body#/examples/0/id"},
    }
    for method in ("get", "delete")
}


def make_app(
    backend: Backend,
    store: ExampleStore | None,
    *,
    limits: Limits,
    tokens: list[Token] | None = None,
    browsers: Browsers = ANY_NAME,
    draining: Draining | None = None,
    metrics: Callable[[], Awaitable[str]] | None = None,
    observed: Observed = lambda route, status, seconds: None,
    send_request_id: bool = True,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        backend: tags.
        store: keeps examples; None for a service without any.
        limits: what one request may ask for; a request for more is refused.
        tokens: who may do what; None lets everybody do everything.
        browsers: which names it answers to, and whose pages may call it.
        draining: counts the requests under way, and says when no new ones are taken; None: they always are.
        metrics: gives the service's metrics, or raises RunError; None for a service that has none.
        observed: called after every request with its route ("" where there is none), status and seconds.
        send_request_id: answer with the header x-request-id; False behind Serve's proxy, which makes and sends it.
    """
    app = DocumentedAPI(
        title="metacross",
        summary="Named entities in languages nobody has labelled; similar labelled sentences shape every answer.",
        version="1",
        limits=limits,
        docs_url=None,  # FastAPI's own pages come from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    app.state.send_request_id = send_request_id
    guard(app, browsers)
    if draining is not None:
        app.add_middleware(Drained, draining=draining)
    app.add_middleware(Envelope, body_bytes=limits.body_bytes, seconds=limits.seconds, observed=observed)
    app.router.route_class = EarlyChecks
    service = Service(backend, store, limits, tokens)
    api_page.add(app)
    page.add(app, service)
    _add_probes(app, service)
    if metrics is not None:
        _add_metrics(app, service, metrics)
    _add_tagging(app, service)
    _add_new_examples(app, service)
    _add_texts(app, service)
    _add_kept_examples(app, service)
    return app


# --- routes, by subject: a handler's name is part of its operationId in the document ---------------------------------


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Is the service alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Are requests answered in time?", responses=_problems(*WAIT))
    async def readyz() -> Readiness:
        return await service.readiness()


def _add_metrics(app: FastAPI, service: Service, metrics: Callable[[], Awaitable[str]]) -> None:
    @app.get(
        "/metrics",
        summary="What the service has done, of all replicas, for Prometheus",
        responses={**_problems(401, 403, 503), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        dependencies=[service.may("read_metrics")],
        response_class=PlainTextResponse,
    )
    async def figures() -> PlainTextResponse:
        try:
            return PlainTextResponse(await metrics(), media_type=_PROMETHEUS)
        except RunError as error:
            log.warning("%s", error)
            raise busy("Not all nodes tell their metrics. Try again.") from error


def _add_tagging(app: FastAPI, service: Service) -> None:
    may_tag = service.may("tag")

    @app.get(
        "/v1/model", summary="What answers come from", responses=_problems(401, 403, *WAIT), dependencies=[may_tag]
    )
    async def model() -> Model:
        facts = await service.model()
        if service.store is None:
            return facts
        by_people, by_machine = await service.stored(lambda store: (store.count(), store.count(labelled=True)))
        return replace(facts, examples=by_people, machine_examples=by_machine)

    @app.post(
        "/v1/entities",
        summary="Find the entities of texts",
        responses=_problems(*REFUSED, *BODY, *WAIT),
        dependencies=[may_tag],
    )
    async def entities(request: schemas.EntitiesRequest) -> EntitiesAnswer:
        jobs = jobs_of(request, service.limits)
        if jobs:
            return await service.tag(jobs)
        model = await service.model()
        return EntitiesAnswer((), ModelName(model.bundle, model.method))

    @app.post(
        "/v1/entities:stream",
        summary="Find the entities of many texts, a JSON object a line",
        responses={
            **_problems(*REFUSED, 415),
            200: {"content": {NDJSON: {}}, "description": "One line for each line of the request, in the same order."},
        },
        dependencies=[may_tag],
        response_class=Lines,
        openapi_extra={"requestBody": {"content": {NDJSON: {"schema": {"type": "string"}, "example": _LINE}}}},
    )
    async def stream(request: Request, options: Annotated[schemas.RequestOptions, Query()]) -> Lines:
        refuse_too_many_neighbours(options, 0, service.limits)  # those of a line are known when it comes
        return Lines(answered_lines(request, options, service.tag, service.limits))


def _add_new_examples(app: FastAPI, service: Service) -> None:
    may_write = service.may("write_examples")

    @app.post(
        "/v1/examples",
        status_code=201,
        summary="Add examples",
        responses={**_problems(*REFUSED, *BODY, *STORE, *WAIT), 201: {"links": _LINKS}},
        dependencies=[may_write],
    )
    async def add(request: schemas.NewExamples) -> AddedExamples:
        labels = (await service.model()).labels
        sentences = [_sentence(i, example, labels, service.limits) for i, example in enumerate(request.examples)]
        languages = [example.language for example in request.examples]
        added = await service.stored(lambda store: store.add(sentences, languages))
        return AddedExamples(tuple(example.as_answer() for example in added))

    @app.post(
        "/v1/examples:import",
        status_code=201,
        summary="Add the sentences of a file",
        responses={**_problems(*REFUSED, *FILE, *STORE, *WAIT), 201: {"links": _LINKS}},
        dependencies=[may_write],
        openapi_extra={"requestBody": {"required": True, "content": _FILES}},
    )
    async def import_file(
        request: Request, language: Annotated[str, Query(pattern="^([a-z]{2,3})?$", description="ISO 639 code.")] = ""
    ) -> ImportedExamples:
        labels = (await service.model()).labels
        body = await request.body()
        read = partial(read_examples, body, labels=labels, language=language, limits=service.limits)
        sentences, oddities = await run_in_threadpool(read)
        added = await service.stored(lambda store: store.add(sentences, [language] * len(sentences)))
        return ImportedExamples(tuple(example.as_answer() for example in added), tuple(oddities))


def _add_texts(app: FastAPI, service: Service) -> None:
    may_write = service.may("write_examples")

    @app.post(
        "/v1/texts",
        summary="Add texts that nobody labelled",
        description=_TEXTS,
        responses=_problems(*REFUSED, *BODY, *STORE, *WAIT),
        dependencies=[may_write],
    )
    async def add_texts(request: schemas.NewTexts) -> AddedTexts:
        found = await run_in_threadpool(read_texts, request.texts, service.limits)
        return await _label_and_keep(service, found, request.language)

    @app.post(
        "/v1/texts:import",
        summary="Add the sentences of a file that nobody labelled",
        description=_TEXTS,
        responses=_problems(*REFUSED, *FILE, *STORE, *WAIT),
        dependencies=[may_write],
        openapi_extra={"requestBody": {"required": True, "content": {"text/plain": _PLAIN}}},
    )
    async def import_text(
        request: Request, language: Annotated[str, Query(pattern="^[a-z]{2,3}$", description="ISO 639 code.")]
    ) -> AddedTexts:
        found = await run_in_threadpool(read_file, await request.body(), service.limits)
        return await _label_and_keep(service, found, language)


async def _label_and_keep(service: Service, found: FoundSentences, language: str) -> AddedTexts:
    """Has sentences labelled, stores those whose labels may shape answers, and counts the others by reason."""
    service.kept()  # before they are labelled for nothing
    labelled = await service.label(found.sentences, language)
    added = await service.stored(lambda store: store.add_labelled(labelled.sentences, bundle=labelled.bundle))
    different, certain = len(found.sentences), len(labelled.sentences)
    return AddedTexts(
        found=found.found,
        kept=len(added.examples),
        left_out=LeftOut(found.found - different, different - certain, added.by_people, added.stored),
        examples=tuple(example.id for example in added.examples),
        replaced=added.replaced,
        labelled_by=labelled.bundle,
    )


def _add_kept_examples(app: FastAPI, service: Service) -> None:
    may_read, may_write = service.may("read_examples"), service.may("write_examples")
    refusals = _problems(*REFUSED, *STORE)

    @app.get("/v1/examples", summary="List examples", responses=refusals, dependencies=[may_read])
    async def listed(
        after: Annotated[int, Query(ge=0, le=2**53)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> ExamplePage:
        # One more than asked for says whether there is a next page.
        found = await service.stored(lambda store: store.page(after, limit + 1))
        last = found[limit - 1].id if len(found) > limit else None
        return ExamplePage(tuple(example.as_answer() for example in found[:limit]), next=last)

    @app.get("/v1/examples/{number}", summary="One example", responses=refusals, dependencies=[may_read])
    async def one(number: int) -> Example:
        example = await service.stored(lambda store: store.get(number))
        if example is None:
            raise _no_example(number)
        return example.as_answer()

    @app.delete(
        "/v1/examples/{number}",
        status_code=204,
        summary="Delete an example",
        responses=refusals,
        dependencies=[may_write],
    )
    async def delete(number: int) -> Response:
        if not await service.stored(lambda store: store.delete(number)):
            raise _no_example(number)
        return Response(status_code=204)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: the problems that it may answer with, and 500, which every route may."""
    problem = {"model": Problem, "content": {problems.MEDIA_TYPE: {}}}
    return {status: problem for status in sorted({*statuses, 500})}


def _sentence(number: int, example: schemas.NewExample, labels: Sequence[str], limits: Limits) -> Sentence:
    """A new example as the store takes it. ProblemError 422 where it makes no sense."""
    try:
        if example.text is not None:
            if len(example.text) > limits.characters:
                raise UserError(f"{len(example.text)} characters, at most {limits.characters}; cut the text.")
            marked = [(entity.start, entity.end, entity.label) for entity in example.entities or ()]
            return sentence_of(example.text, marked, labels=labels)
        return sentence_of_words(example.words or [], example.tags or [], labels=labels, language=example.language)
    except UserError as error:
        raise ProblemError(422, str(error), field=f"examples.{number}") from None


def _no_example(number: int) -> ProblemError:
    return ProblemError(404, f"There is no example {number}. GET /v1/examples lists them.")
