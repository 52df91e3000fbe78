"""The SourceShard deployments, one for each shard of the source index; and what asks all of them by their handles.

Every call names the version of the shards that it is about, and each replica keeps the last two. So a query is answered
by all shards of one version, also while the next one goes live: a Tagger opens it beside the bundle that answers, as it
does with every new bundle, once all replicas of all shards have loaded it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle

from metacross.bundle import Bundle
from metacross.config import Config
from metacross.errors import UserError
from metacross.retrieval.index_shard import IndexShard, ShardsFacts, read_shards, shard_folder, shards_digest
from metacross.retrieval.sharded import ShardedIndex
from metacross.tagging.tagger import AdaptiveTagger
from metacross.wording import counted
from serve.logs import log_with_serve
from serve.memory import return_freed_memory
from serve.ray_internals import listen_where_ray_does
from serve.replicas import OtherVersionError, ShardsGoneError, is_lost, retried

VERSIONS = 2  # that a replica keeps: the one that answers now, and the one before or after it
LOADING_SECONDS = 600.0  # a replica may take so long to load its shard
ANSWER_SECONDS = 5.0  # a shard that does not answer within this time is gone
MAY_BE_PARTIAL = frozenset({"search", "similarities"})  # methods without whose answers there still is one
SAME_VECTOR = 0.99  # cosine of a window's vectors, by the bundle and by what made the shards; less: other encoders

log = logging.getLogger("metacross.serve")


class ShardsVersion(NamedTuple):
    """The place of an index in shards, and its content's digest: another one may be put there."""

    path: str
    digest: str

    @classmethod
    def now(cls, path: str) -> ShardsVersion:
        """What is there now. UserError where there is none."""
        return cls(path, shards_digest(Path(path)))


def shard_name(number: int) -> str:
    """The name of a shard's deployment."""
    return f"SourceShard{number}"


@ray_serve.deployment(max_ongoing_requests=64)
class SourceShard:
    """A replica of one shard. It answers once the shard that is there when it starts is loaded.

    Args:
        config: the service's settings.
        number: which shard.
    """

    def __init__(self, config: Config, number: int) -> None:
        log_with_serve()
        listen_where_ray_does()
        self._use_gpu: bool | str = False if config.serve.device == "cpu" else "auto"
        self._number = number
        self._shards: OrderedDict[ShardsVersion, IndexShard] = OrderedDict()
        self._loading = threading.Lock()
        self._searching = threading.Lock()  # searches of a FAISS index on a GPU are not safe side by side
        self._shard(ShardsVersion.now(config.serve.index_shards))

    async def load(self, version: ShardsVersion) -> None:
        """Loads a version, if it is not loaded. OtherVersionError where another one is at its place."""
        await asyncio.to_thread(self._shard, version)

    async def call(self, version: ShardsVersion, method: str, arguments: tuple[Any, ...]) -> Any:
        """Calls a method of the shard's `IndexShard`. OtherVersionError where another version is at its place."""

        def called() -> Any:
            shard = self._shard(version)
            if method != "search":
                return getattr(shard, method)(*arguments)
            with self._searching:
                return shard.search(*arguments)

        return await asyncio.to_thread(called)

    def _shard(self, version: ShardsVersion) -> IndexShard:
        if version not in self._shards:
            with self._loading:
                if version not in self._shards:  # another thread may have loaded it while this one waited
                    self._shards[version] = self._opened(version)
                while len(self._shards) > VERSIONS:
                    self._shards.popitem(last=False)
                return_freed_memory()
        return self._shards[version]

    def _opened(self, version: ShardsVersion) -> IndexShard:
        path = Path(version.path)
        if (now := ShardsVersion.now(version.path)) != version:
            raise OtherVersionError(f"{path} is another index by now ({now.digest}, not {version.digest}).")
        records = read_shards(path)["shards"]
        if self._number >= len(records):
            raise UserError(
                f"{path} has {counted(len(records), 'shards')}, and no number {self._number}. Start the service anew."
            )
        return IndexShard.open(shard_folder(path, self._number), records[self._number], use_gpu=self._use_gpu)


class RemoteShards:
    """Asks the shards of one version, all at the same time; see `metacross.retrieval.sharded.Ask`.

    A shard that does not answer is gone until one of its replicas has the version loaded again. Until then it is not
    asked, so that only the first answer waits for it.

    Args:
        handles: of the shards' deployments, in order.
        version: which version.
        partial: whether a search goes on without a shard that is gone.
    """

    def __init__(self, handles: Sequence[DeploymentHandle[Any]], version: ShardsVersion, *, partial: bool) -> None:
        self._handles, self._version, self._partial = handles, version, partial
        self._gone: set[int] = set()
        # A call blocks a thread, and so does waiting for a shard that is gone.
        self._threads = ThreadPoolExecutor(2 * len(handles), thread_name_prefix="shards")

    def load(self) -> None:
        """Lets every replica of every shard load the version. It blocks until all have, or raises what one raised."""
        loading = [self._threads.submit(self._load, shard) for shard in range(len(self._handles))]
        for loaded in loading:
            loaded.result()

    def __call__(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Calls a method of the shards.

        Raises:
            ShardsGoneError: some are gone, and there is no answer without them.
        """
        called = {shard: self._threads.submit(self._call, shard, method, given) for shard, given in arguments.items()}
        results, gone = {}, []
        for shard, future in called.items():
            try:
                results[shard] = future.result()
            except ShardsGoneError:
                gone.append(shard)
        if gone:
            names = ", ".join(map(shard_name, gone))
            if not (self._partial and method in MAY_BE_PARTIAL):
                raise ShardsGoneError(f"A part of the source index does not answer: {names}.")
            log.warning("partial answers, without %s", names)
        return results

    def _load(self, shard: int) -> None:
        # A call waits until there is a replica; the broadcast reaches all that there are.
        handle = self._handles[shard]
        retried(lambda: handle.load.remote(self._version).result(timeout_s=LOADING_SECONDS))
        handle.broadcast("load", self._version).results(timeout_s=LOADING_SECONDS)

    def _call(self, shard: int, method: str, given: tuple[Any, ...]) -> Any:
        if shard in self._gone:
            raise ShardsGoneError(shard_name(shard))
        call = self._handles[shard].call
        try:
            return retried(lambda: call.remote(self._version, method, given).result(timeout_s=ANSWER_SECONDS))
        except Exception as error:
            if not (is_lost(error) or isinstance(error, TimeoutError)):
                raise
            self._gone.add(shard)
            self._threads.submit(self._wait_for, shard)
            raise ShardsGoneError(shard_name(shard)) from error

    def _wait_for(self, shard: int) -> None:
        try:
            self._handles[shard].load.remote(self._version).result(timeout_s=LOADING_SECONDS)
        except Exception as error:  # whatever it is, the next search meets it again
            log.warning("%s: %s", shard_name(shard), error)
        finally:
            self._gone.discard(shard)


def open_shards(handles: Sequence[DeploymentHandle[Any]], path: str, *, rerank: int, partial: bool) -> ShardedIndex:
    """Opens the shards that are at a place now, for searches.

    Args:
        handles: see `RemoteShards`.
        path: where they are.
        rerank: see `ShardedIndex`.
        partial: see `RemoteShards`.

    Raises:
        UserError: there are none, or not as many as there are deployments.
        RayError: a shard cannot be reached, or failed to load.
    """
    version = ShardsVersion.now(path)
    facts = read_shards(Path(path))
    if len(facts["shards"]) != len(handles):
        raise UserError(
            f"{path} has {counted(len(facts['shards']), 'shards')}, and the service was started with "
            f"{len(handles)}. Start it anew."
        )
    shards = RemoteShards(handles, version, partial=partial)
    shards.load()
    return ShardedIndex(facts, shards, rerank=rerank)


def refuse_other_tags(bundle: Bundle, facts: ShardsFacts, path: str) -> None:
    """Raises UserError where shards cannot stand in for a bundle's source sentences, by what they say of themselves."""
    if unknown := sorted(set(facts["tags"]) - set(bundle.tags)):
        raise UserError(f"{path}: tag {unknown[0]} is not one of the bundle's ({', '.join(bundle.tags)}).")
    if bundle.adopted:
        languages = ", ".join(sorted({adopted.language for adopted in bundle.adopted}))
        raise UserError(
            f"{bundle.path} has adopted {languages}, and shards would leave these sentences out. Post them as examples "
            "to the service with the bundle of before, or go without shards."
        )


def refuse_other_vectors(tagger: AdaptiveTagger, index: ShardedIndex, path: str) -> None:
    """Raises UserError where a tagger does not look windows up by vectors as those in the shards are."""
    number = np.array([index.facts["shards"][0]["first"]])
    (candidate,) = index.candidates(number.tolist())
    vectors_BH = tagger.vectors([candidate.window])
    same = index.facts["vector_size"] == vectors_BH.shape[1]
    similarity = float(index.similarities(vectors_BH, np.array([0]), number)[0]) if same else 0.0
    if similarity < SAME_VECTOR:
        raise UserError(
            f"{path}: its vectors are not those of this bundle's encoder (cosine {similarity:.2f} of a window with "
            "itself). Make it anew with the bundle's settings: model.encoder, model.max_pieces, model.frozen_layers, "
            "retrieval.pooling and retrieval.layer."
        )
