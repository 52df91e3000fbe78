"""The SourceIndex deployment: a node's index over the source sentences; and the pool that searches it by a handle."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle

from metacross.bundle import load_source
from metacross.config import Config
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import Candidate, Neighbour, SourcePool
from serve.logs import log_with_serve
from serve.memory import return_freed_memory
from serve.ray_internals import listen_where_ray_does
from serve.replicas import retried

POOLS = 2  # bundles whose source a node keeps: the one that answers now, and the one before or after it
LOADING_SECONDS = 600.0  # a call to SourceIndex may have to wait until it has loaded a bundle


class BundleVersion(NamedTuple):
    """A bundle's place and its content's digest. The place alone would not do: another bundle may be put there."""

    path: str
    digest: str


@ray_serve.deployment(max_ongoing_requests=64, max_replicas_per_node=1)
class SourceIndex:
    """A node's index over the source sentences; keeps the last few bundles', so that one can replace another.

    Every call names the bundle that it is about: while a new one goes live both are searched, and no answer is mixed.
    """

    def __init__(self, config: Config) -> None:
        log_with_serve()
        listen_where_ray_does()
        self._use_gpu: bool | str = False if config.serve.device == "cpu" else "auto"
        self._pools: OrderedDict[BundleVersion, SourcePool] = OrderedDict()
        self._loading = threading.Lock()
        self._searching = threading.Lock()  # searches of a FAISS index on a GPU are not safe side by side

    async def size(self, bundle: BundleVersion) -> int:
        """How many of a bundle's windows may be support."""
        return len(await asyncio.to_thread(self._pool, bundle))

    async def search(self, bundle: BundleVersion, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `metacross.retrieval.pools.Pool`."""

        def search() -> list[list[Neighbour]]:
            pool = self._pool(bundle)
            with self._searching:
                return pool.search(vectors_BH, k)

        return await asyncio.to_thread(search)

    async def candidates(self, bundle: BundleVersion, numbers: Sequence[int]) -> list[Candidate]:
        """See `metacross.retrieval.pools.Pool`."""
        pool = await asyncio.to_thread(self._pool, bundle)
        return pool.candidates(numbers)

    def _pool(self, bundle: BundleVersion) -> SourcePool:
        """A bundle's sentences, loaded where they are not; the other bundles answer meanwhile."""
        if bundle not in self._pools:
            with self._loading:
                if bundle not in self._pools:  # another thread may have loaded it while this one waited
                    self._pools[bundle] = self._load(bundle)
                while len(self._pools) > POOLS:
                    self._pools.popitem(last=False)
                return_freed_memory()  # of the tokenizer, which only the loading needs
        return self._pools[bundle]

    def _load(self, bundle: BundleVersion) -> SourcePool:
        source = load_source(bundle.path, use_gpu=self._use_gpu)
        if source.digest != bundle.digest:
            raise UserError(f"{bundle.path} is another bundle by now ({source.digest}, not {bundle.digest}).")
        pieces = PieceEncoder(source.tokenizer, max_pieces=source.config.model.max_pieces)
        which = source.config.retrieval.candidates
        return SourcePool(source.sentences, source.index, pieces=pieces, which=which, place=bundle.path)


class RemotePool:
    """The pool of a bundle's source sentences behind a handle of SourceIndex; see `metacross.retrieval.pools.Pool`.

    Its calls block until SourceIndex has answered, so they must not run on the event loop's thread.

    Args:
        index: handle of SourceIndex.
        bundle: whose sentences are searched.

    Raises:
        UserError: another bundle is at its place by now; also from its methods.
        RayError: SourceIndex cannot be reached, or failed; also from its methods.
    """

    def __init__(self, index: DeploymentHandle[Any], bundle: BundleVersion) -> None:
        self._index, self._bundle = index, bundle
        self._size = int(self._ask(index.size))

    def __len__(self) -> int:
        return self._size

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `metacross.retrieval.pools.Pool`."""
        found: list[list[Neighbour]] = self._ask(self._index.search, vectors_BH, k)
        return found

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `metacross.retrieval.pools.Pool`."""
        found: list[Candidate] = self._ask(self._index.candidates, list(numbers)) if numbers else []
        return found

    def missing(self) -> tuple[int, ...]:
        """See `metacross.retrieval.pools.Pool`."""
        return ()

    def _ask(self, method: DeploymentHandle[Any], *arguments: Any) -> Any:
        return retried(lambda: method.remote(self._bundle, *arguments).result(timeout_s=LOADING_SECONDS))
