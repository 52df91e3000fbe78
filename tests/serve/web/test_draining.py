"""The end of a service: no new requests, and those under way are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from metacross.client.contract import EntitiesAnswer, Model, ModelName
from serve.jobs import Labelled
from serve.web.draining import Draining
from serve.web.limits import Limits
from serve.web.routes import make_app

LIMITS = Limits(body_bytes=1 << 20, texts=8, characters=2000, neighbours=100, work=10**6, seconds=30)


class Held:
    """A backend that answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def tag(self, jobs: Any, progressed: Any) -> EntitiesAnswer:
        self.asked.set()
        await self.go_on.wait()
        return EntitiesAnswer((), ModelName("5f0c2a91be77", "metacross"))

    async def label(self, sentences: Any, language: str, progressed: Any) -> Labelled:
        raise AssertionError

    async def model(self) -> Model:
        return Model("5f0c2a91be77", "metacross")


async def asked(client: httpx.AsyncClient, backend: Held) -> asyncio.Task[httpx.Response]:
    """A request that is under way."""
    task = asyncio.create_task(client.post("/v1/entities", json={"text": "a"}))
    await asyncio.wait_for(backend.asked.wait(), 30)
    return task


def client_of(backend: Held, draining: Draining) -> httpx.AsyncClient:
    app = make_app(backend, None, limits=LIMITS, draining=draining)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def test_requests_under_way_are_answered_and_new_ones_are_not_taken() -> None:
    async def run() -> None:
        backend, draining = Held(), Draining()
        async with client_of(backend, draining) as client:
            under_way = await asked(client, backend)
            ended = asyncio.create_task(draining.drain(30))
            await asyncio.sleep(0)
            for answer in (await client.get("/readyz"), await client.post("/v1/entities", json={"text": "b"})):
                assert answer.status_code == 503 and "ending" in answer.json()["detail"]
                assert answer.headers["connection"] == "close" and answer.headers["retry-after"] == "5"
            assert not ended.done()
            backend.go_on.set()
            assert (await under_way).status_code == 200
            assert await ended == 0

    asyncio.run(run())


def test_waiting_has_an_end() -> None:
    async def run() -> None:
        backend, draining = Held(), Draining()
        async with client_of(backend, draining) as client:
            under_way = await asked(client, backend)
            assert await draining.drain(0.01) == 1
            under_way.cancel()

    asyncio.run(run())


def test_nothing_under_way_needs_no_waiting() -> None:
    assert asyncio.run(Draining().drain(30)) == 0
