"""What the benchmark of the service's memory reads about processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.serving_memory import SUM, Memory, family, process_name, pss_mb

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux only")


def test_children_are_counted_and_ended_ones_are_not() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], **pipes)
    assert child.stdout
    child.stdout.readline()  # before it, the child may not have begun to run Python
    assert child.pid in family(os.getpid())
    assert pss_mb(child.pid) > 1
    child.communicate(b"\n")
    assert child.pid not in family(os.getpid())
    assert pss_mb(child.pid) == 0


def test_the_sum_is_that_of_all_processes() -> None:
    memory = Memory(os.getpid())
    figures = memory.now()
    memory.stop()
    assert figures[SUM] == pytest.approx(sum(megabytes for name, megabytes in figures.items() if name != SUM))


def test_rays_processes_have_their_deployments_names(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = {
        "ray::ServeReplica:default:Tagger.handle_request\0\0": "Tagger",
        "ray::ProxyActor.receive\0": "ProxyActor",
        "/x/raylet/raylet\0--python=/x/setup_worker.py\0": "raylet",
        "/x/python\0-u\0/x/log_monitor.py\0": "log_monitor.py",
        "/x/python\0-m\0serve.run\0bundle\0": "serve.run",
    }
    for title, name in titles.items():
        monkeypatch.setattr("benchmarks.serving_memory.Path.read_text", lambda self, title=title, **_: title)
        assert process_name(1) == name
