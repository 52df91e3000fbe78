"""`metacross doctor` looks at this machine, at nodes that do not answer, and at a real cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import ray

from metacross.doctor import nodes as doctor_nodes
from metacross.doctor import probe
from metacross.doctor.examination import examine
from metacross.doctor.findings import Finding
from metacross.doctor.nodes import Node, Silence, addressed_nodes, answers, clock_offsets
from metacross.doctor.storage import check_storage
from tests.helpers.commands import run
from tests.helpers.machines import machines


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Node:
    """This machine, without Ray."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with addressed_nodes() as (node,):
        return node


def never(question: Any, *arguments: Any) -> Future[Any]:
    """A node that does not answer."""
    return Future()


def one(findings: list[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def test_the_command_tells_what_this_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["doctor", f"train.storage_path={tmp_path}/new/runs", "--port", port]
        found = run(*arguments, "--json")
    told = json.loads(found.out)
    assert found.status == (0 if told["healthy"] else 1)
    (node,) = told["nodes"]
    assert node["name"] == "this machine" and node["cpus"] >= 1 and node["gpus_ray"] is None
    by_subject = {finding["subject"]: finding for finding in told["findings"]}
    assert by_subject["storage"]["level"] == "ok"
    assert by_subject["ports"]["seen"] == f"{port} is taken by another program"
    assert f"ray {ray.__version__}" in by_subject["versions"]["seen"]
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_a_failure_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "file").touch()
    found = run("doctor", f"train.storage_path={tmp_path}/file/runs")
    assert found.status == 1
    assert "failure  storage: " in found.out and "All nodes need the same directory" in found.out


def test_a_cluster_that_is_not_there_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    found = run("doctor")
    assert found.status == 1
    assert "RAY_ADDRESS=127.0.0.1:1: nothing takes connections there" in found.out


def test_a_cluster_on_this_machine_that_nobody_addresses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr(doctor_nodes.ray_internals, "started_cluster", lambda: address)
        assert doctor_nodes.cluster_on_this_machine() == address
    assert doctor_nodes.cluster_on_this_machine() is None, "it is over"


def test_a_node_that_does_not_answer_holds_up_nobody(here: Node, tmp_path: Path) -> None:
    both = [here, Node("10.0.0.2", {}, never)]
    began = time.monotonic()
    answer, silence = answers(both, probe.clock, seconds=0.2)
    assert answer == pytest.approx(time.time(), abs=5)
    assert silence == Silence("no answer within 0.2 s")
    findings = list(check_storage(both, str(tmp_path), seconds=0.2))
    assert time.monotonic() - began < 5
    assert [(finding.level, finding.nodes) for finding in findings if finding.seen.endswith("0.2 s")] == [
        ("failure", ("10.0.0.2",))
    ]


def test_storage_that_is_not_the_same_everywhere(here: Node, tmp_path: Path) -> None:
    """A node whose directory is on a disk of its own."""
    (tmp_path / "elsewhere").mkdir()

    def ask(question: Any, place: str, *arguments: Any) -> Future[Any]:
        return here.ask(question, place.replace("shared", "elsewhere"), *arguments)

    findings = list(check_storage([here, Node("10.0.0.2", {}, ask)], str(tmp_path / "shared"), seconds=10))
    failures = [finding for finding in findings if finding.level == "failure"]
    assert {finding.nodes for finding in failures} == {("this machine",), ("10.0.0.2",)}
    assert all("cannot be read (FileNotFoundError" in finding.seen for finding in failures)
    assert [path.name for path in tmp_path.rglob("*")] == ["elsewhere"], "nothing is left"


def test_storage_at_an_address(here: Node, tmp_path: Path) -> None:
    (found,) = check_storage([here], f"file://{tmp_path}/runs", seconds=10)
    assert found.level == "ok"
    (found,) = check_storage([here], "s3://key:secret@bucket/runs", seconds=10)
    assert found.level == "failure" and "secret" not in found.seen
    (found,) = check_storage([here], "nonsense://bucket/runs", seconds=10)
    assert found.level == "failure" and "nonsense" in found.seen


@pytest.mark.parametrize(("ahead", "expected"), [(0.0, 0.0), (100.0, 100.0), (-100.0, -100.0)])
def test_a_clock_that_could_be_right_counts_as_right(ahead: float, expected: float) -> None:
    def ask(question: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(time.time() + ahead)
        return future

    assert clock_offsets([Node("a", {}, ask)], 1.0) == [pytest.approx(expected, abs=1.0)]


def test_nodes_without_metacross_can_be_asked(tmp_path: Path) -> None:
    """Functions reach nodes by value: Ray unpickles them where metacross cannot be imported."""
    ray.cloudpickle.register_pickle_by_value(probe)
    try:
        (tmp_path / "asked").write_bytes(ray.cloudpickle.dumps((probe.Asked, probe.facts, probe.write)))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(probe)
    program = (
        "import sys, pickle, ray\n"
        "sys.modules['metacross'] = sys.modules['torch'] = None\n"
        f"Asked, facts, write = pickle.load(open('{tmp_path}/asked', 'rb'))\n"
        "told = Asked().answer(facts, [])\n"
        "assert told['cache'] and told['gpus']['trouble'][0].startswith('torch: '), told\n"
        f"print(Asked().answer(write, '{tmp_path}', 'trial')['made'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.cluster
def test_all_nodes_of_a_cluster_and_one_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with machines(2) as found:
        monkeypatch.setenv("RAY_ADDRESS", found.cluster.address)
        all_well = examine(f"{tmp_path}/runs", ports=[])
        failures = {finding.subject for finding in all_well.findings if finding.level == "failure"}
        assert failures <= {"disk of Ray's files"}, "how full this machine's disk is does not matter here"
        assert sorted(node.cpus for node in all_well.nodes) == [0, 1, 1]
        assert len(one(all_well.findings, "storage").nodes) == 3
        assert one(all_well.findings, "clocks").level == "ok"
        assert list(tmp_path.iterdir()) == []

        raylet = found.nodes[1].all_processes["raylet"][0].process.pid
        os.kill(raylet, signal.SIGSTOP)
        try:
            one_stands = examine(f"{tmp_path}/runs", ports=[], seconds=40)
        finally:
            os.kill(raylet, signal.SIGCONT)
        assert not one_stands.healthy
        (name,) = one(one_stands.findings, "nodes").nodes
        assert name in {node.name for node in all_well.nodes}
        assert {node.name for node in one_stands.nodes} == {node.name for node in all_well.nodes} - {name}
