"""Requests take turns: those that wait together are done in one batch, and long ones a part at a time.

Two lines wait. In the first are requests that have just come. In the second are those that were begun and have parts
left. The lines take turns, a batch each, so a short request waits for one batch of a long one at most, however many
long ones there are; and long ones go on, however many short ones come. Within a line everybody gets the same cost.
While no short requests come, batches of long ones are longer, since small batches take more time for the same work.

Ray's decorator for batches, `serve.batch`, knows no parts. It also fails on an item larger than a batch, moves what
did not fit to the end of the queue, and hangs for ever when its size function raises. These three faults are shown, in
the Ray that is installed, by tests/serve/test_serve_batch_faults.py.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from serve.pace import Pace

QUIET_S = 10.0  # seconds without a short request after which batches of long ones are longer
LONGER = 3  # times; the next short request may have to wait for one of these

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
W = TypeVar("W", bound="Work[Any]")


class Work(Protocol[R_co]):
    """A request's work, in parts. A part may be done in any batch and in any company, after those before it."""

    @property
    def costs(self) -> Sequence[int]:
        """The cost of each part."""

    @property
    def alone_from(self) -> int:
        """The first part that has a turn of its own, as all after it have. Those before may share one."""

    def put_together(self, start: int, end: int) -> None:
        """Does what is left of parts that were done in a batch, for this request alone.

        Args:
            start: the first of these parts.
            end: the part behind the last one.
        """

    def result(self) -> R_co:
        """The request's answer, once all parts are done and put together. It is soon made."""


@dataclass(frozen=True)
class Parts(Generic[W]):
    """Parts of a request's work that are done in one batch.

    Attributes:
        work: the request's.
        start: its first part.
        end: the part behind its last one.
    """

    work: W
    start: int
    end: int

    @property
    def cost(self) -> int:
        """Of these parts together."""
        return sum(self.work.costs[self.start : self.end])


class Request(Generic[W, R]):
    """A request that waits or is under way.

    Args:
        begin: makes its work; called in the thread of the batches, when it is its turn.
        future: gets the answer, or what was raised. Whoever cancels it drops the request.

    Attributes:
        future: as given.
        done: how many of its parts are done.
        moved: when it came or its last part was done, in the time of `time.monotonic`.
    """

    def __init__(self, begin: Callable[[], W], future: asyncio.Future[R]) -> None:
        self.future, self.done, self.moved = future, 0, time.monotonic()
        self.work: W | None = None
        self.outcome: tuple[R | None, Exception | None] | None = None  # handed to the future by the event loop
        self._begin = begin

    def taken(self, most: int) -> Parts[W]:
        """Its next parts, of a cost of at most `most`; one of a higher cost, or with a turn of its own, is alone."""
        if self.work is None:
            self.work = self._begin()
        work = self.work
        end, cost = self.done, 0
        while end < len(work.costs) and (
            end == self.done or (end < work.alone_from and cost + work.costs[end] <= most)
        ):
            cost += work.costs[end]
            end += 1
        return Parts(work, self.done, end)


class Batcher(Generic[W, R]):
    """Does requests in batches, one batch at a time, all in the same thread.

    Args:
        do: does the parts of a batch; what it raises is raised to all callers of the batch.
        most: the largest cost of a batch of new requests; a part that costs more is a batch by itself.
        quantum: the cost that a request gets in its turn. What costs no more is done in its first turn.
        pace: finds the cost of a batch of requests that were begun before.
        wait_s: seconds that a request waits for others when it comes alone to an idle batcher.
    """

    def __init__(
        self, do: Callable[[list[Parts[W]]], None], *, most: int, quantum: int, pace: Pace, wait_s: float
    ) -> None:
        self._do, self._most, self._quantum, self._pace, self._wait_s = do, most, quantum, pace, wait_s
        # The event loop appends to the first; all else with both is done in the thread of the batches.
        self._new: deque[Request[W, R]] = deque()
        self._begun: deque[Request[W, R]] = deque()
        self._short_seen = -math.inf  # when a request was last done in its first batch
        self._others_waited = False  # while the last batch was one of new requests
        self._running: asyncio.Task[None] | None = None
        # A thread of its own. The event loop's pool would start further threads, since a thread there counts as busy
        # for a moment after its batch; and torch caches kernels, and the allocator free memory, for each thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._batch_began: float | None = None

    def __len__(self) -> int:
        """How many requests wait for a batch."""
        return len(self._new) + len(self._begun)

    async def __call__(self, begin: Callable[[], W]) -> R:
        """A request's answer. If its caller is cancelled, the rest of the request is dropped."""
        return await self.submit(begin).future

    def submit(self, begin: Callable[[], W]) -> Request[W, R]:
        """Puts a request into the first line.

        Args:
            begin: makes its work; what it raises is raised to this caller.
        """
        request: Request[W, R] = Request(begin, asyncio.get_running_loop().create_future())
        self._new.append(request)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return request

    def waits_s(self) -> float:
        """Seconds since the batch under way began, or since the request moved that has waited longest."""
        waiting = [*list(self._new), *list(self._begun)]  # copies at once, since another thread changes them
        since = [request.moved for request in waiting if not request.future.done()]
        if self._batch_began is not None:
            since.append(self._batch_began)
        return time.monotonic() - min(since) if since else 0.0

    async def _run(self) -> None:
        """Runs batches until nothing waits."""
        if len(self) == 1:
            await asyncio.sleep(self._wait_s)
        while self._new or self._begun:
            for request in await asyncio.get_running_loop().run_in_executor(self._thread, self._turn):
                if request.outcome is not None and not request.future.done():
                    result, error = request.outcome
                    if error is not None:
                        request.future.set_exception(error)
                    else:
                        request.future.set_result(result)  # type: ignore[arg-type]  # None only beside an error

    def _turn(self) -> list[Request[W, R]]:
        """Does a batch of one of the lines; returns its requests, those that it ends with their outcome."""
        self._batch_began = time.monotonic()
        new = bool(self._new) and not (self._begun and self._others_waited)
        self._others_waited = new and bool(self._begun)
        if new:
            batch, failed = _taken(self._new, self._most, self._quantum)
        else:
            quiet = time.monotonic() - self._short_seen > QUIET_S
            budget = self._pace.budget * (LONGER if quiet else 1)
            batch, failed = _taken(self._begun, budget, budget // max(1, len(self._begun)))
        began = time.monotonic()
        try:
            if batch:
                self._do([parts for _, parts in batch])
        except Exception as error:
            for request, _ in batch:
                request.outcome = None, error
        self._answer(batch, new, time.monotonic())
        self._pace.took(sum(part.cost for _, part in batch), time.monotonic() - began)
        self._batch_began = None
        return [*failed, *(request for request, _ in batch)]

    def _answer(self, batch: Sequence[tuple[Request[W, R], Parts[W]]], new: bool, now: float) -> None:
        """Makes the answers of the requests that a batch completed, and puts the others back."""
        for request, parts in batch:
            complete = parts.end == len(parts.work.costs)
            if new and complete:
                self._short_seen = now
            request.done, request.moved = parts.end, now
            try:
                if request.outcome is None:
                    parts.work.put_together(parts.start, parts.end)
                    if complete:
                        request.outcome = parts.work.result(), None
            except Exception as error:
                request.outcome = None, error
            if request.outcome is None:
                self._begun.append(request)


def _taken(
    line: deque[Request[W, R]], most: int, quantum: int
) -> tuple[list[tuple[Request[W, R], Parts[W]]], list[Request[W, R]]]:
    """Takes requests from the front of a line for a batch; also returns those that could not be begun.

    Args:
        line: those whose callers have gone are dropped from it.
        most: cost of the batch; its first request may have more.
        quantum: cost of the parts of a request, of which there is at least one.
    """
    batch: list[tuple[Request[W, R], Parts[W]]] = []
    failed: list[Request[W, R]] = []
    cost = 0
    while line:
        request = line[0]
        if not request.future.done():
            try:
                parts = request.taken(quantum)
            except Exception as error:
                request.outcome = None, error
                failed.append(request)
            else:
                if batch and cost + parts.cost > most:
                    break
                cost += parts.cost
                batch.append((request, parts))
        line.popleft()
    return batch, failed
