"""The service on Ray Serve: three thin coats around plain classes.

    Ingress      HTTP (http.py)                      as many as there are Taggers
    Tagger       engine.py around AdaptiveTagger     a model and its cache each, requests in batches
    SourceIndex  support.SourcePool                  one a node, shared by the Taggers there

`serve run serve.app:build bundle=DIR` starts it; further arguments are settings, such as serve.replicas=2.
`serve deploy serve/config.yaml` does so from a file, and changes what runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

import ray
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import BackpressureConfig
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from metacross.bundle import load_source
from metacross.config import Config, ServeConfig, load_config
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError
from metacross.ray_session import cluster_resources
from metacross.retrieval.pools import Candidate, Neighbour, SourcePool
from metacross.tagging.tagger import AdaptiveTagger
from serve.batcher import Batcher
from serve.changeover import Changeover
from serve.engine import Answer, Engine, Job, Refusal, refuse_path
from serve.examples import ExampleStore
from serve.prometheus import TaggerMetrics, request_metrics
from serve.web.auth import read_tokens, refuse_open_door
from serve.web.limits import Limits
from serve.web.problems import busy
from serve.web.routes import make_app

ATTEMPTS = 4  # of a request whose replica dies under it
POOLS = 2  # bundles whose source a node keeps: the one that answers now, and the one before or after it
LOADING_SECONDS = 600.0  # a call to SourceIndex may wait for it to load a bundle
CHARACTERS = 256  # a request with more counts for several in a batch
LOST = (RayActorError, ReplicaUnavailableError)


def build(arguments: dict[str, str]) -> serve.Application:
    """What `serve run serve.app:build bundle=DIR [KEY=VALUE ...]` runs.

    Args:
        arguments: `bundle`, the directory or address that training left, and settings over those of ray_config.yaml.

    Raises:
        UserError: no bundle there, or a setting that makes no sense.
    """
    settings = dict(arguments)
    bundle = settings.pop("bundle", "")
    if not bundle:
        raise UserError("which bundle? Give bundle=DIR, what `metacross train` named at its end.")
    refuse_path(bundle)
    return _application(settings, bundle if "://" in bundle else str(Path(bundle).absolute()))


def from_config(arguments: dict[str, Any]) -> serve.Application:
    """What serve/config.yaml runs: `build` for a file whose Tagger names the bundle, in its user_config.

    Serve starts every replica anew when arguments change. A user_config that changes reaches the replicas that run.

    Args:
        arguments: settings over those of ray_config.yaml.

    Raises:
        UserError: a bundle among them, or a setting that makes no sense.
    """
    if "bundle" in arguments:
        raise UserError("args name a bundle. Name it in Tagger's user_config: there a new one needs no restart.")
    return _application(arguments, bundle="")


def _application(settings: Mapping[str, Any], bundle: str) -> serve.Application:
    overrides = [f"{key}={value}" for key, value in settings.items()]
    config = load_config(None, overrides)
    if config.serve.examples and "://" not in config.serve.examples:
        overrides.append(f"serve.examples={Path(config.serve.examples).absolute()}")  # replicas have other directories
        config = load_config(None, overrides)
    read_tokens(config.serve.auth)  # mistakes show here, not in a replica that starts again and again
    # A replica that ends answers what it has begun.
    common: dict[str, Any] = {"graceful_shutdown_timeout_s": config.serve.timeout_s + 10}
    # mypy does not see that the decorators made deployments of these classes.
    index = SourceIndex.options(  # type: ignore[attr-defined]
        **common, num_replicas=config.serve.index_replicas, ray_actor_options=_share(config, config.serve.index_gpus)
    ).bind(config)
    tagger = Tagger.options(  # type: ignore[attr-defined]
        **common,
        num_replicas=config.serve.replicas,
        ray_actor_options=_share(config, config.serve.tagger_gpus),
        max_ongoing_requests=2 * config.serve.batch_requests,
        max_queued_requests=config.serve.queue,
        user_config={"bundle": bundle},
    ).bind(index, config, overrides)
    # Far beyond what Taggers and their queue hold: an Ingress refuses with a reason; behind it Serve does, without.
    room = 4 * (config.serve.queue + 2 * config.serve.batch_requests)
    app: serve.Application = Ingress.options(  # type: ignore[attr-defined]
        **common,
        num_replicas=config.serve.replicas,
        ray_actor_options=_share(config, 0),
        max_ongoing_requests=room,
        max_queued_requests=room,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
    ).bind(tagger, config)
    return app


def _share(config: Config, gpus: float) -> dict[str, Any]:
    """What a replica reserves: a share of a GPU where there are any and they are wanted, else a processor's."""
    cluster = cluster_resources() if ray.is_initialized() else {}
    on_gpu = config.serve.device != "cpu" and cluster.get("GPU", 0) > 0
    return {"num_cpus": 0.1, "num_gpus": gpus if on_gpu else 0}


class _ServeLog(logging.Handler):
    """Hands on to Serve's own logger, which writes a file for each replica; others are lost there."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("ray.serve").handle(record)


def _log_with_serve() -> None:
    log = logging.getLogger("metacross")
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [_ServeLog()], False


# --- SourceIndex -----------------------------------------------------------------------------------------------------


@serve.deployment(max_ongoing_requests=64, max_replicas_per_node=1)
class SourceIndex:
    """A node's index over the source sentences; keeps the last few bundles', so that one can replace another."""

    def __init__(self, config: Config) -> None:
        _log_with_serve()
        self._use_gpu: bool | str = False if config.serve.device == "cpu" else "auto"
        self._pools: OrderedDict[Name, SourcePool] = OrderedDict()
        self._loading = threading.Lock()
        self._searching = threading.Lock()  # searches of a FAISS index on a GPU are not safe side by side

    async def size(self, name: Name) -> int:
        """How many windows may be support."""
        return len(await asyncio.to_thread(self._pool, name))

    async def search(self, name: Name, vectors_BH: NDArray[Any], k: int) -> list[list[Neighbour]]:
        """See `support.Pool`."""

        def work() -> list[list[Neighbour]]:
            pool = self._pool(name)
            with self._searching:
                return pool.search(vectors_BH, k)

        return await asyncio.to_thread(work)

    async def candidates(self, name: Name, numbers: Sequence[int]) -> list[Candidate]:
        """See `support.Pool`."""
        pool = await asyncio.to_thread(self._pool, name)
        return pool.candidates(numbers)

    def _pool(self, name: Name) -> SourcePool:
        """A bundle's sentences; others are answered from while they are loaded."""
        if name not in self._pools:
            with self._loading:
                if name not in self._pools:
                    self._pools[name] = self._loaded(name)
                while len(self._pools) > POOLS:
                    self._pools.popitem(last=False)
        return self._pools[name]

    def _loaded(self, name: Name) -> SourcePool:
        source = load_source(name.path, use_gpu=self._use_gpu)
        if source.digest != name.digest:
            raise UserError(f"{name.path} is another bundle by now ({source.digest}, not {name.digest}).")
        pieces = PieceEncoder(source.tokenizer, max_pieces=source.config.model.max_pieces)
        which = source.config.retrieval.candidates
        return SourcePool(source.sentences, source.index, pieces=pieces, which=which, place=name.path)


class Name(NamedTuple):
    """A bundle's, exactly: another one may come to the same place."""

    path: str
    digest: str


class _Elsewhere:
    """The pool of a bundle's source sentences, behind a handle of SourceIndex. Not for the event loop's thread."""

    def __init__(self, index: DeploymentHandle[Any], name: Name, seconds: float) -> None:
        self._index, self._name, self._seconds = index, name, seconds
        self._size = int(self._ask(index.size))

    def __len__(self) -> int:
        return self._size

    def search(self, vectors_BH: NDArray[Any], k: int) -> list[list[Neighbour]]:
        found: list[list[Neighbour]] = self._ask(self._index.search, vectors_BH, k)
        return found

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        found: list[Candidate] = self._ask(self._index.candidates, list(numbers)) if numbers else []
        return found

    def _ask(self, method: DeploymentHandle[Any], *arguments: Any) -> Any:
        attempt = 0
        while True:
            try:
                return method.remote(self._name, *arguments).result(timeout_s=self._seconds)
            except LOST:
                attempt += 1
                if attempt == ATTEMPTS:
                    raise
                sleep(random.uniform(0, 0.2 * 2**attempt))


# --- Tagger ----------------------------------------------------------------------------------------------------------


def _size(jobs: Sequence[Job]) -> int:
    """A request's size in short requests, so that a batch has about as many pieces whatever comes."""
    return max(1, sum(map(_characters, jobs)) // CHARACTERS)


def _characters(job: Job) -> int:
    return len(job.text) if isinstance(job.text, str) else sum(map(len, job.text))


@serve.deployment
class Tagger:
    """A model and its cache. `user_config` names the bundle: a new one goes live between two batches."""

    def __init__(self, index: DeploymentHandle[Any], config: Config, overrides: Sequence[str]) -> None:
        _log_with_serve()
        self._index, self._settings = index, config.serve
        self._overrides = [*overrides, f"serve.factor_cache_mb={config.serve.factor_cache_mb}"]
        # The SourceIndex of this node, if it has one. Its answers are waited for in threads, which takes a router in a
        # loop of its own: RAY_SERVE_THROUGHPUT_OPTIMIZED gives none.
        index._init(_prefer_local_routing=True, _run_router_in_separate_loop=True)  # type: ignore[no-untyped-call]
        store = ExampleStore(config.serve.examples) if config.serve.examples else None
        self._engine = Engine(store, self._open)
        self._metrics = TaggerMetrics()
        self._changeover = Changeover(self._engine.load, self._metrics.pending)
        self._batches: Batcher[Sequence[Job], Answer | Refusal] = Batcher(
            self._answer, size=_size, most=config.serve.batch_requests, wait_s=config.serve.batch_wait_ms / 1000
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Goes over to the bundle that is named, see `Changeover`."""
        await self._changeover.reconfigure(user_config)

    async def tag(self, jobs: Sequence[Job]) -> Answer | Refusal:
        """Tags a request's texts, together with those of others."""
        return await self._batches(jobs)

    async def model(self) -> dict[str, Any]:
        """See `http.Backend`."""
        return self._engine.model()

    def _answer(self, requests: list[Sequence[Job]]) -> list[Answer | Refusal]:
        self._metrics.batch(len(requests), sum(map(len, requests)), waiting=len(self._batches))
        answers = self._engine.answer(requests)
        self._metrics.cache(self._engine.cache_figures)
        return answers

    def _open(self, path: str) -> AdaptiveTagger:
        return AdaptiveTagger.from_pretrained(
            path,
            device=self._settings.device,
            overrides=self._overrides,
            pool=lambda bundle: _Elsewhere(self._index, Name(path, bundle.digest), LOADING_SECONDS),
            timed=self._metrics.stage,
        )


# --- Ingress ---------------------------------------------------------------------------------------------------------


@serve.deployment
@serve.ingress()
class Ingress:
    """The HTTP interface of http.py in front of the Taggers."""

    def __init__(self, tagger: DeploymentHandle[Any], config: Config) -> None:
        refuse_open_door(config.serve.auth, _host())
        _log_with_serve()
        self._backend, self._settings = _Taggers(tagger), config.serve

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's own name for it
        settings: ServeConfig = self._settings
        store = ExampleStore(settings.examples) if settings.examples else None
        limits = Limits(settings.max_body_mb << 20, settings.max_texts, settings.max_characters, settings.timeout_s)
        return make_app(
            self._backend,
            store,
            limits=limits,
            tokens=read_tokens(settings.auth),
            observed=request_metrics(),
            send_request_id=False,
        )


def _host() -> str | None:
    """The address that this Serve answers on; Ray has no public way to ask for it."""
    client = _get_global_client()
    return client.http_config.host if client else None


class _Taggers:
    """The backend behind a handle: what a lost replica had to do, another one does, since tagging changes nothing."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def tag(self, jobs: Sequence[Job]) -> Answer | Refusal:
        found: Answer | Refusal = await self._tried(lambda: self._handle.tag.remote(tuple(jobs)))
        return found

    async def model(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._tried(self._handle.model.remote)
        return found

    async def _tried(self, call: Callable[[], Awaitable[Any]]) -> Any:
        attempt = 0
        while True:
            try:
                return await call()
            except BackPressureError as error:
                raise busy("Too many requests are waiting. Try again.") from error
            except (*LOST, DeploymentUnavailableError, RayTaskError) as error:
                if isinstance(error, RayTaskError) and not isinstance(error.cause, LOST):
                    raise
                attempt += 1
                if attempt == ATTEMPTS:
                    raise busy("No tagger answers at the moment. Try again.", seconds=5) from error
                await asyncio.sleep(random.uniform(0, 0.2 * 2**attempt))
