"""The Ingress deployment: the HTTP interface of serve/web in front of the Taggers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from metacross.client.contract import EntitiesAnswer, Model
from metacross.config import Config
from metacross.corpora.sentence import Sentence
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Refusal
from serve.logs import log_with_serve
from serve.node_metrics import read_metrics
from serve.prometheus import request_metrics
from serve.ray_internals import LateAppDeployment, http_host, listen_where_ray_does, metric_addresses
from serve.replicas import is_lost, retried_async
from serve.web.auth import is_loopback, read_tokens, refuse_open_door
from serve.web.browsers import Browsers
from serve.web.draining import Draining
from serve.web.limits import Limits
from serve.web.problems import busy
from serve.web.routes import make_app


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
        self._backend, self._settings = TaggerBackend(tagger), config.serve
        self._draining = Draining()

    async def drain(self) -> int:
        """Takes no new requests; returns how many of those under way were not answered within serve.drain_s."""
        return await self._draining.drain(self._settings.drain_s)

    def asgi_app(self) -> FastAPI:
        """The routes of serve/web."""
        settings = self._settings
        store = ExampleStore(settings.examples) if settings.examples else None
        limits = Limits(settings.max_body_mb << 20, settings.max_texts, settings.max_characters, settings.timeout_s)
        return make_app(
            self._backend,
            store,
            limits=limits,
            tokens=read_tokens(settings.auth),
            browsers=Browsers.of(settings.hosts, settings.cors, loopback=is_loopback(http_host())),
            draining=self._draining,
            metrics=_read_metrics,
            observed=request_metrics(),
            send_request_id=False,
        )


async def _read_metrics() -> str:
    return await read_metrics(await asyncio.to_thread(metric_addresses))


class TaggerBackend:
    """The `serve.web.service.Backend` behind a handle of Tagger."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def tag(self, jobs: Sequence[Job]) -> EntitiesAnswer | Refusal:
        """See `serve.web.service.Backend`."""
        answer: EntitiesAnswer | Refusal = await self._ask(lambda: self._handle.tag.remote(tuple(jobs)))
        return answer

    async def label(self, sentences: Sequence[Sentence], language: str) -> Labelled:
        """See `serve.web.service.Backend`."""
        labelled: Labelled = await self._ask(lambda: self._handle.label.remote(tuple(sentences), language))
        return labelled

    async def model(self) -> Model:
        """See `serve.web.service.Backend`."""
        model: Model = await self._ask(self._handle.model.remote)
        return model

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await retried_async(call)
        except BackPressureError as error:
            raise busy("Too many requests are waiting. Try again.") from error
        except Exception as error:
            if not is_lost(error):
                raise
            raise busy("No tagger answers at the moment. Try again.", seconds=5) from error
