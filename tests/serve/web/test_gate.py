"""What is decided before a request's body is there, what ends one that does not come, and when the service is ready."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from metacross.client.contract import Readiness
from serve.web.auth import Token
from serve.web.limits import Limits
from serve.web.routes import make_app
from tests.serve.web.test_routes import Failing, refused

LIMITS = Limits(body_bytes=1 << 16, texts=4, characters=1000, neighbours=8, work=2000, seconds=0.1)
BODIES = ["/v1/entities", "/v1/entities:stream", "/v1/examples", "/v1/examples:import", "/v1/texts"]
Receive = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def service() -> FastAPI:
    return make_app(Failing(AssertionError("asked")), None, limits=LIMITS)


@pytest.fixture(scope="module")
def guarded() -> FastAPI:
    tokens = [Token(token="r" * 16, may=frozenset({"read_examples"}))]
    return make_app(Failing(AssertionError("asked")), None, limits=LIMITS, tokens=tokens)


def asked(service: FastAPI, path: str, receive: Receive, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to a request whose body comes as `receive` says."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(asyncio.wait_for(service(scope, receive, send), 20))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


async def never() -> dict[str, Any]:
    raise AssertionError("the body was read")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("token", "status"), [("", 401), ("Bearer " + "r" * 16, 403)])
def test_a_token_is_checked_before_the_body_is_read(guarded: FastAPI, path: str, token: str, status: int) -> None:
    headers = {"content-type": "application/json", "authorization": token}
    assert asked(guarded, path, never, headers)[0] == status


@pytest.mark.parametrize("path", BODIES)
def test_a_compressed_body_is_refused_unread(service: FastAPI, path: str) -> None:
    status, problem = asked(service, path, never, {"content-type": "application/json", "content-encoding": "gzip"})
    assert (status, problem["status"]) == (415, 415) and "without Content-Encoding" in problem["detail"]
    packed = gzip.compress(b'{"text": "a"}')
    answer = TestClient(service).post(path, content=packed, headers={"content-encoding": "deflate"})
    refused(answer, 415, "Content-Encoding")


@pytest.mark.parametrize("path", ["/v1/entities", "/v1/texts"])
def test_a_body_that_stalls_is_ended(service: FastAPI, path: str) -> None:
    pieces = [b'{"text": ']

    async def stalling() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError

    status, problem = asked(service, path, stalling, {"content-type": "application/json"})
    assert (status, problem["status"]) == (408, 408) and "did not arrive" in problem["detail"]


class Queue(Failing):
    """A backend whose requests wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(None)
        self.seconds = seconds

    async def readiness(self) -> Readiness:
        return Readiness("ready", "b1", self.seconds)


def test_ready_is_who_answers_in_time() -> None:
    with TestClient(make_app(Queue(0.02), None, limits=LIMITS)) as client:
        assert client.get("/readyz").json() == {"status": "ready", "bundle": "b1", "queue_age_s": 0.02, "taggers": 1}
    with TestClient(make_app(Queue(31), None, limits=LIMITS)) as client:
        answer = client.get("/readyz")
        refused(answer, 503, "waited for 31 s")
        assert answer.headers["retry-after"] == "5"
