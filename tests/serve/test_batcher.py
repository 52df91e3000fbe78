"""Requests take turns, long ones a part at a time, with whatever goes wrong in one kept from the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from serve import batcher as module
from serve.batcher import Batcher, Parts
from serve.pace import LEAST, Pace


class Numbers:
    """A request: numbers to double, each a part that costs as much as it is."""

    def __init__(self, *numbers: int) -> None:
        if min(numbers, default=0) < 0:
            raise ValueError("less than nothing")
        self.costs = numbers
        self.doubled: list[int] = []
        self.alone_from = len(numbers) - numbers.count(3)  # the last ones, if they are 3, have turns of their own
        self.joined: list[tuple[int, int]] = []

    def put_together(self, start: int, end: int) -> None:
        if 19 in self.costs[start:end]:
            raise ValueError("19")
        self.joined.append((start, end))

    def result(self) -> list[int]:
        if 17 in self.costs:
            raise ValueError("17")
        return self.doubled


class Doubling:
    """Doubles numbers; holds its first batch until it is let go, so that others gather meanwhile."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []
        self.go, self.begun = threading.Event(), threading.Event()

    def __call__(self, batch: list[Parts[Numbers]]) -> None:
        self.batches.append([tuple(parts.work.costs[parts.start : parts.end]) for parts in batch])
        self.begun.set()
        assert self.go.wait(10)
        for parts in batch:
            numbers = parts.work.costs[parts.start : parts.end]
            if 13 in numbers:
                raise ValueError("13")
            parts.work.doubled += [2 * number for number in numbers]


class Fixed(Pace):
    """Batches of requests that were begun have a cost of 8."""

    def __init__(self) -> None:
        super().__init__(1.0)

    @property
    def budget(self) -> int:
        return 8


@pytest.fixture(autouse=True)
def no_longer_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests tell the same whether short requests came or not."""
    monkeypatch.setattr(module, "LONGER", 1)


def batcher(
    do: Callable[[list[Parts[Numbers]]], None], *, most: int = 8, wait_s: float = 0.0
) -> Batcher[Numbers, list[int]]:
    return Batcher(do, most=most, quantum=8, pace=Fixed(), wait_s=wait_s)


async def asked(batches: Batcher[Numbers, list[int]], *numbers: int) -> list[int]:
    return await batches(lambda: Numbers(*numbers))


async def gathered(
    work: Doubling, first: Sequence[int], *others: Sequence[int], most: int = 8
) -> list[list[int] | BaseException]:
    """A request that is under way when the others come."""
    batches = batcher(work, most=most)
    calls = [asyncio.create_task(asked(batches, *first))]
    await asyncio.to_thread(work.begun.wait, 10)
    calls += [asyncio.create_task(asked(batches, *numbers)) for numbers in others]
    await asyncio.sleep(0)
    assert len(batches) == len(others)
    work.go.set()
    return await asyncio.gather(*calls, return_exceptions=True)


def test_what_came_meanwhile_is_a_batch() -> None:
    work = Doubling()
    assert asyncio.run(gathered(work, [1], [2], [3])) == [[2], [4], [6]]
    assert work.batches == [[(1,)], [(2,), (3,)]]


def test_a_batch_has_its_size_and_order_is_kept() -> None:
    work = Doubling()
    found = asyncio.run(gathered(work, [1], [5], [3], [1], [9], [2]))
    assert found == [[2], [10], [6], [2], [18], [4]]
    assert work.batches == [[(1,)], [(5,), (3,)], [(1,)], [(9,)], [(2,)]], "9 is more than a batch, and one by itself"


def test_a_long_request_is_done_a_part_at_a_time_and_short_ones_go_between() -> None:
    work = Doubling()
    found = asyncio.run(gathered(work, [4] * 7, [1], [2], most=2))
    assert found == [[8] * 7, [2], [4]]
    assert work.batches == [[(4, 4)], [(1,)], [(4, 4)], [(2,)], [(4, 4)], [(4,)]]


def test_long_requests_share_a_batch_by_cost() -> None:
    work = Doubling()
    assert asyncio.run(gathered(work, [8], [2] * 8, [4] * 4, most=16)) == [[16], [4] * 8, [8] * 4]
    assert work.batches == [[(8,)], [(2,) * 4, (4, 4)], [(2, 2), (4,)], [(2, 2), (4,)]]


def test_many_long_requests_do_not_hold_up_a_short_one() -> None:
    work = Doubling()
    long = [[8] * 3] * 20
    found = asyncio.run(gathered(work, [8, 8], *long, [1], most=10**6))
    assert found == [[16, 16], *([[16] * 3] * 20), [2]]
    assert work.batches[1][-1] == (1,), "all that came have their first parts in one batch, here"
    later = Doubling()
    assert asyncio.run(gathered(later, [8] * 9, [1], most=8))[1] == [2]
    assert later.batches[1] == [(1,)]


def test_a_request_is_put_together_batch_by_batch_and_fails_alone() -> None:
    work, requests = Doubling(), [Numbers(4, 4, 4), Numbers(4, 19, 4), Numbers(1)]

    async def run() -> list[list[int] | BaseException]:
        batches = batcher(work, most=10**6)
        work.go.set()
        return await asyncio.gather(*(batches(lambda one=one: one) for one in requests), return_exceptions=True)  # type: ignore[misc]

    first, second, third = asyncio.run(run())
    assert (first, third) == ([8, 8, 8], [2]) and str(second) == "19"
    assert requests[0].joined == [(0, 2), (2, 3)] and requests[1].joined == [(0, 1)]


def test_the_last_parts_have_turns_of_their_own_whatever_they_cost() -> None:
    work = Doubling()
    assert asyncio.run(gathered(work, [1], [1, 1, 3, 3], [2], most=100)) == [[2], [2, 2, 6, 6], [4]]
    assert work.batches == [[(1,)], [(1, 1), (2,)], [(3,)], [(3,)]]


def test_batches_of_long_requests_are_longer_until_a_short_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGER", 2)
    work = Doubling()
    asyncio.run(gathered(work, [8] * 8))
    assert [len(parts) for ((*parts,),) in work.batches] == [1, 2, 2, 2, 1]
    work = Doubling()
    asyncio.run(gathered(work, [8] * 4, [1]))
    assert [len(parts) for ((*parts,),) in work.batches] == [1, 1, 1, 1, 1], "the second is the short request"


def test_a_batch_that_fails_fails_alone() -> None:
    work = Doubling()
    found = asyncio.run(gathered(work, [1], [13], [2], [3], most=15))
    assert found[0] == [2]
    assert [str(error) for error in found[1:3]] == ["13", "13"]
    assert found[3] == [6]


def test_who_cannot_be_begun_or_ended_fails_alone() -> None:
    work = Doubling()
    found = asyncio.run(gathered(work, [1], [-1], [2], [17], [3], most=30))
    assert [found[0], found[2], found[4]] == [[2], [4], [6]]
    assert [str(found[1]), str(found[3])] == ["less than nothing", "17"]


def test_a_request_without_parts_has_its_answer() -> None:
    work = Doubling()
    assert asyncio.run(gathered(work, [1], [])) == [[2], []]


def test_a_caller_that_gave_up_costs_nothing_more() -> None:
    work = Doubling()

    async def run() -> None:
        batches = batcher(work)
        first = asyncio.create_task(asked(batches, *[8] * 100))
        await asyncio.to_thread(work.begun.wait, 10)
        second, third = (asyncio.create_task(asked(batches, number)) for number in (2, 3))
        await asyncio.sleep(0)
        for given_up in (first, second):
            given_up.cancel()
        work.go.set()
        assert await third == [6]
        for given_up in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await given_up
        assert await asked(batches, 4) == [8], "and it goes on after it was idle"

    asyncio.run(run())
    assert work.batches == [[(8,)], [(3,)], [(4,)]]


def test_how_far_a_request_has_come_is_known() -> None:
    work = Doubling()

    async def run() -> None:
        batches = batcher(work)
        request = batches.submit(lambda: Numbers(8, 8))
        await asyncio.to_thread(work.begun.wait, 10)
        await asyncio.sleep(0.05)
        assert request.done == 0 and batches.waits_s() >= 0.05
        work.go.set()
        assert await request.future == [16, 16]
        assert request.done == 2 and batches.waits_s() == 0

    asyncio.run(run())


def test_first_ones_wait_for_others() -> None:
    work = Doubling()
    work.go.set()

    async def run() -> list[list[int]]:
        batches = batcher(work, wait_s=0.2)
        first = asyncio.create_task(asked(batches, 1))
        await asyncio.sleep(0.01)
        return list(await asyncio.gather(first, asked(batches, 2)))

    assert asyncio.run(run()) == [[2], [4]]
    assert work.batches == [[(1,), (2,)]]


def test_all_batches_run_in_one_thread() -> None:
    """Whatever else the event loop's pool of threads does: what torch caches for a thread is cached once."""
    threads: set[int] = set()

    def work(batch: list[Parts[Numbers]]) -> None:
        threads.add(threading.get_ident())

    async def run() -> None:
        batches = batcher(work)
        await asked(batches, 1)
        release = threading.Event()
        busy = [asyncio.create_task(asyncio.to_thread(release.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0)  # they take the pool's idle threads
        await asked(batches, 2)
        release.set()
        await asyncio.gather(*busy)

    asyncio.run(run())
    assert len(threads) == 1


def test_the_pace_is_learnt_from_batches_that_are_large_enough() -> None:
    pace = Pace(0.1)
    for _ in range(50):
        pace.took(1000, 0.25)
    assert pace.budget == pytest.approx(400, abs=1)
    pace.took(LEAST - 1, 10.0)
    assert pace.budget == pytest.approx(400, abs=1)
    for _ in range(50):
        pace.took(1000, 100.0)
    assert pace.budget == LEAST, "however slow the machine is"
