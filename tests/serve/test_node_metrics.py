"""The metrics of all replicas in one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from metacross.errors import RunError
from serve.node_metrics import joined, read_metrics
from serve.web.auth import Token
from serve.web.limits import Limits
from serve.web.routes import make_app
from tests.serve.web.test_draining import Held

LIMITS = Limits(body_bytes=1 << 20, texts=8, characters=2000, neighbours=100, work=10**6, seconds=30)
ONE = """# HELP ray_metacross_queue Requests that wait.
# TYPE ray_metacross_queue gauge
ray_metacross_queue{replica="a"} 1.0
# HELP ray_node_cpu CPUs.
# TYPE ray_node_cpu gauge
ray_node_cpu 2.0
# TYPE ray_metacross_request_seconds histogram
ray_metacross_request_seconds_bucket{le="1.0",replica="a"} 3.0
ray_metacross_request_seconds_count{replica="a"} 3.0
"""
TWO = ONE.replace('"a"', '"b"')


def test_each_metric_is_there_once_with_the_samples_of_all_nodes() -> None:
    assert joined([ONE, TWO]).splitlines() == [
        "# HELP ray_metacross_queue Requests that wait.",
        "# TYPE ray_metacross_queue gauge",
        'ray_metacross_queue{replica="a"} 1.0',
        'ray_metacross_queue{replica="b"} 1.0',
        "# TYPE ray_metacross_request_seconds histogram",
        'ray_metacross_request_seconds_bucket{le="1.0",replica="a"} 3.0',
        'ray_metacross_request_seconds_count{replica="a"} 3.0',
        'ray_metacross_request_seconds_bucket{le="1.0",replica="b"} 3.0',
        'ray_metacross_request_seconds_count{replica="b"} 3.0',
    ]
    assert joined([]) == joined(["ray_without_comments 1\n"]) == ""


def test_a_node_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(RunError, match="metrics cannot be read"):
        asyncio.run(read_metrics(["127.0.0.1:1"]))


async def figures() -> str:
    return joined([ONE])


async def unreachable() -> str:
    raise RunError("a node does not answer")


def answering(metrics: Callable[..., object], tokens: list[Token] | None = None) -> TestClient:
    return TestClient(make_app(Held(), None, limits=LIMITS, tokens=tokens, metrics=metrics))  # type: ignore[arg-type]


def test_the_service_answers_them() -> None:
    answer = answering(figures).get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'ray_metacross_queue{replica="a"} 1.0' in answer.text
    assert answering(unreachable).get("/metrics").status_code == 503


def test_where_there_are_tokens_they_need_one() -> None:
    tokens = [Token(token="t" * 16, may=frozenset({"tag"})), Token(token="m" * 16, may=frozenset({"read_metrics"}))]
    client = answering(figures, tokens)
    for token, status in (("", 401), ("t" * 16, 403), ("m" * 16, 200)):
        assert client.get("/metrics", headers={"authorization": f"Bearer {token}"}).status_code == status
