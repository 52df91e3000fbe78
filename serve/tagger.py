"""The Tagger deployment: a model and its cache behind a queue that makes batches of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle

from metacross.client.contract import EntitiesAnswer, Model
from metacross.config import Config
from metacross.corpora.sentence import Sentence
from metacross.tagging.tagger import AdaptiveTagger
from serve.batcher import Batcher
from serve.changeover import Changeover
from serve.engine import Engine
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Refusal
from serve.logs import log_with_serve
from serve.memory import return_freed_memory
from serve.prometheus import TaggerMetrics
from serve.ray_internals import listen_where_ray_does, prefer_same_node
from serve.source_index import BundleVersion, RemotePool

CHARACTERS = 256  # a request with more counts for several in a batch
BATCHES_PER_TRIM = 16  # giving freed memory back takes about 14 ms, so 1 ms for each batch


@ray_serve.deployment
class Tagger:
    """A model and its cache. `user_config` names the bundle: a new one goes live between two batches.

    Args:
        index: handle of SourceIndex.
        config: the service's settings.
        overrides: the settings that differ from the bundle's, `key=value`.
    """

    def __init__(self, index: DeploymentHandle[Any], config: Config, overrides: Sequence[str]) -> None:
        log_with_serve()
        listen_where_ray_does()
        self._index, self._settings = index, config.serve
        self._overrides = [*overrides, f"serve.factor_cache_mb={config.serve.factor_cache_mb}"]
        prefer_same_node(index)
        store = ExampleStore(config.serve.examples) if config.serve.examples else None
        self._engine = Engine(store, self._open)
        self._metrics = TaggerMetrics()
        self._batch_count = 0
        self._changeover = Changeover(self._engine.load, self._metrics.pending)
        self._batches: Batcher[Sequence[Job], EntitiesAnswer | Refusal] = Batcher(
            self._answer, size=_size, most=config.serve.batch_requests, wait_s=config.serve.batch_wait_ms / 1000
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Goes over to the bundle that is named, see `Changeover`. Serve calls it, also before the first request."""
        await self._changeover.reconfigure(user_config)

    async def tag(self, jobs: Sequence[Job]) -> EntitiesAnswer | Refusal:
        """Tags a request's texts, together with those of other requests."""
        return await self._batches(jobs)

    async def label(self, sentences: Sequence[Sentence], language: str) -> Labelled:
        """Labels sentences by the bundle that answers, between two batches."""
        return await self._batches.between(lambda: self._engine.label(sentences, language))

    async def model(self) -> Model:
        """See `serve.web.service.Backend`."""
        return self._engine.model()

    def _answer(self, requests: list[Sequence[Job]]) -> list[EntitiesAnswer | Refusal]:
        self._metrics.batch(len(requests), sum(map(len, requests)), waiting=len(self._batches))
        answers = self._engine.answer(requests)
        figures = self._engine.cache_figures
        self._metrics.cache(hits=figures.hits, misses=figures.misses, size=figures.bytes)
        self._batch_count += 1
        if self._batch_count % BATCHES_PER_TRIM == 0:
            return_freed_memory()
        return answers

    def _open(self, path: str) -> AdaptiveTagger:
        return AdaptiveTagger.from_pretrained(
            path,
            device=self._settings.device,
            overrides=self._overrides,
            pool=lambda bundle: RemotePool(self._index, BundleVersion(path, bundle.digest)),
            timed=self._metrics.stage,
        )


def _size(jobs: Sequence[Job]) -> int:
    """A request's size in short requests, so that all batches have about as many word pieces."""
    return max(1, sum(map(_characters, jobs)) // CHARACTERS)


def _characters(job: Job) -> int:
    return len(job.text) if isinstance(job.text, str) else sum(map(len, job.text))
