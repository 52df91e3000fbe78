"""Makes batches of items that arrive one at a time: as many as wait at the moment, up to a size.

Ray's decorator for this, `serve.batch`, fails on an item larger than a batch, moves what did not fit to the end of the
queue, and hangs for ever when its size function raises. tests/serve/test_serve_batch_faults.py shows all three in the
Ray that is installed; once it cannot, that decorator can take this class's place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


@dataclass
class _Waiting(Generic[T, R]):
    item: T
    size: int
    future: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Runs items in batches, one batch at a time, all in the same thread, in the order in which they came.

    Args:
        work: takes a batch's items and returns as many results; what it raises is raised to all callers of the batch.
        size: the size of an item, 1 or more.
        most: the largest sum of the sizes in a batch; an item that is larger is a batch by itself.
        wait_s: seconds that an item waits for others when it comes alone to an idle batcher.
    """

    def __init__(
        self, work: Callable[[list[T]], Sequence[R]], *, size: Callable[[T], int], most: int, wait_s: float
    ) -> None:
        self._work, self._size, self._most, self._wait_s = work, size, most, wait_s
        self._queue: deque[_Waiting[T, R]] = deque()
        self._running: asyncio.Task[None] | None = None
        # A thread of its own. The event loop's pool would start further threads, since a thread there counts as busy
        # for a moment after its batch; and torch caches kernels, and the allocator free memory, for each thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def __len__(self) -> int:
        """How many items wait for a batch."""
        return len(self._queue)

    async def __call__(self, item: T) -> R:
        """The item's result. If its caller is cancelled before its batch begins, the item is dropped."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(item, self._size(item), future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def between(self, work: Callable[[], S]) -> S:
        """The result of other work, which runs in the thread of the batches, between two of them."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        """Runs batches until nothing waits."""
        if len(self._queue) == 1 and self._queue[0].size < self._most:
            await asyncio.sleep(self._wait_s)
        loop = asyncio.get_running_loop()
        while batch := self._next():
            try:
                results = await loop.run_in_executor(self._thread, self._work, [waiting.item for waiting in batch])
                for waiting, result in zip(batch, results, strict=True):
                    if not waiting.future.done():
                        waiting.future.set_result(result)
            except Exception as error:
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(error)

    def _next(self) -> list[_Waiting[T, R]]:
        batch: list[_Waiting[T, R]] = []
        size = 0
        while self._queue:
            if self._queue[0].future.done():  # its caller was cancelled
                self._queue.popleft()
                continue
            if batch and size + self._queue[0].size > self._most:
                break
            size += self._queue[0].size
            batch.append(self._queue.popleft())
        return batch
