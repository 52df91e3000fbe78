"""Batches by size, in order, with whatever goes wrong in one kept from the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from serve.batcher import Batcher


class Work:
    """Doubles numbers; holds its first batch until it is let go, so that others gather meanwhile."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go, self.begun = threading.Event(), threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.begun.set()
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


def batcher(work: Callable[[list[int]], list[int]], *, most: int = 8) -> Batcher[int, int]:
    return Batcher(work, size=lambda item: item, most=most, wait_s=0.0)


async def gathered(work: Work, first: int, *others: int, most: int = 8) -> list[int | BaseException]:
    """One item that is under way when the others come."""
    batches = batcher(work, most=most)
    calls: list[Awaitable[int]] = [asyncio.create_task(_call(batches, first))]
    await asyncio.to_thread(work.begun.wait, 10)
    calls += [asyncio.create_task(_call(batches, item)) for item in others]
    await asyncio.sleep(0)
    assert len(batches) == len(others)
    work.go.set()
    return await asyncio.gather(*calls, return_exceptions=True)


async def _call(batches: Batcher[int, int], item: int) -> int:
    return await batches(item)


def test_what_came_meanwhile_is_a_batch() -> None:
    work = Work()
    assert asyncio.run(gathered(work, 1, 2, 3)) == [2, 4, 6]
    assert work.batches == [[1], [2, 3]]


def test_a_batch_has_its_size_and_order_is_kept() -> None:
    work = Work()
    assert asyncio.run(gathered(work, 1, 5, 3, 1, 9, 2)) == [2, 10, 6, 2, 18, 4]
    assert work.batches == [[1], [5, 3], [1], [9], [2]], "9 is larger than a batch, and one by itself"


def test_a_batch_that_fails_fails_alone() -> None:
    work = Work()
    found = asyncio.run(gathered(work, 1, 13, 2, 3, most=15))
    assert found[0] == 2
    assert [str(error) for error in found[1:3]] == ["13", "13"]
    assert found[3] == 6


def test_a_caller_that_gave_up_costs_nothing() -> None:
    work = Work()

    async def run() -> None:
        batches = batcher(work)
        first = asyncio.create_task(_call(batches, 1))
        await asyncio.to_thread(work.begun.wait, 10)
        second, third = (asyncio.create_task(_call(batches, item)) for item in (2, 3))
        await asyncio.sleep(0)
        second.cancel()
        work.go.set()
        assert (await first, await third) == (2, 6)
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await batches(4) == 8, "and it goes on after it was idle"

    asyncio.run(run())
    assert work.batches == [[1], [3], [4]]


def test_first_ones_wait_for_others() -> None:
    work = Work()
    work.go.set()

    async def run() -> list[int]:
        batches: Batcher[int, int] = Batcher(work, size=lambda item: 1, most=8, wait_s=0.2)
        first = asyncio.create_task(_call(batches, 1))
        await asyncio.sleep(0.01)
        return list(await asyncio.gather(first, _call(batches, 2)))

    assert asyncio.run(run()) == [2, 4]
    assert work.batches == [[1, 2]]


def test_all_batches_run_in_one_thread() -> None:
    """Whatever else the event loop's pool of threads does: what torch caches for a thread is cached once."""
    threads: set[int] = set()

    def work(items: list[int]) -> list[int]:
        threads.add(threading.get_ident())
        return items

    async def run() -> None:
        batches = batcher(work)
        await batches(1)
        release = threading.Event()
        busy = [asyncio.create_task(asyncio.to_thread(release.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0)  # they take the pool's idle threads
        await batches(2)
        release.set()
        await asyncio.gather(*busy)

    asyncio.run(run())
    assert len(threads) == 1


def test_other_work_runs_between_batches_in_their_thread() -> None:
    async def run() -> None:
        work = Work()
        batches = batcher(work)
        first = asyncio.create_task(_call(batches, 1))
        await asyncio.to_thread(work.begun.wait, 10)
        between = asyncio.create_task(batches.between(lambda: (len(work.batches), threading.get_ident())))
        await asyncio.sleep(0)
        second = asyncio.create_task(_call(batches, 2))
        await asyncio.sleep(0)
        work.go.set()
        batches_before, thread = await between
        assert (batches_before, await first, await second) == (1, 2, 4)
        assert thread == await batches.between(threading.get_ident)

    asyncio.run(run())
