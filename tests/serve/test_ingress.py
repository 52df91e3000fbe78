"""The Ingress's calls to Taggers: long ones tell of their progress, take few places, and are cancelled there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from metacross.client.contract import EntitiesAnswer, ModelName, Readiness
from serve.ingress import SHORT_CHARACTERS, TaggerBackend
from serve.jobs import Job, Progress
from serve.web.limits import Limits
from serve.web.problems import ProblemError
from serve.web.service import Service

ANSWER = EntitiesAnswer((), ModelName("b1", "metacross"))
SHORT, LONG = [Job("Bern")], [Job("a" * (SHORT_CHARACTERS + 1))]
LIMITS = Limits(body_bytes=1, texts=1, characters=1, neighbours=1, work=1, seconds=0.2)


class Responses:
    """What a handle's call returns."""

    def __init__(self, told: list[Any], pause: float) -> None:
        self._told, self._pause, self.cancelled = told, pause, False

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        await asyncio.sleep(self._pause)
        return self._told[-1]

    async def __aiter__(self) -> AsyncIterator[Any]:
        for one in self._told:
            await asyncio.sleep(self._pause)
            yield one

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A handle of a Tagger, whose methods all tell the same."""

    def __init__(self, told: list[Any], pause: float) -> None:
        self._told, self._pause = told, pause
        self.calls: list[Responses] = []

    def __getattr__(self, name: str) -> Handle:
        return self

    def options(self, *, stream: bool) -> Handle:
        return self

    def broadcast(self, name: str) -> Handle:
        return self

    async def results_async(self) -> list[Any]:
        return self._told

    def remote(self, *arguments: Any) -> Responses:
        self.calls.append(Responses(self._told, self._pause))
        return self.calls[-1]


def service(handle: Handle, *, long: int = 2, queue: int = 9) -> Service:
    backend = TaggerBackend(handle, long=long, queue=queue)  # type: ignore[arg-type]
    return Service(backend, None, LIMITS, None)


def test_a_long_request_that_goes_on_is_waited_for() -> None:
    told = [*(Progress(done) for done in range(1, 6)), ANSWER]
    assert asyncio.run(service(Handle(told, 0.1)).tag(LONG)) == ANSWER, "0.6 s, though 0.2 s is the longest wait"


@pytest.mark.parametrize("told", [[Progress(1)] * 5 + [ANSWER], [Progress(0)] * 5 + [ANSWER]])
def test_one_that_does_not_is_ended_and_cancelled(told: list[Any]) -> None:
    handle = Handle(told, 0.15)
    with pytest.raises(ProblemError) as problem:
        asyncio.run(service(handle).tag(LONG))
    assert problem.value.status == 504
    assert [call.cancelled for call in handle.calls] == [True]


def test_a_short_one_is_cancelled_too() -> None:
    handle = Handle([ANSWER], 5.0)
    with pytest.raises(ProblemError):
        asyncio.run(service(handle).tag(SHORT))
    assert [call.cancelled for call in handle.calls] == [True]


def test_long_requests_leave_room_for_short_ones() -> None:
    async def run() -> None:
        handle = Handle([Progress(1), ANSWER], 0.05)
        ways = service(handle, long=2)
        long = [asyncio.create_task(ways.tag(LONG)) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert len(handle.calls) == 2, "the others wait their turn"
        assert await ways.tag(SHORT) == ANSWER
        assert await asyncio.gather(*long) == [ANSWER] * 4

    asyncio.run(run())


def test_only_so_many_long_ones_wait() -> None:
    async def run() -> None:
        handle = Handle([Progress(1), ANSWER], 0.01)
        ways = service(handle, long=1, queue=2)
        told = await asyncio.gather(*(ways.tag(LONG) for _ in range(4)), return_exceptions=True)
        (refused,) = [error for error in told if isinstance(error, ProblemError)]
        assert (refused.status, told.count(ANSWER)) == (503, 3) and "Retry-After" in refused.headers
        assert await ways.tag(LONG) == ANSWER, "and there is room again"

    asyncio.run(run())


def test_ready_are_all_taggers_and_the_slowest_counts() -> None:
    told = [Readiness("ready", "b1", 0.1), Readiness("ready", "b2", 7.0), Readiness("ready", "b1")]
    found = asyncio.run(TaggerBackend(Handle(told, 0), long=1, queue=1).readiness())  # type: ignore[arg-type]
    assert found == Readiness("ready", "b2", 7.0, taggers=3)
    with pytest.raises(ProblemError, match="No tagger answers"):
        asyncio.run(TaggerBackend(Handle([], 0), long=1, queue=1).readiness())  # type: ignore[arg-type]
