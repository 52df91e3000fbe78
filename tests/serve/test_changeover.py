"""From one bundle to the next: the last one named that can be loaded answers, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from metacross.errors import UserError
from serve.changeover import Changeover, log


class Loader:
    """Loads what it is told to, when it is let; `/broken` cannot be loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.begun: list[str] = []
        self.pending: list[bool] = []
        self.go = threading.Event()
        self.go.set()
        self.changeover = Changeover(self.load, self.pending.append)

    def load(self, path: str) -> None:
        self.begun.append(path)
        assert self.go.wait(30)
        if path == "/broken":
            raise RuntimeError("broken")
        self.loaded.append(path)

    async def name(self, *paths: str) -> None:
        for path in paths:
            await self.changeover.reconfigure({"bundle": path})


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.005)


def run(work: Callable[[Loader], Awaitable[None]]) -> Loader:
    loader = Loader()

    async def main() -> None:
        await work(loader)

    asyncio.run(main())
    return loader


def test_the_first_bundle_is_waited_for() -> None:
    async def work(loader: Loader) -> None:
        await loader.name("/one")
        assert loader.loaded == ["/one"]

    assert run(work).pending == [False]


def test_a_first_bundle_that_cannot_be_loaded_is_an_error() -> None:
    async def work(loader: Loader) -> None:
        with pytest.raises(RuntimeError, match="broken"):
            await loader.name("/broken")
        with pytest.raises(UserError, match="names no bundle"):
            await loader.changeover.reconfigure({})

    assert run(work).loaded == []


def test_nobody_waits_for_the_next_one() -> None:
    async def work(loader: Loader) -> None:
        await loader.name("/one")
        loader.go.clear()
        await asyncio.wait_for(loader.name("/two"), 5)
        await until(lambda: loader.begun == ["/one", "/two"])
        assert loader.loaded == ["/one"]
        assert loader.pending[-1]
        loader.go.set()
        await until(lambda: not loader.pending[-1])

    assert run(work).loaded == ["/one", "/two"]


def test_the_last_one_named_answers_and_those_between_are_not_loaded() -> None:
    async def work(loader: Loader) -> None:
        await loader.name("/one")
        loader.go.clear()
        await loader.name("/two")
        await until(lambda: loader.begun[-1] == "/two")
        await loader.name("/three", "/four")
        loader.go.set()
        await until(lambda: loader.loaded[-1] == "/four" and not loader.pending[-1])

    assert run(work).begun == ["/one", "/two", "/four"]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, also where Ray keeps its log to itself."""
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)


def test_a_broken_one_stays_out_and_is_told(told: pytest.LogCaptureFixture) -> None:
    async def work(loader: Loader) -> None:
        await loader.name("/one", "/broken")
        await until(lambda: "was refused; answers go on by /one" in told.text)
        assert loader.pending[-1]
        await loader.changeover.reconfigure({"bundel": "/two"})
        await until(lambda: "names no bundle" in told.text)
        assert loader.pending[-1]
        await loader.name("/one")
        await until(lambda: not loader.pending[-1])

    assert run(work).loaded == ["/one"], "the one that answers is not loaded again"
