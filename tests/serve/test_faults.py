"""What users of the service see while parts of it die: three nodes, eight clients that ask all the time.

`make chaos` prints a line for each happening: answers, failures, the longest time without any answer.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions, ProxyLocation

from metacross import Client
from serve.app import build
from tests.helpers.machines import Machines, machines, wait_for
from tests.helpers.ray_service import Load, replica_processes

PORT = 8124
URL = f"http://127.0.0.1:{PORT}"
CLIENTS = 8
CALM = 150  # answers before and after something happens
DEPLOYMENTS = ("SourceIndex", "Tagger", "Ingress")


@pytest.fixture
def service(tiny_bundle: Path, tmp_path: Path) -> Iterator[tuple[Machines, Callable[[], None]]]:
    """The service on two nodes behind the head, a replica of everything on each; and what starts it."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")

    def start() -> None:
        # One proxy: several on one machine would want the same port.
        ray_serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=HTTPOptions(host="127.0.0.1", port=PORT))
        ray_serve.run(
            build(
                {
                    "bundle": str(tmp_path / "bundle"),
                    "serve.device": "cpu",
                    "serve.replicas": "2",
                    "serve.index_replicas": "2",
                    "serve.timeout_s": "60",
                    "serve.examples": str(tmp_path / "examples.db"),
                }
            )
        )

    with machines(nodes=2) as cluster:
        start()
        yield cluster, start
        ray_serve.shutdown()


def happened(what: str, load: Load, bundle: str, capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """Prints what the clients saw; returns the failures."""
    failures = Counter({told: n for told, n in load.told.items() if told != bundle})
    with capsys.disabled():
        print(
            f"\n{what}: {load.told[bundle]} answers, {sum(failures.values())} failures {dict(failures) or ''}, "
            f"longest stall {load.stall:.1f} s, slowest answer {load.slowest:.1f} s",
            flush=True,
        )
    return failures


def complete() -> bool:
    """Whether every deployment has its two replicas."""
    return all(len(replica_processes(name)) == 2 for name in DEPLOYMENTS)


def replaced(name: str, *dead: int) -> bool:
    """Whether others have come for these replicas."""
    return complete() and not set(dead) & set(replica_processes(name))


@pytest.mark.chaos
def test_replicas_that_are_killed(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(URL) as client:
        bundle = client.model().bundle
    for name in DEPLOYMENTS:
        wait_for(complete)
        with Load(CLIENTS, URL) as load:
            load.wait_for(bundle, CALM, seconds=120)
            (victim, _) = replica_processes(name)
            os.kill(victim, signal.SIGKILL)
            wait_for(partial(replaced, name, victim))
            load.wait_for(bundle, load.told[bundle] + CALM, seconds=120)
        failures = happened(f"SIGKILL of a {name}", load, bundle, capsys)
        if name == "Ingress":  # whose connections die with it: at most one request for each client
            assert sum(failures.values()) <= CLIENTS, failures
        else:
            assert not failures, failures


@pytest.mark.chaos
def test_the_only_source_index_is_killed_on_every_node(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(URL) as client:
        bundle = client.model().bundle
    with Load(CLIENTS, URL) as load:
        load.wait_for(bundle, CALM, seconds=120)
        victims = replica_processes("SourceIndex")
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        wait_for(partial(replaced, "SourceIndex", *victims))
        load.wait_for(bundle, load.told[bundle] + CALM, seconds=120)
    assert not happened("SIGKILL of every SourceIndex", load, bundle, capsys)


@pytest.mark.chaos
def test_a_node_is_lost(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cluster, _ = service
    with Client(URL) as client:
        bundle = client.model().bundle
    with Load(CLIENTS, URL) as load:
        load.wait_for(bundle, CALM, seconds=120)
        cluster.lose(0)
        load.wait_for(bundle, load.told[bundle] + CALM, seconds=120)
        cluster.join()
        wait_for(complete)
        load.wait_for(bundle, load.told[bundle] + CALM, seconds=120)
    failures = happened("loss of a node, and a new one", load, bundle, capsys)
    assert sum(failures.values()) <= CLIENTS, "connections of the Ingress that was there"


@pytest.mark.chaos
def test_a_node_is_drained_before_it_goes(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cluster, _ = service
    with Client(URL) as client:
        bundle = client.model().bundle
    with Load(CLIENTS, URL) as load:
        load.wait_for(bundle, CALM, seconds=120)
        cluster.join()
        cluster.drain(0)
        wait_for(lambda: complete() and not _replicas(cluster, 0))
        cluster.lose(0)
        load.wait_for(bundle, load.told[bundle] + CALM, seconds=120)
    assert not happened("a node that is drained, and then lost", load, bundle, capsys)


def _replicas(cluster: Machines, number: int) -> set[int]:
    """The replicas on a node."""
    return {pid for name in DEPLOYMENTS for pid in replica_processes(name)} & set(cluster.processes(number))


@pytest.mark.chaos
def test_examples_outlive_the_service(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, start = service
    text = "Zoe Quist flew to Xanten."
    with Client(URL) as client:
        (example,) = client.add_examples([{"text": text, "entities": [{"start": 0, "end": 9, "label": "PER"}]}])
        before = client.tag(text, explain=True)
        assert (before.support or ())[0].example == example.id
        ray_serve.shutdown()
        began = time.monotonic()
        start()
        wait_for(client.ready)
        took = time.monotonic() - began
        after = client.tag(text, explain=True)
        assert client.model().examples == 1
    assert after == before
    with capsys.disabled():
        print(f"\nstopped and started again: ready after {took:.1f} s, with its examples", flush=True)
