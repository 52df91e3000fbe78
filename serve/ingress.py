"""The Ingress deployment: the HTTP interface of serve/web in front of the Taggers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from metacross.client.contract import EntitiesAnswer, Model, Readiness
from metacross.config import Config
from metacross.corpora.sentence import Sentence
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Progress, Refusal
from serve.logs import log_with_serve
from serve.node_metrics import read_metrics
from serve.prometheus import request_metrics
from serve.ray_internals import LateAppDeployment, http_host, listen_where_ray_does, metric_addresses
from serve.replicas import is_lost, retried_async, shards_gone
from serve.web.auth import is_loopback, read_tokens, refuse_open_door
from serve.web.browsers import Browsers
from serve.web.draining import Draining
from serve.web.limits import Limits, characters_of
from serve.web.problems import busy
from serve.web.rates import Rates
from serve.web.routes import make_app

_FULL = "Too many requests are waiting. Try again."
_NOBODY = "No tagger answers at the moment. Try again."
SHORT_CHARACTERS = 2048  # a request with more is long: it tells of its progress, and takes one of a few places


@ray_serve.deployment
@ray_serve.ingress()
class Ingress(LateAppDeployment):
    """The HTTP interface in front of the Taggers.

    Args:
        tagger: handle of Tagger.
        config: the service's settings.

    Raises:
        UserError: others can reach the service, and nobody has said who may use it.
    """

    def __init__(self, tagger: DeploymentHandle[Any], config: Config) -> None:
        refuse_open_door(config.serve.auth, http_host())
        log_with_serve()
        listen_where_ray_does()
        settings = self._settings = config.serve
        self._backend = TaggerBackend(tagger, long=max(1, settings.batch_requests // 2), queue=settings.queue)
        self._draining = Draining()

    async def drain(self) -> int:
        """Takes no new requests; returns how many of those under way were not answered within serve.drain_s."""
        return await self._draining.drain(self._settings.drain_s)

    def asgi_app(self) -> FastAPI:
        """The routes of serve/web."""
        settings = self._settings
        store = ExampleStore(settings.examples) if settings.examples else None
        limits = Limits(
            body_bytes=settings.max_body_mb << 20,
            texts=settings.max_texts,
            characters=settings.max_characters,
            neighbours=settings.max_neighbours,
            work=settings.max_work,
            seconds=settings.timeout_s,
        )
        tokens, loopback = read_tokens(settings.auth), is_loopback(http_host())
        rates = Rates(settings.requests_per_s, settings.characters_per_s, settings.concurrent_requests)
        return make_app(
            self._backend,
            store,
            limits=limits,
            tokens=tokens,
            # On loopback without tokens all clients are the machine's own user, with one address.
            rates=None if tokens is None and loopback else rates,
            browsers=Browsers.of(settings.hosts, settings.cors, loopback=loopback),
            draining=self._draining,
            metrics=_read_metrics,
            observed=request_metrics(),
            send_request_id=False,
        )


async def _read_metrics() -> str:
    return await read_metrics(await asyncio.to_thread(metric_addresses))


class TaggerBackend:
    """The `serve.web.service.Backend` behind a handle of Tagger.

    A call that is cancelled, because it took too long or its client has gone, is cancelled at the Tagger as well.

    Args:
        handle: of Tagger.
        long: how many long requests may be at the Taggers at a time; others wait here, so that they leave room there.
        queue: how many may wait here.
    """

    def __init__(self, handle: DeploymentHandle[Any], *, long: int, queue: int) -> None:
        self._handle, self._long, self._queue = handle, asyncio.Semaphore(long), queue
        self._waiting = 0

    async def tag(self, jobs: Sequence[Job], progressed: Callable[[], None]) -> EntitiesAnswer | Refusal:
        """See `serve.web.service.Backend`."""
        answer: EntitiesAnswer | Refusal
        if sum(characters_of(job.text) for job in jobs) > SHORT_CHARACTERS:
            answer = await self._ask_long(self._handle.tag_long, tuple(jobs), progressed=progressed)
        else:
            answer = await self._ask(lambda: _answered(self._handle.tag.remote(tuple(jobs))))
        return answer

    async def label(self, sentences: Sequence[Sentence], language: str, progressed: Callable[[], None]) -> Labelled:
        """See `serve.web.service.Backend`."""
        labelled: Labelled = await self._ask_long(self._handle.label, tuple(sentences), language, progressed=progressed)
        return labelled

    async def model(self) -> Model:
        """See `serve.web.service.Backend`."""
        model: Model = await self._ask(lambda: _answered(self._handle.model.remote()))
        return model

    async def readiness(self) -> Readiness:
        """See `serve.web.service.Backend`."""
        found: list[Readiness] = await self._ask(lambda: self._handle.broadcast("readiness").results_async())
        if not found:  # all of them died a moment ago
            raise busy(_NOBODY, seconds=5)
        return replace(max(found, key=lambda one: one.queue_age_s), taggers=len(found))

    async def _ask_long(self, method: DeploymentHandle[Any], *arguments: Any, progressed: Callable[[], None]) -> Any:
        if self._waiting >= self._queue:
            raise busy(_FULL)
        self._waiting += 1
        try:
            await self._long.acquire()
        finally:
            self._waiting -= 1
        try:
            progressed()
            call = method.options(stream=True).remote
            return await self._ask(lambda: _last(call(*arguments), progressed))
        finally:
            self._long.release()

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await retried_async(call)
        except BackPressureError as error:
            raise busy(_FULL) from error
        except Exception as error:
            if (gone := shards_gone(error)) is not None:
                raise busy(f"{gone} Try again.", seconds=5) from error
            if not is_lost(error):
                raise
            raise busy(_NOBODY, seconds=5) from error


async def _answered(response: Any) -> Any:
    """What a call is answered; cancels the call where its caller is cancelled, which Serve does not do of itself.

    Args:
        response: Serve's DeploymentResponse, which its types do not tell from a generator.
    """
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


async def _last(responses: Any, progressed: Callable[[], None]) -> Any:
    """The last thing that a call tells; those before it tell how far it has come. Cancels as `_answered` does.

    Args:
        responses: Serve's DeploymentResponseGenerator.
        progressed: called whenever it has come further.
    """
    told, done = None, 0
    try:
        async for told in responses:
            if isinstance(told, Progress) and told.done > done:
                done = told.done
                progressed()
    except asyncio.CancelledError:
        responses.cancel()
        raise
    return told
