"""The service under load, for the tests that change or break it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import ray
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

TEXT = "Anna Berg left Oslo. Jan Smit lives in Lima."


class Load:
    """Clients that ask all the time, and what they were told.

    Attributes:
        told: how often each bundle answered, and each failure.
        slowest: seconds of the slowest answer.
        stall: the longest time in which nobody was answered, in seconds.
    """

    def __init__(self, clients: int, url: str) -> None:
        self._url = url
        self.told: Counter[str] = Counter()
        self.slowest = self.stall = 0.0
        self._last = 0.0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        self._last = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, what: str, count: int, *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.told[what] < count:
            assert time.monotonic() < deadline, f"{what} not seen {count} times: {self.told}"
            time.sleep(0.05)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    answer = http.post("/v1/entities", json={"texts": [TEXT, TEXT]})
                    told = answer.json()["model"]["bundle"] if answer.status_code == 200 else answer.text
                except httpx.TransportError as error:
                    told = type(error).__name__
                with self._lock:
                    now = time.monotonic()
                    self.told[told] += 1
                    self.slowest = max(self.slowest, now - began)
                    self.stall = max(self.stall, now - self._last)
                    self._last = now


def deploy(file: ServeDeploySchema) -> None:
    """What `serve deploy` does, without a dashboard to send the file to."""
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(file)


def serve_logs() -> Path:
    """Where the service's processes write their logs."""
    return Path(ray._private.worker._global_node.get_logs_dir_path()) / "serve"


def replica_process(deployment: str) -> int:
    """The process of one replica."""
    return replica_processes(deployment)[0]


def replica_processes(deployment: str) -> list[int]:
    """The processes of a deployment's replicas, in order."""
    actors = ray._private.state.actors().values()
    return sorted(int(a["Pid"]) for a in actors if deployment in a["ActorClassName"] and a["State"] == "ALIVE")
