"""How much a client may ask for: the limits, who is counted, what it is told, and the memory that takes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from metacross.client.contract import EntitiesAnswer, ModelName, Result
from serve.jobs import Job
from serve.web.auth import Token, read_tokens
from serve.web.rates import BURST_S, Account, Accounts, Rates
from serve.web.routes import make_app
from tests.serve.web.test_limits import LIMITS
from tests.serve.web.test_routes import Failing, refused

FREE = Rates(0, 0, 0)
ANA, BEN = ({"authorization": f"Bearer {letter * 16}"} for letter in "ab")
TOKENS = [Token(name=name, token=name[0] * 16, may=frozenset({"tag"})) for name in ("ana", "ben")]


class Echo(Failing):
    """A backend that finds nothing, each time when it is told to."""

    def __init__(self, go_on: asyncio.Event | None = None) -> None:
        super().__init__(None)
        self._go_on = go_on

    async def tag(self, jobs: Sequence[Job], progressed: Callable[[], None]) -> EntitiesAnswer:
        if self._go_on:
            await self._go_on.wait()
        return EntitiesAnswer(tuple(Result(str(job.text), ()) for job in jobs), ModelName("b1", "metacross"))


def service(rates: Rates | None, **settings: Any) -> FastAPI:
    return make_app(Echo(), None, limits=LIMITS, rates=rates, **settings)


def tag(client: TestClient, text: str = "a", **headers: str) -> Any:
    return client.post("/v1/entities", json={"text": text}, headers=headers)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("per_s", [0.01, 1, 7])
def test_an_account_fills_at_its_rate_and_no_further(per_s: float) -> None:
    clock = Clock()
    account = Account(Rates(per_s, 0, 0), clock)

    def taken() -> int:
        number = 0
        while account.refusal() is None:
            with account.request():
                number += 1
        return number

    burst = max(1, int(per_s * BURST_S))
    assert taken() == burst
    refusal = account.refusal()
    assert refusal is not None and refusal[1] == pytest.approx(1 / per_s)
    clock.now += 1 / per_s + 1e-6
    assert taken() == 1
    clock.now += 10_000
    assert taken() == burst


def test_a_long_text_is_taken_and_paid_for_afterwards() -> None:
    clock = Clock()
    account = Account(Rates(0, 100, 0), clock)
    assert account.refusal() is None
    account.spend(5000)
    assert account.refusal() == ("100 characters a second (serve.characters_per_s)", 40.0)
    clock.now += 40
    assert account.refusal() is None


def test_of_many_clients_only_so_many_are_remembered() -> None:
    accounts = Accounts(Rates(1, 0, 0), most=3)
    with accounts.of("busy").request():
        for number in range(10):
            accounts.of(str(number))
            assert len(accounts) <= 3
        assert accounts.of("busy").under_way == 1
    assert accounts.of("9") is accounts.of("9")


def test_a_refusal_names_the_client_and_the_limit_and_says_when_to_come_again() -> None:
    with TestClient(service(Rates(0.1, 0, 0), tokens=TOKENS)) as client:
        assert tag(client, **ANA).status_code == 200
        answer = tag(client, **ANA)
        refused(answer, 429, "ana may send 0.1 requests a second (serve.requests_per_s). Try again in 10 s.")
        assert answer.headers["retry-after"] == "10"
        assert tag(client, **BEN).status_code == 200, "others are not touched"
        refused(tag(client), 401)
        assert client.get("/healthz").status_code == 200


def test_characters_are_counted_alike_in_every_script_and_escaped() -> None:
    for body in ('{"text": "北京北京"}'.encode(), json.dumps({"text": "北京北京"}).encode(), b'{"text": "Bern"}'):
        with TestClient(service(Rates(0, 1.7, 0))) as client:  # 17 characters at once, and the body has 16
            told = [client.post("/v1/entities", content=body, headers=JSON).status_code for _ in range(3)]
            assert told == [200, 200, 429]


JSON = {"content-type": "application/json"}


def test_addresses_are_counted_where_there_are_no_tokens() -> None:
    app = service(Rates(0.1, 0, 0))
    told = []
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2"):
        with TestClient(app, client=(address, 4711)) as client:
            told.append(tag(client).status_code)
    assert told == [200, 200, 429, 200, 429]


def test_only_so_many_requests_are_under_way_at_a_time() -> None:
    async def run() -> None:
        go_on = asyncio.Event()
        app = make_app(Echo(go_on), None, limits=LIMITS, rates=Rates(0, 0, 2))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            asked = [asyncio.create_task(client.post("/v1/entities", json={"text": "a"})) for _ in range(3)]
            (first, *_), waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            refused(first.result(), 429, "2 requests at a time (serve.concurrent_requests)")
            go_on.set()
            assert {task.result().status_code for task in (await asyncio.wait(waiting))[0]} == {200}
            assert (await client.post("/v1/entities", json={"text": "a"})).status_code == 200

    asyncio.run(run())


def test_a_stream_is_slowed_down_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b'{"text": "a"}\n'

    async def run() -> str:
        app = service(Rates(0, 1, 0))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return (await client.post("/v1/entities:stream", content=pieces())).text

    monkeypatch.setattr("serve.web.rates.asyncio.sleep", sleep)
    assert len(asyncio.run(run()).splitlines()) == 4
    assert max(slept) == pytest.approx(4 * 14 - 10, abs=1)


def test_metrics_and_log_lines_have_the_name_and_not_the_token(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, str]] = []
    app = service(None, tokens=TOKENS, observed=lambda route, status, seconds, client: seen.append((status, client)))
    with TestClient(app) as client, caplog.at_level(logging.INFO, logger="metacross.serve"):
        tag(client, **ANA)
        client.get("/v1/examples", headers=BEN)
        tag(client, authorization="Bearer nobody")
    assert seen == [(200, "ana"), (403, "ben"), (401, "")]
    lines = [json.loads(record.message) for record in caplog.records if record.name == "metacross.serve"]
    assert [line.get("client") for line in lines] == ["ana", "ben", None]
    assert "a" * 16 not in caplog.text


def test_tokens_of_before_have_a_name_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "METACROSS_TOKENS", f"[{{token: {'a' * 16}, may: [tag]}}, {{name: b, token: {'b' * 16}, may: [tag]}}]"
    )
    assert [token.name for token in read_tokens("environment") or ()] == ["token-1", "b"]
