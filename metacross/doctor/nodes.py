"""The nodes as `metacross doctor` asks them: those of the cluster at RAY_ADDRESS, or this machine without Ray.

A question is a function of probe.py. All nodes are asked at the same time. One that does not answer in time holds up
nobody: a `Silence` stands in place of its answer.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metacross import ray_internals
from metacross.doctor import probe
from metacross.errors import UserError, first_line
from metacross.ray_session import ray_session

HEAD = "node:__internal_head__"  # a resource that only the head has
CONNECT_SECONDS = 5.0  # for the head to take a connection; Ray itself would try for minutes


@dataclass(frozen=True)
class Node:
    """A node that can be asked.

    Attributes:
        name: its address; the head's with a word that says so.
        resources: what Ray counts there, in Ray's words; nothing without Ray.
        ask: calls a function of probe.py there, with its arguments.
    """

    name: str
    resources: Mapping[str, float]
    ask: Callable[..., Future[Any]]


@dataclass(frozen=True)
class Silence:
    """In place of an answer: what went wrong.

    Attributes:
        why: in words for people.
    """

    why: str


@contextmanager
def addressed_nodes() -> Iterator[list[Node]]:
    """The nodes of the cluster at RAY_ADDRESS, connected for the block; without RAY_ADDRESS this machine alone.

    Raises:
        UserError: no cluster is there, or it does not let us in.
    """
    if os.environ.get("RAY_ADDRESS", "") in ("", "local"):
        yield [Node("this machine", {}, _ask_here)]
        return
    _refuse_silent_head(os.environ["RAY_ADDRESS"])
    with ray_session():
        ray.cloudpickle.register_pickle_by_value(probe)  # type: ignore[no-untyped-call]
        try:
            alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            yield [_node(node, name) for node, name in zip(alive, node_names(alive), strict=True)]
        finally:
            ray.cloudpickle.unregister_pickle_by_value(probe)  # type: ignore[no-untyped-call]


def cluster_on_this_machine() -> str | None:
    """The address of a cluster that was started on this machine and takes connections; None where there is none."""
    address = ray_internals.started_cluster()
    return address if address and _takes_connections(address) else None


def answers(nodes: Sequence[Node], question: Callable[..., Any], *arguments: Any, seconds: float) -> list[Any]:
    """What the nodes answer, in their order; `Silence` where one does not.

    Args:
        nodes: whom to ask.
        question: a function of probe.py.
        *arguments: its arguments.
        seconds: how long to wait, for all of them together.
    """
    return gathered([node.ask(question, *arguments) for node in nodes], seconds)


def gathered(asked: Sequence[Future[Any]], seconds: float) -> list[Any]:
    """The results; `Silence` where there is an error, or no result in time."""
    done, _ = wait(asked, timeout=seconds)
    return [_result(future) if future in done else Silence(f"no answer within {seconds:g} s") for future in asked]


def clock_offsets(nodes: Sequence[Node], seconds: float) -> list[float | Silence]:
    """How many seconds the nodes' clocks are ahead of this process's, in their order.

    A clock that could be right, given when the question left and when the answer came, counts as right.
    """
    asked = time.time()
    came: dict[int, float] = {}

    def note(number: int, _: Future[Any]) -> None:
        came[number] = time.time()

    futures = [node.ask(probe.clock) for node in nodes]
    for number, future in enumerate(futures):
        future.add_done_callback(partial(note, number))
    found = gathered(futures, seconds)
    return [
        told if isinstance(told, Silence) else min(told - asked, 0.0) + max(told - came.get(number, told), 0.0)
        for number, told in enumerate(found)
    ]


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except ray.exceptions.RayTaskError as error:
        return Silence(f"{type(error.cause).__name__}: {first_line(error.cause)}")
    except Exception as error:
        return Silence(f"{type(error).__name__}: {first_line(error)}")


def node_names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Addresses, with a word at the head's, and the beginning of the id where several nodes share an address.

    >>> node_names([{"NodeManagerAddress": "10.0.0.1", "NodeID": "a", "Resources": {"node:__internal_head__": 1.0}}])
    ['10.0.0.1 (head)']
    """
    addresses = [node["NodeManagerAddress"] for node in nodes]
    names = []
    for node, address in zip(nodes, addresses, strict=True):
        head = " (head)" if HEAD in node["Resources"] else ""
        shared = f" {node['NodeID'][:8]}" if addresses.count(address) > 1 and not head else ""
        names.append(f"{address}{shared}{head}")
    return names


def _node(described: Mapping[str, Any], name: str) -> Node:
    """A node of the cluster; an actor of its own answers for it, and takes none of its CPUs."""
    here = NodeAffinitySchedulingStrategy(described["NodeID"], soft=False)
    actor: Any = ray.remote(probe.Asked).options(num_cpus=0, scheduling_strategy=here, max_restarts=0).remote()

    def ask(question: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = actor.answer.remote(question, *arguments).future()
        return future

    return Node(name, described["Resources"], ask)


def _ask_here(question: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Calls a function in a thread, which a storage that never answers may hold for ever."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(question(*arguments))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=call, name=f"doctor-{question.__name__}", daemon=True).start()
    return future


def _refuse_silent_head(address: str) -> None:
    if address == "auto":
        address = ray_internals.started_cluster() or ""
        if not address:
            raise UserError("RAY_ADDRESS=auto, and no cluster was started on this machine. Name its head: HOST:6379.")
    if not _takes_connections(address):
        raise UserError(
            f"RAY_ADDRESS={address}: nothing takes connections there within {CONNECT_SECONDS:g} s. Is the head up "
            "(ray status on it), and does a firewall let this machine reach port 6379 of it?"
        )


def _takes_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False
