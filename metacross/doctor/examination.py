"""All that `metacross doctor` looks at, in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metacross.doctor import checks, probe
from metacross.doctor.findings import Finding, merged
from metacross.doctor.nodes import (
    Node,
    Silence,
    addressed_nodes,
    answers,
    clock_offsets,
    cluster_on_this_machine,
)
from metacross.doctor.probe import Facts
from metacross.doctor.storage import check_storage
from metacross.errors import UserError
from metacross.wording import counted

START_SECONDS = 60.0  # for a node to start the process that answers for it, and to import torch there


@dataclass(frozen=True)
class NodeSummary:
    """What a node has; sizes are in bytes.

    Attributes:
        name: its address.
        cpus: as Ray counts them; without Ray, those that a process may use.
        memory: likewise.
        object_store: of Ray; None without Ray.
        disk_free: where Ray keeps its files.
        gpus_ray: GPUs as Ray counts them; None without Ray.
        gpus_torch: as torch sees them.
        gpus_faiss: as FAISS sees them.
    """

    name: str
    cpus: float
    memory: float
    object_store: float | None
    disk_free: int
    gpus_ray: float | None
    gpus_torch: int
    gpus_faiss: int


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        nodes: those that answered.
        findings: in the order in which things were looked at.
    """

    nodes: list[NodeSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether there is no failure."""
        return all(finding.level != "failure" for finding in self.findings)


def examine(
    storage_path: str,
    *,
    ports: list[int],
    seconds: float = START_SECONDS,
    show: Callable[[str], None] = lambda text: None,
) -> Examination:
    """Looks at the cluster at RAY_ADDRESS, or at this machine without RAY_ADDRESS.

    Args:
        storage_path: where runs and their bundles go, a directory or an address.
        ports: those that the service wants on every node.
        seconds: how long a node may take for an answer.
        show: called with what is going on, in words.
    """
    try:
        with addressed_nodes() as nodes:
            show(f"asking {counted(len(nodes), 'nodes')}")
            return _examined(nodes, storage_path, ports, seconds)
    except UserError as error:
        return Examination(findings=[Finding("cluster", "failure", str(error))])


def _examined(nodes: list[Node], storage_path: str, ports: list[int], seconds: float) -> Examination:
    told = answers(nodes, probe.facts, ports, seconds=seconds)
    findings = [_cluster(nodes), *_silent(nodes, told)]
    awake = [node for node, answer in zip(nodes, told, strict=True) if not isinstance(answer, Silence)]
    if not awake:
        return Examination(findings=findings)
    facts: dict[str, Facts] = {node.name: fact for node, fact in zip(nodes, told, strict=True) if node in awake}
    with_ray = [node for node in awake if node.resources]
    findings += checks.check_versions(facts)
    findings += checks.check_gpus(facts, {node.name: node.resources.get("GPU", 0.0) for node in with_ray})
    findings += check_storage(awake, storage_path, seconds=seconds)
    findings += checks.check_machines(
        facts, {node.name: node.resources.get("object_store_memory", 0.0) for node in with_ray}
    )
    findings += checks.check_ports(facts)
    offsets = dict(zip((node.name for node in awake), clock_offsets(awake, seconds), strict=True))
    findings += checks.check_clocks({name: told for name, told in offsets.items() if not isinstance(told, Silence)})
    findings += checks.check_access(facts)
    return Examination([_summary(node, facts[node.name]) for node in awake], merged(findings))


def _cluster(nodes: list[Node]) -> Finding:
    if nodes[0].resources:
        return Finding("cluster", "ok", f"{counted(len(nodes), 'nodes')}; more may come if it grows")
    if address := cluster_on_this_machine():
        seen = f"a cluster runs here at {address}, but commands do not use it, and start a Ray of their own"
        return Finding("cluster", "warning", seen, "To use it, and to look at it: export RAY_ADDRESS=auto")
    return Finding("cluster", "ok", "this machine alone: RAY_ADDRESS is not set")


def _silent(nodes: list[Node], told: list[Any]) -> list[Finding]:
    fix = (
        "Look at the node: ray status, its load, and /tmp/ray/session_latest/logs on it; a firewall must open all "
        "ports among nodes. If it only is slow, give --timeout more seconds."
    )
    return [
        Finding("nodes", "failure", f"not looked at: {answer.why}", fix, (node.name,))
        for node, answer in zip(nodes, told, strict=True)
        if isinstance(answer, Silence)
    ]


def _summary(node: Node, fact: Facts) -> NodeSummary:
    counted, gpus = node.resources, fact["gpus"]
    return NodeSummary(
        name=node.name,
        cpus=counted.get("CPU", 0.0) if counted else fact["cpus"],
        memory=counted.get("memory", 0.0) if counted else fact["memory"],
        object_store=counted.get("object_store_memory", 0.0) if counted else None,
        disk_free=fact["temporary"][1],
        gpus_ray=counted.get("GPU", 0.0) if counted else None,
        gpus_torch=gpus["torch"],
        gpus_faiss=gpus["faiss"],
    )
