"""Why serve/batcher.py is ours: three faults of Ray's own `serve.batch`, each shown, beside what our batcher does.

Where one of these tests fails, an upgrade of Ray has mended that fault. When the last one is mended, `serve.batch` can
take our batcher's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from ray import serve as ray_serve

from serve.batcher import Batcher, Parts
from serve.pace import Pace

MOST = 4  # size of a batch
WAIT_S = 0.01
HANGS_S = 1.0  # what has no result after this time will never have one

Call = Callable[[int], Awaitable[int]]


class Whole:
    """A number to double, in one part."""

    def __init__(self, item: int, size: int) -> None:
        self.item, self.costs, self.alone_from, self.doubled = item, (size,), 1, 0

    def put_together(self, start: int, end: int) -> None:
        """Nothing is left to do."""

    def result(self) -> int:
        return self.doubled


class Batches:
    """Doubles numbers, in batches. A number is its own size; a negative one makes the size function raise.

    Attributes:
        seen: the batches, in their order.
        go: batches after the first begin when this is set.
    """

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = asyncio.Event()

    def size(self, item: int) -> int:
        if item < 0:
            raise ValueError(f"{item} has no size")
        return item

    def double(self, items: list[int]) -> list[int]:
        self.seen.append(items)
        return [2 * item for item in items]

    def by_ray(self) -> Call:
        """By Ray's decorator."""

        @ray_serve.batch(
            max_batch_size=MOST,
            batch_wait_timeout_s=WAIT_S,
            batch_size_fn=lambda items: sum(self.size(item) for item in items),
        )
        async def work(items: list[int]) -> list[int]:
            if self.seen:
                await self.go.wait()
            return self.double(items)

        call: Call = work
        return call

    def by_us(self) -> Call:
        """By our batcher."""
        loop = asyncio.get_running_loop()

        def work(batch: list[Parts[Whole]]) -> None:
            if self.seen:
                asyncio.run_coroutine_threadsafe(self.go.wait(), loop).result()
            for parts, result in zip(batch, self.double([parts.work.item for parts in batch]), strict=True):
                parts.work.doubled = result

        batches: Batcher[Whole, int] = Batcher(work, most=MOST, quantum=MOST, pace=Pace(1.0), wait_s=WAIT_S)
        return lambda item: batches(lambda: Whole(item, self.size(item)))


@pytest.fixture(autouse=True)
def replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `serve.batch` asks of the replica that it believes to run in."""
    context = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=100))
    monkeypatch.setattr(ray_serve, "get_replica_context", lambda: context)


def test_an_item_larger_than_a_batch_fails() -> None:
    async def run() -> None:
        with pytest.raises(RuntimeError, match="greater than max_batch_size"):
            await Batches().by_ray()(MOST + 1)
        assert await Batches().by_us()(MOST + 1) == 2 * (MOST + 1)

    asyncio.run(run())


def test_what_did_not_fit_goes_to_the_end_of_the_queue() -> None:
    async def run(batched: Callable[[Batches], Call]) -> list[list[int]]:
        batches = Batches()
        call = batched(batches)
        await call(1)  # from here on batches wait, so that items gather
        items = [asyncio.create_task(awaited(call, item)) for item in (2, 3, 2)]
        await asyncio.sleep(5 * WAIT_S)
        batches.go.set()
        await asyncio.gather(*items)
        return batches.seen

    assert asyncio.run(run(Batches.by_ray)) == [[1], [2], [2], [3]], "the 3 did not fit beside the first 2"
    assert asyncio.run(run(Batches.by_us)) == [[1], [2], [3], [2]]


def test_a_size_function_that_raises_hangs_the_queue_for_ever() -> None:
    async def run(batched: Callable[[Batches], Call]) -> list[asyncio.Task[int]]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # Ray's task dies unheard
        call = batched(Batches())
        raising = asyncio.create_task(awaited(call, -1))
        await asyncio.sleep(5 * WAIT_S)
        good = asyncio.create_task(awaited(call, 1))
        await asyncio.wait([raising, good], timeout=HANGS_S)
        return [raising, good]

    assert all(task.cancelled() for task in asyncio.run(run(Batches.by_ray))), "both waited until the loop ended"
    raising, good = asyncio.run(run(Batches.by_us))
    assert (str(raising.exception()), good.result()) == ("-1 has no size", 2)


async def awaited(call: Call, item: int) -> int:
    return await call(item)
