"""A Ray cluster of several nodes on this machine, and what can happen to it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR
from ray.cluster_utils import Cluster

from metacross.events import Event, Measurement, Show
from metacross.ray_internals import HEALTH_CHECK_SECONDS, PREEMPTION_WATCHER, on_loopback

STORE_BYTES = 80 << 20
# Ray would take 15 seconds to find out that a node has died.
QUICK_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}


class Machines:
    """A cluster: a head without CPUs, on which the driver is, and nodes with one CPU each."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes: list[Any] = []

    def join(self) -> None:
        """Adds a node; must be called in the main thread."""
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))

    def lose(self, number: int) -> None:
        """Ends a node's processes, which tell nobody."""
        self.cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def drain(self, number: int) -> None:
        """Tells Ray that a node is about to go, as pods of cluster/kuberay do before they end."""
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the pod is deleted"]
        node = ["--address", self.cluster.address, "--node-id", self.nodes[number].node_id]
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", *node, *reason]
        environment = {**os.environ, ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}  # leaves 127.0.0.1 as it is, see `on_loopback`
        subprocess.run([*command, "--deadline-remaining-seconds", "60"], check=True, env=environment)

    def processes(self, number: int) -> list[int]:
        """Process ids of the workers on a node, replicas of Serve among them."""
        return children(self.nodes[number].all_processes["raylet"][0].process.pid)

    def workers(self, number: int) -> list[int]:
        """Process ids of the training workers on a node."""
        return [pid for pid in self.processes(number) if b"RayTrainWorker" in command(pid)]

    def kill_worker(self, number: int) -> None:
        """SIGKILL to a worker on a node."""
        (pid,) = self.workers(number)
        os.kill(pid, signal.SIGKILL)


@contextmanager
def machines(nodes: int, *, announced: bool = False) -> Iterator[Machines]:
    """A cluster with that many nodes besides its head; the driver is connected to it.

    Args:
        nodes: how many there are at first.
        announced: whether Ray Train tells its workers of nodes that are about to go, in a process more for every run.
    """
    with pytest.MonkeyPatch.context() as patch, on_loopback():
        patch.setenv(HEALTH_CHECK_SECONDS, "0.3")
        patch.setenv(PREEMPTION_WATCHER, str(int(announced)))
        patch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.3")
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_system_config": QUICK_DEATH,
            },
        )
        try:
            found = Machines(cluster)
            for _ in range(nodes):
                found.join()
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            yield found
        finally:
            ray.shutdown()
            cluster.shutdown()


def at_steps(*happenings: tuple[int, Callable[[], None]], events: list[Event]) -> Show:
    """A `show` for `driver.train`: keeps events, and calls functions in order, each once a measured step is reached."""
    left = list(happenings)

    def show(event: Event) -> None:
        events.append(event)
        if left and isinstance(event, Measurement) and event.step >= left[0][0]:
            left.pop(0)[1]()

    return show


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    """What `what` returns once that is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return found


def children(parent: int) -> list[int]:
    """Process ids of a process's children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:  # gone in the meantime
            continue
        if f"PPid:\t{parent}" in lines:
            found.append(int(status.parent.name))
    return found


def command(pid: int) -> bytes:
    """A process's command line; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
