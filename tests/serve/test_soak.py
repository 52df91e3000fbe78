"""Thousands of mixed requests against the service on a real Ray Serve: each is answered as it deserves, memory is flat.

`make soak` sends 20,000 and prints what each process took; `make cluster` a few hundred.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions

from metacross.ray_session import start_ray
from serve.app import build
from tests.helpers.ray_service import replica_processes

PORT = 8125
CLIENTS = 8
WORDS = [*("Anna", "Berg", "left", "Oslo", ".", "Jan", "Smit", "lives", "in", "Lima", "Fiat"), *"東京👩🏽שלוםनमस्ते,"]
DEPLOYMENTS = ("SourceIndex", "Tagger", "Ingress")
WARM = 0.3  # of all requests: caches fill, allocators take what they need
GROWTH_MB = 40  # allowed afterwards; a request that leaked 10 kB would make 140

Call = Callable[[httpx.Client, random.Random], tuple[str, bool]]


@pytest.fixture(scope="module")
def url(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("soak")
    shutil.copytree(tiny_bundle, place / "bundle")
    start_ray(cpus=4)
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT))
    settings = {"device": "cpu", "replicas": "2", "timeout_s": "120", "examples": str(place / "examples.db")}
    ray_serve.run(
        build({"bundle": str(place / "bundle"), **{f"serve.{name}": value for name, value in settings.items()}})
    )
    yield f"http://127.0.0.1:{PORT}"
    ray_serve.shutdown()
    ray.shutdown()


def text(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(0, 40)))


def tagged(http: httpx.Client, draw: random.Random) -> tuple[str, bool]:
    texts = [text(draw) for _ in range(draw.randint(1, 4))]
    options = {"adapt": draw.random() < 0.8, "explain": draw.random() < 0.3, "threshold": draw.choice([0.0, 0.5])}
    answer = http.post("/v1/entities", json={"texts": texts, **options})
    good = answer.status_code == 200 and [r["text"] for r in answer.json()["results"]] == texts
    return "tagged", good


def words(http: httpx.Client, draw: random.Random) -> tuple[str, bool]:
    answer = http.post("/v1/entities", json={"words": [draw.choices(WORDS, k=draw.randint(1, 200))]})
    return "words", answer.status_code == 200


def streamed(http: httpx.Client, draw: random.Random) -> tuple[str, bool]:
    lines = [json.dumps({"id": i, "text": text(draw)}) for i in range(draw.randint(1, 20))]
    answer = http.post("/v1/entities:stream", content="\n".join(lines))
    found = [json.loads(line) for line in answer.text.splitlines()]
    return "streamed", [f["id"] for f in found] == list(range(len(lines))) and all("result" in f for f in found)


def example(http: httpx.Client, draw: random.Random) -> tuple[str, bool]:
    given = {
        "text": f"Zoe Quist flew to {draw.randrange(10**6)}.",
        "entities": [{"start": 0, "end": 9, "label": "PER"}],
    }
    added = http.post("/v1/examples", json={"examples": [given]})
    if added.status_code != 201:
        return "example", False
    number = added.json()["examples"][0]["id"]
    found = http.get(f"/v1/examples/{number}").status_code
    return "example", (found, http.delete(f"/v1/examples/{number}").status_code) == (200, 204)


def wrong(http: httpx.Client, draw: random.Random) -> tuple[str, bool]:
    bodies: list[Any] = [{}, {"text": 3}, {"text": "a", "labels": ["CAT"]}, {"text": "a", "neighbours": 0}, [], "a"]
    answer = http.post("/v1/entities", json=draw.choice(bodies))
    return "wrong", answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"


def looked(http: httpx.Client, draw: random.Random) -> tuple[str, bool]:
    return "looked", http.get(draw.choice(["/", "/v1/model", "/readyz", "/v1/examples", "/openapi.json"])).is_success


CALLS: tuple[Call, ...] = (tagged, words, streamed, example, wrong, looked)
OFTEN = (60, 10, 4, 6, 10, 10)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(url: str, requests: int, *, samples: int) -> tuple[Counter[tuple[str, bool]], dict[str, list[float]]]:
    """How each kind of request was answered, and each process's resident megabytes over time."""
    told: Counter[tuple[str, bool]] = Counter()
    processes = {f"{name} {i}": pid for name in DEPLOYMENTS for i, pid in enumerate(replica_processes(name))}
    memory: dict[str, list[float]] = {name: [] for name in processes}
    lock = threading.Lock()

    def send(seed: int, count: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(base_url=url, timeout=120) as http:
            for _ in range(count):
                (call,) = draw.choices(CALLS, OFTEN)
                found = call(http, draw)
                with lock:
                    told[found] += 1

    with ThreadPoolExecutor(CLIENTS) as clients:
        for sample in range(samples):
            share = requests // samples // CLIENTS
            list(clients.map(send, range(CLIENTS * sample, CLIENTS * (sample + 1)), [share] * CLIENTS))
            for name, pid in processes.items():
                memory[name].append(resident_mb(pid))
    return told, memory


def failures(told: Counter[tuple[str, bool]]) -> dict[str, int]:
    return {kind: n for (kind, good), n in told.items() if not good}


@pytest.mark.cluster
def test_mixed_requests_are_answered_as_they_deserve(url: str) -> None:
    told, _ = soak(url, 400, samples=1)
    assert {kind for kind, _ in told} == {call.__name__ for call in CALLS}
    assert failures(told) == {}


@pytest.mark.soak
def test_memory_is_flat_over_twenty_thousand_requests(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    told, memory = soak(url, 20_000, samples=25)
    warm = round(WARM * 25)
    growth = {name: max(taken[-3:]) - max(taken[warm - 3 : warm]) for name, taken in memory.items()}
    with capsys.disabled():
        print(f"\n{sum(told.values())} requests: {dict(told)}")
        for name, taken in memory.items():
            print(f"{name}: {taken[0]:.0f} MB, {taken[warm]:.0f} warm, {taken[-1]:.0f} at the end", flush=True)
    assert failures(told) == {}
    assert max(growth.values()) < GROWTH_MB, growth
