"""The Tagger deployment: a model and its cache behind a queue that makes batches of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle

from metacross.bundle import Bundle
from metacross.client.contract import EntitiesAnswer, Model, Readiness
from metacross.config import Config
from metacross.corpora.sentence import Sentence
from metacross.retrieval.index_shard import read_shards
from metacross.retrieval.pools import Pool
from metacross.retrieval.sharded import ShardedIndex, ShardedPool
from metacross.tagging.tagger import AdaptiveTagger
from serve.batcher import Batcher, Parts
from serve.changeover import Changeover
from serve.engine import Engine, Labelling, Tagging
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Progress, Refusal
from serve.logs import log_with_serve
from serve.memory import return_freed_memory, spare_the_collector
from serve.pace import Pace
from serve.prometheus import TaggerMetrics
from serve.ray_internals import listen_where_ray_does, prefer_same_node
from serve.source_index import BundleVersion, RemotePool
from serve.source_shards import open_shards, refuse_other_tags, refuse_other_vectors
from serve.work_parts import WindowPart

SHORT = 96  # cost of a short request, see `serve.engine`; one that costs more counts for several in a batch
QUANTUM = 512  # cost of what is done of a new request in its first batch
PROGRESS_S = 1.0  # seconds between two messages about the progress of a long request
BATCHES_PER_TRIM = 16  # giving freed memory back takes about 14 ms, so 1 ms for each batch


@ray_serve.deployment
class Tagger:
    """A model and its cache. `user_config` names the bundle: a new one goes live between two batches.

    Args:
        source: handle of SourceIndex; or the handles of the shards, in order.
        config: the service's settings.
        overrides: the settings that differ from the bundle's, `key=value`.
    """

    def __init__(
        self, source: DeploymentHandle[Any] | list[DeploymentHandle[Any]], config: Config, overrides: Sequence[str]
    ) -> None:
        log_with_serve()
        listen_where_ray_does()
        self._source, self._settings = source, config.serve
        # These are the service's, and not those that the bundle was trained with.
        own = {name: getattr(config.serve, name) for name in ("factor_cache_mb", "max_neighbours")}
        self._overrides = [*overrides, *(f"serve.{name}={value}" for name, value in own.items())]
        for handle in source if isinstance(source, list) else [source]:
            prefer_same_node(handle)
        store = ExampleStore(config.serve.examples) if config.serve.examples else None
        self._engine = Engine(store, self._open)
        if self._engine.uses is not None:
            self._engine.uses.write_regularly()
        self._metrics = TaggerMetrics()
        self._batch_count = 0
        self._changeover = Changeover(self._load, self._metrics.pending)
        self._batches: Batcher[Tagging | Labelling, Any] = Batcher(
            self._do,
            most=SHORT * config.serve.batch_requests,
            quantum=QUANTUM,
            pace=Pace(config.serve.slice_ms / 1000),
            wait_s=config.serve.batch_wait_ms / 1000,
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Goes over to the bundle that is named, see `Changeover`. Serve calls it, also before the first request."""
        await self._changeover.reconfigure(user_config)

    async def tag(self, jobs: Sequence[Job]) -> EntitiesAnswer | Refusal:
        """Tags a request's texts, together with those of other requests."""
        answer: EntitiesAnswer | Refusal = await self._batches(lambda: self._engine.begin(jobs))
        return answer

    async def tag_long(self, jobs: Sequence[Job]) -> AsyncIterator[Progress | EntitiesAnswer | Refusal]:
        """Tags a long request's texts, a few windows at a time; tells how far it has come, and at last the answer."""
        async for told in self._telling(lambda: self._engine.begin(jobs)):
            yield told

    async def label(self, sentences: Sequence[Sentence], language: str) -> AsyncIterator[Progress | Labelled]:
        """Labels sentences by the bundle that answers, as `tag_long` tags."""
        async for told in self._telling(lambda: self._engine.begin_labels(sentences, language)):
            yield told

    async def model(self) -> Model:
        """See `serve.web.service.Backend`."""
        return self._engine.model()

    async def readiness(self) -> Readiness:
        """See `serve.web.service.Backend`."""
        return Readiness("ready", self._engine.model().bundle, round(self._batches.waits_s(), 3))

    async def _telling(self, begin: Callable[[], Tagging | Labelling]) -> AsyncIterator[Any]:
        request = self._batches.submit(begin)
        try:
            while not (await asyncio.wait([request.future], timeout=PROGRESS_S))[0]:
                yield Progress(request.done)
            yield request.future.result()
        finally:
            request.future.cancel()  # whoever asked has gone, or it is done and this does nothing

    def _load(self, bundle: str) -> None:
        self._engine.load(bundle)
        spare_the_collector()
        return_freed_memory()  # of the loading, and of the bundle before

    def _do(self, batch: list[Parts[Tagging | Labelling]]) -> None:
        some = (part for parts in batch for part in parts.work.parts[parts.start : parts.end])
        windows = sum(isinstance(part, WindowPart) and part.tags for part in some)
        self._metrics.batch(len(batch), windows, waiting=len(self._batches))
        self._engine.do(batch)
        figures = self._engine.cache_figures
        self._metrics.cache(hits=figures.hits, misses=figures.misses, size=figures.bytes)
        self._batch_count += 1
        if self._batch_count % BATCHES_PER_TRIM == 0:
            return_freed_memory()

    def _open(self, path: str) -> AdaptiveTagger:
        shards: list[ShardedIndex] = []
        directory = self._settings.index_shards

        def pool(bundle: Bundle) -> Pool:
            if not isinstance(self._source, list):
                return RemotePool(self._source, BundleVersion(path, bundle.digest))
            refuse_other_tags(bundle, read_shards(Path(directory)), directory)
            rerank, partial = self._settings.rerank, self._settings.partial_answers
            shards.append(open_shards(self._source, directory, rerank=rerank, partial=partial))
            return ShardedPool(shards[0])

        tagger = AdaptiveTagger.from_pretrained(
            path, device=self._settings.device, overrides=self._overrides, pool=pool, timed=self._metrics.stage
        )
        for index in shards:
            refuse_other_vectors(tagger, index, directory)
        return tagger
