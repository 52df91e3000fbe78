"""The rehearsal of a cluster in its small form: two hosts of namespaces, and its tools."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.needs import missing

LACKING = 3  # the exit status of a rehearsal for which the machine lacks something
PATIENCE = 900  # seconds; a quiet machine takes less than 240


@pytest.mark.cluster
def test_two_hosts(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, because the hosts are made of namespaces")
    command = [root / "cluster" / "rehearsal.sh", "hosts", "--small", "--venv", sys.prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode == LACKING:
        missing(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_rule_names_and_a_node_lacks(root: Path, tmp_path: Path) -> None:
    metrics = runpy.run_path(str(root / "cluster" / "rehearsal" / "metrics.py"))
    rules = tmp_path / "alerts.yaml"
    rules.write_text(
        'ray_node_mem_used{IsHead="true", ray_io_cluster=~".*"} / ray_node_mem_total{ip="h"} > by (ray_io_cluster) 1\n'
        'ray_metacross_requests_total{status=~\\"5..\\"}\n',  # as in the dashboard's JSON
        encoding="utf-8",
    )
    exported = metrics["exported"](
        '# TYPE ray_node_mem_used gauge\nray_node_mem_used{IsHeadNode="true",ip="h"} 1.0\n'
        'ray_metacross_requests_total{route="/{x}",status="200"} 2.0\n'
    )
    missing = {"ray_node_mem_used{IsHead}", "ray_node_mem_total", "ray_node_mem_total{ip}"}
    assert metrics["named"]([str(rules)]) - exported == missing


def test_what_clients_were_told_is_counted(root: Path) -> None:
    load = runpy.run_path(str(root / "cluster" / "rehearsal" / "load.py"))
    now = time.time()
    told = [(now - 60, "ConnectError"), (now - 30, "200"), (now - 10, "500"), (now - 9, "500"), (now - 8, "200")]
    asked = [load["Asked"](ended, "one", what) for ended, what in told]
    assert load["count"](asked, now - 40) == "2 2 22.0 500:2"
