"""The HTTP interface: its routes and who may use them. No Ray: what answers is given to `make_app`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import PlainTextResponse

from metacross.client.contract import EntitiesAnswer, Model, ModelName, Readiness
from metacross.errors import RunError
from serve.examples import ExampleStore
from serve.web import api_page, page, problems, schemas
from serve.web.auth import Token
from serve.web.browsers import ANY_NAME, Browsers, guard
from serve.web.document import DocumentedAPI
from serve.web.draining import Drained, Draining
from serve.web.envelope import Envelope, Observed
from serve.web.example_routes import add_examples
from serve.web.gate import EarlyChecks
from serve.web.limits import Limits, jobs_of, refuse_too_many_neighbours, refuse_unknown_labels
from serve.web.lines import NDJSON, Lines, answered_lines
from serve.web.problems import busy
from serve.web.rates import Rated, Rates
from serve.web.responses import BODY, REFUSED, WAIT, problems_of
from serve.web.service import Backend, Service
from serve.web.text_labelling import TextLabeller
from serve.web.text_routes import add_texts

log = logging.getLogger("metacross.serve")

_PROMETHEUS = "text/plain; version=0.0.4"  # the format that Ray exports
_LINE = '{"id": 1, "text": "Otto moved from Bern to Quito."}\n'


def make_app(
    backend: Backend,
    store: ExampleStore | None,
    *,
    limits: Limits,
    tokens: list[Token] | None = None,
    rates: Rates | None = None,
    browsers: Browsers = ANY_NAME,
    draining: Draining | None = None,
    metrics: Callable[[], Awaitable[str]] | None = None,
    observed: Observed = lambda route, status, seconds, client: None,
    send_request_id: bool = True,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        backend: tags.
        store: keeps examples; None for a service without any.
        limits: what one request may ask for; a request for more is refused.
        tokens: who may do what; None lets everybody do everything.
        rates: how much each client may ask for; None: as much as it likes.
        browsers: which names it answers to, and whose pages may call it.
        draining: counts the requests under way, and says when no new ones are taken; None: they always are.
        metrics: gives the service's metrics, or raises RunError; None for a service that has none.
        observed: called after every request, see `Envelope`.
        send_request_id: answer with the header x-request-id; False behind Serve's proxy, which makes and sends it.
    """
    service = Service(backend, store, limits, tokens)
    labeller = TextLabeller(service)
    app = DocumentedAPI(
        title="metacross",
        summary="Named entities in languages nobody has labelled; similar labelled sentences shape every answer.",
        version="1",
        limits=limits,
        lifespan=lambda app: labeller.running(),
        docs_url=None,  # FastAPI's own pages come from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    app.state.send_request_id = send_request_id
    app.add_middleware(Rated, tokens=tokens, rates=rates)  # the innermost: the others answer what it refuses, too
    guard(app, browsers)
    if draining is not None:
        app.add_middleware(Drained, draining=draining)
    app.add_middleware(Envelope, body_bytes=limits.body_bytes, seconds=limits.seconds, observed=observed)
    app.router.route_class = EarlyChecks
    api_page.add(app)
    page.add(app, service)
    _add_probes(app, service)
    if metrics is not None:
        _add_metrics(app, service, metrics)
    _add_tagging(app, service)
    add_examples(app, service)
    add_texts(app, service, labeller)
    return app


# --- routes, by subject: a handler's name is part of its operationId in the document ---------------------------------


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Is the service alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Are requests answered in time?", responses=problems_of(*WAIT))
    async def readyz() -> Readiness:
        return await service.readiness()


def _add_metrics(app: FastAPI, service: Service, metrics: Callable[[], Awaitable[str]]) -> None:
    @app.get(
        "/metrics",
        summary="What the service has done, of all replicas, for Prometheus",
        responses={**problems_of(401, 403, 503), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
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
        "/v1/model", summary="What answers come from", responses=problems_of(*REFUSED, *WAIT), dependencies=[may_tag]
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
        responses=problems_of(*REFUSED, *BODY, *WAIT),
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
            **problems_of(*REFUSED, 415, *WAIT),
            200: {"content": {NDJSON: {}}, "description": "One line for each line of the request, in the same order."},
        },
        dependencies=[may_tag],
        response_class=Lines,
        openapi_extra={"requestBody": {"content": {NDJSON: {"schema": {"type": "string"}, "example": _LINE}}}},
    )
    async def stream(request: Request, options: Annotated[schemas.RequestOptions, Query()]) -> Lines:
        refuse_too_many_neighbours(options, 0, service.limits)  # those of a line are known when it comes
        if options.labels is not None:
            refuse_unknown_labels(options.labels, (await service.model()).labels)
        return Lines(answered_lines(request, options, service.tag, service.limits))
