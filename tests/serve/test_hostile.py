"""What a token that may only tag allows: not to fill the memory, hold up others, take their places, or leave work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions

from serve.app import build
from tests.helpers.machines import wait_for
from tests.helpers.ray_service import TEXT, replica_process

PORT = 8143
URL = f"http://127.0.0.1:{PORT}"
TOKEN, FLOODING = ({"authorization": f"Bearer {letter * 16}"} for letter in "tf")
LONG = (f"{TEXT} " * 3000)[:100_000]
MOST_MB = 400  # that the Tagger's memory may grow by, with a tiny bundle and a small cache

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tokens = tmp_path_factory.mktemp("hostile") / "tokens.yaml"
    tokens.write_text(yaml.safe_dump([{"token": letter * 16, "may": ["tag"]} for letter in "tf"]), encoding="utf-8")
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT))
    settings = {
        "device": "cpu",
        "examples": "",
        "auth": str(tokens),
        "factor_cache_mb": "16",
        "max_neighbours": "24",
        "requests_per_s": "20",
        "characters_per_s": "0",  # some tests send as much as they can
    }
    ray_serve.run(build({"bundle": str(tiny_bundle), **{f"serve.{key}": value for key, value in settings.items()}}))
    yield
    ray_serve.shutdown()
    ray.shutdown()


def ask(timeout: float = 120.0, **request: Any) -> httpx.Response:
    return httpx.post(f"{URL}/v1/entities", json=request, headers=TOKEN, timeout=timeout)


def queue_age() -> float:
    answer = httpx.get(f"{URL}/readyz", timeout=30)
    return float(answer.json()["queue_age_s"]) if answer.status_code == 200 else 1e9


def megabytes(process: int) -> int:
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) >> 10


def test_memory_stays_within_its_bound(service: None) -> None:
    tagger = replica_process("Tagger")
    for _ in range(20):
        assert ask(text=TEXT, explain=True).status_code == 200
    before = megabytes(tagger)
    hostile: list[dict[str, Any]] = [
        {"text": LONG[:16_000], "neighbours": 24, "explain": True},
        {"text": LONG[:16_000], "neighbours": 400},
        {"text": LONG, "neighbours": 24},
        {"text": "a " * 8000, "neighbours": 24, "explain": True},
        {"texts": [LONG[:390]] * 256},
        {"texts": [LONG] * 3},
        {"words": [["Anna"] * 2000] * 8, "neighbours": 4},
    ]
    with ThreadPoolExecutor(14) as clients:
        told = list(clients.map(lambda request: ask(600.0, **request).status_code, hostile * 2))
    assert told == [200, 422, 422, 200, 200, 422, 200] * 2
    assert megabytes(tagger) - before < MOST_MB
    assert replica_process("Tagger") == tagger, "it never died"


def test_a_short_request_does_not_wait_for_long_ones(service: None) -> None:
    ask(text=TEXT)
    with ThreadPoolExecutor(8) as clients:
        long = [clients.submit(ask, 600.0, text=LONG, explain=True) for _ in range(8)]
        time.sleep(1.0)
        waited = []
        for _ in range(10):
            began = time.monotonic()
            assert ask(text=TEXT).status_code == 200
            waited.append(time.monotonic() - began)
            time.sleep(0.1)
        assert not any(answer.done() for answer in long), "they were under way"
        assert sorted(waited)[5] < 2.0, waited
        assert Counter(answer.result().status_code for answer in long) == {200: 8}


def test_what_a_client_leaves_behind_is_dropped(service: None) -> None:
    with ThreadPoolExecutor(8) as clients:
        gone = [clients.submit(ask, 1.0, text=LONG, explain=True) for _ in range(8)]
    assert all(isinstance(answer.exception(), httpx.ReadTimeout) for answer in gone)
    began = time.monotonic()
    wait_for(lambda: queue_age() == 0.0, 20)
    assert time.monotonic() - began < 10.0, "eight such texts would take much longer"


def test_a_client_that_floods_is_refused_and_others_are_not(service: None) -> None:
    def flood(_: int) -> httpx.Response:
        return connections.get(f"{URL}/v1/model", headers=FLOODING)

    # Connections are kept: to open one for each request may take longer than the rate that is refused.
    with httpx.Client(timeout=120) as connections, ThreadPoolExecutor(16) as clients:
        told = list(clients.map(flood, range(600)))
        statuses = Counter(answer.status_code for answer in told)
        assert statuses.keys() == {200, 429} and statuses[200] >= 200, statuses
        refused = next(answer for answer in told if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert "token-2 may send 20 requests a second (serve.requests_per_s)" in refused.json()["detail"]
        assert ask(text=TEXT).status_code == 200
