"""What nodes tell, made up, and the findings that follow."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable

import pytest

from metacross.doctor import checks
from metacross.doctor.findings import Finding, merged
from metacross.doctor.nodes import node_names
from metacross.doctor.probe import Facts

GOOD: Facts = {
    "cpus": 2,
    "memory": 8 << 30,
    "versions": {
        "python": "3.11.9",
        "ray": "2.60.0",
        "torch": "2.13.0+cpu",
        "transformers": "5.23.0",
        "faiss-cpu": "1.15.1",
        "metacross": "0.1.0",
    },
    "gpus": {"devices": 0, "torch": 0, "faiss": 0, "trouble": []},
    "shm": 8 << 30,
    "temporary": (100 << 30, 50 << 30),
    "open_files": 65536,
    "auth_mode": "token",
    "listening": {},
    "taken": {},
    "cache": "",
}
GPU_NODE = {"devices": 2, "torch": 2, "faiss": 2, "trouble": []}


def node(**changes: object) -> Facts:
    return {**copy.deepcopy(GOOD), **changes}  # type: ignore[typeddict-item]


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def bad(findings: Iterable[Finding]) -> list[Finding]:
    found = [finding for finding in findings if finding.level != "ok"]
    assert all(finding.fix for finding in found), "each has a fix"
    return found


def test_a_good_cluster_has_no_findings_but_good_ones() -> None:
    gpu = node(gpus=GPU_NODE, versions={**GOOD["versions"], "torch": "2.13.0+cu126"})
    del gpu["versions"]["faiss-cpu"]
    gpu["versions"]["faiss-gpu"] = "1.15.1"
    facts = {"a": GOOD, "b": gpu}
    findings = [
        *checks.check_versions(facts),
        *checks.check_gpus(facts, {"a": 0, "b": 2}),
        *checks.check_machines(facts, {"a": 1 << 30, "b": 1 << 30}),
        *checks.check_ports(facts),
        *checks.check_access(facts),
        *checks.check_clocks({"a": 0.1, "b": -0.2}),
        *checks.check_free({"a": 50 << 30, "b": None}),
    ]
    assert set(levels(findings)) == {"ok"}
    assert [finding.nodes for finding in merged(findings) if finding.subject == "clocks"] == [("a", "b")]


@pytest.mark.parametrize(
    ("package", "version", "seen"),
    [
        ("ray", "2.59.0", "ray differs: 2.60.0 on a; 2.59.0 on b"),
        ("metacross", None, "metacross differs: 0.1.0 on a; missing on b"),
        ("faiss-gpu", "1.15.1", "faiss-cpu and faiss-gpu are installed"),
    ],
)
def test_versions_that_differ_are_a_failure(package: str, version: str | None, seen: str) -> None:
    other = node()
    if version is None:
        del other["versions"][package]
    else:
        other["versions"][package] = version
    (found,) = bad(checks.check_versions({"a": GOOD, "b": other}))
    assert found.level == "failure" and found.seen.startswith(seen)


def test_versions_that_tests_did_not_run_with_are_a_warning() -> None:
    (found,) = bad(checks.check_versions({"a": node(versions={**GOOD["versions"], "transformers": "5.0.0"})}))
    assert (found.level, found.seen) == ("warning", "transformers 5.0.0; tests ran with 5.23.0")


@pytest.mark.parametrize(
    ("gpus", "counted", "expected"),
    [
        ({**GPU_NODE, "torch": 0, "faiss": 0}, 2, ["failure", "warning"]),  # a CPU build of torch
        (GPU_NODE, 1, ["warning"]),
        ({**GPU_NODE, "faiss": 0}, 2, ["warning"]),  # faiss-cpu
        ({**GPU_NODE, "trouble": ["torch: RuntimeError: no kernel image is available"]}, 2, ["failure"]),
        (GPU_NODE, None, []),  # without Ray
    ],
)
def test_gpus_that_some_do_not_see(gpus: object, counted: float | None, expected: list[str]) -> None:
    counts = {} if counted is None else {"a": counted}
    assert levels(bad(checks.check_gpus({"a": node(gpus=gpus)}, counts))) == expected


@pytest.mark.parametrize(
    ("change", "level", "seen"),
    [
        ({"shm": 64 << 20}, "warning", r"/dev/shm has 64 MiB, less than .* \(1.0 GiB\)"),
        ({"temporary": (100 << 30, 4 << 30)}, "failure", "4.0 GiB of 100.0 GiB free: beyond 95% Ray starts no more"),
        ({"temporary": (20 << 30, 4 << 30)}, "warning", "4.0 GiB of 20.0 GiB free"),
        ({"open_files": 1024}, "warning", "1024 files"),
        ({"cache": "Permission denied"}, "failure", "Permission denied"),
    ],
)
def test_a_machine_that_lacks_something(change: dict[str, object], level: str, seen: str) -> None:
    facts = {"a": GOOD, "b": node(**change)}
    (found,) = bad(checks.check_machines(facts, {"a": 1 << 30, "b": 1 << 30}))
    assert found.level == level and found.nodes == ("b",)
    assert re.search(seen, found.seen)


def test_a_port_is_free_or_the_services_own_or_taken() -> None:
    facts = {"a": GOOD, "b": node(taken={8000: True}), "c": node(taken={8000: False})}
    assert levels(checks.check_ports(facts)) == ["ok", "ok", "warning"]


def test_who_listens_beyond_loopback_should_ask_for_a_token() -> None:
    open_door = node(listening={6379: "gcs_server"}, auth_mode="")
    with_token = node(listening={6379: "gcs_server"})
    findings = list(checks.check_access({"a": GOOD, "b": with_token, "c": open_door}))
    assert levels(findings) == ["ok", "ok", "warning"]
    assert all("6379 gcs_server" in finding.seen for finding in findings[1:])


def test_clocks_that_are_off() -> None:
    findings = list(checks.check_clocks({"a": 1.0, "b": -5.0, "c": 3600.0}))
    assert levels(findings) == ["ok", "warning", "failure"]
    assert "5 s behind" in findings[1].seen and "3600 s ahead" in findings[2].seen


def test_little_room_for_runs() -> None:
    assert levels(checks.check_free({"a": 1 << 30})) == ["warning"]


def test_nodes_at_one_address_are_told_apart() -> None:
    nodes = [
        {"NodeManagerAddress": "10.0.0.1", "NodeID": "a" * 40, "Resources": {"node:__internal_head__": 1.0}},
        {"NodeManagerAddress": "10.0.0.1", "NodeID": "b" * 40, "Resources": {}},
        {"NodeManagerAddress": "10.0.0.2", "NodeID": "c" * 40, "Resources": {}},
    ]
    assert node_names(nodes) == ["10.0.0.1 (head)", "10.0.0.1 bbbbbbbb", "10.0.0.2"]
