"""The long forms of test_faults.py: `make chaos`."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.serving_memory import family
from metacross.errors import UserError
from metacross.event_files import read_events
from metacross.events import Event, Measurement, Note, Start
from metacross.ray_training import attempts, driver
from metacross.storage import addresses
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.local_ray import one_thread
from tests.helpers.machines import Machines, at_steps, machines, wait_for
from tests.helpers.ray_inputs import ROOT, assert_same, state, theta, write_inputs
from tests.helpers.s3 import s3_server
from tests.ray_training.test_faults import settings, sizes

pytestmark = pytest.mark.chaos
LONG = 600
KILLED_DRIVER = """
import os, signal, sys
from pathlib import Path
from metacross.config_loading import load_config
from metacross.events import Measurement
from metacross.ray_training import attempts, driver

attempts.POLL_SECONDS = 0.01

def show(event):
    if isinstance(event, Measurement) and event.step >= 40:
        os.kill(os.getpid(), signal.SIGKILL)

driver.train(load_config([Path(sys.argv[1])]), show=show)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("chaos"))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as options:
        yield options


@pytest.fixture(autouse=True)
def here(place: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    monkeypatch.setattr(attempts, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(attempts, "RESIZE_SECONDS", 1.0)
    with one_thread():
        yield


@pytest.fixture
def cluster() -> Iterator[Machines]:
    with machines(nodes=2) as found:
        yield found


@pytest.fixture(scope="module")
def alone(place: Path, s3: str) -> Path:
    """An undisturbed run without Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        torch.set_num_threads(1)
        run_dir = place / "runs" / "alone"
        run(Learner.from_config(settings("alone", train__steps=LONG), device=torch.device("cpu")), run_dir)
    return run_dir


def test_workers_killed_again_and_again(cluster: Machines) -> None:
    """The same workers in the end, so the same bits."""
    undisturbed = driver.train(settings("undisturbed", train__steps=LONG, train__workers=2))
    draw = random.Random(5)
    steps = sorted(draw.sample(range(20, LONG - 50, 10), 4))
    events: list[Event] = []
    kills = [(step, lambda number=number % 2: cluster.kill_worker(number)) for number, step in enumerate(steps)]
    result = driver.train(settings("killed", train__steps=LONG, train__workers=2), show=at_steps(*kills, events=events))
    assert sizes(events) == [2] * 5
    assert_same(state(Path(result.run_dir)), state(Path(undisturbed.run_dir)))


def test_a_node_lost_while_workers_start(cluster: Machines) -> None:
    """Whether Ray tries again itself depends on the moment; the run goes on in any case once there is room."""
    undisturbed = driver.train(settings("undisturbed_early", train__workers=2))
    events: list[Event] = []
    before = [set(cluster.workers(number)) for number in range(2)]
    thread = threading.Thread(
        target=lambda: driver.train(settings("early", train__workers=2), show=events.append), daemon=True
    )
    thread.start()
    wait_for(lambda: all(set(cluster.workers(number)) - before[number] for number in range(2)))
    assert sizes(events) == []
    cluster.lose(1)
    cluster.join()  # only the main thread may
    thread.join(200)
    assert not thread.is_alive()
    assert sizes(events)[-1] == 2
    assert_same(state(Path("runs/early")), state(Path(undisturbed.run_dir)))


def assert_close(found: Path, expected: Path, start: Tensor) -> None:
    """The weights of the same training by other workers, whose parts are summed in another order (Adam adds to that).

    They are far less apart than the training moved them.
    """
    one, other = theta(found), theta(expected)
    assert torch.linalg.vector_norm(one - other) < 0.01 * torch.linalg.vector_norm(other - start)


def test_nodes_come_and_go(cluster: Machines, place: Path) -> None:
    """As many workers as there is room for."""
    elastic = {"train__steps": 100_000, "train__eval_every": 20, "train__workers": "[1, 2]"}
    events: list[Event] = []
    happen = at_steps((20, lambda: cluster.kill_worker(0)), (40, lambda: cluster.lose(0)), events=events)

    def show(event: Event) -> None:
        happen(event)
        if isinstance(event, Start) and event.workers == 1:
            cluster.join()
        if isinstance(event, Measurement) and len(sizes(events)) == 4:  # whenever the new node has joined
            Path("runs/nodes/STOP").touch()

    result = driver.train(settings("nodes", **elastic), show=show)
    assert sizes(events) == [2, 2, 1, 2]
    starts = [event.step for event in events if isinstance(event, Start)]
    assert 0 < starts[1] <= starts[2] < starts[3] < result.step
    one = Learner.from_config(settings("alone-long", **elastic), device=torch.device("cpu"))
    start = torch.cat([p.detach().flatten() for p in one.model.theta()]).clone()
    run(one, place / "runs" / "alone-long", should_stop=lambda: one.progress.step == result.step - 1)
    assert_close(Path(result.run_dir), place / "runs" / "alone-long", start)


def test_the_driver_killed_and_started_again_on_ray(place: Path, alone: Path) -> None:
    file = place / "driver.yaml"
    file.write_text(settings("driver", train__steps=LONG).to_yaml(), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_DRIVER, str(file)], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = [sys.executable, "-m", "metacross", "train", "--resume", str(place / "runs" / "driver")]
    done = subprocess.run(again, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(place / "runs" / "driver" / "bundle")
    assert "going on after step" in done.stderr
    assert_same(state(place / "runs" / "driver"), state(alone))


def test_the_same_command_on_a_new_cluster_goes_on_when_all_of_the_old_one_was_killed(place: Path, alone: Path) -> None:
    """As every retry of a RayJob (backoffLimit) runs it; each command starts a Ray of its own."""
    (place / "retried.yaml").write_text(settings("retried", train__steps=LONG).to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "metacross", "train", "--auto-resume", "--config", "retried.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    run_dir = place / "runs" / "retried"
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: len(checkpoint.paths(run_dir)) > 1)
        for pid in family(first.pid):
            os.kill(pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    progress = checkpoint.latest_progress(run_dir)
    assert progress is not None and progress.step < LONG

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run_dir / "bundle")
    assert "going on after step" in done.stderr
    assert_same(state(run_dir), state(alone))


def test_a_disk_that_is_full_at_a_workers_checkpoint(cluster: Machines, alone: Path) -> None:
    def fill_disk() -> None:
        for number in range(2):
            for pid in cluster.workers(number):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (30_000, 30_000))

    full = settings("full", train__steps=LONG)
    events: list[Event] = []
    with pytest.raises(UserError, match=r"cannot be written \(.*File too large"):
        driver.train(full, show=at_steps((100, fill_disk), events=events))
    run_dir = Path("runs/full").absolute()
    assert len(sizes(events)) == 1  # the user's to mend: not tried again
    newest, damage = checkpoint.newest_complete(run_dir)
    assert newest is not None
    assert newest == checkpoint.paths(run_dir)[-1]
    assert damage == []
    driver.train(driver.resume_config(run_dir), run_dir=run_dir, resume=True)
    assert_same(state(run_dir), state(alone))


def test_a_truncated_checkpoint(cluster: Machines, alone: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Measurement) and event.step >= 100:
            Path("runs/truncated/STOP").touch()

    first = driver.train(settings("truncated", train__steps=LONG), show=stop)
    run_dir = Path(first.run_dir)
    *_, before, newest = checkpoint.paths(run_dir)
    os.truncate(newest / "state.safetensors", 1000)
    events: list[Event] = []
    driver.train(driver.resume_config(run_dir), run_dir=run_dir, resume=True, show=events.append)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any(note.startswith("warning:") and newest.name in note for note in notes)
    (start,) = [event for event in events if isinstance(event, Start)]
    if before.exists():
        assert start.step == checkpoint.read_progress(before).progress.step
    else:
        assert start.step < first.step
    assert_same(state(run_dir), state(alone))


def test_a_node_lost_by_a_run_at_an_address(cluster: Machines, s3: str) -> None:
    undisturbed = driver.train(settings("at-home", train__steps=LONG, train__workers=2))
    events: list[Event] = []
    show = at_steps((60, lambda: (cluster.lose(0), cluster.join())), events=events)
    address = f"s3://chaos{s3}"
    result = driver.train(
        settings("moved", train__steps=LONG, train__workers=2, train__storage_path=address), show=show
    )
    assert result.step == LONG
    assert len(sizes(events)) == 2
    with addresses.working_copy(str(result.run_dir)) as (local, mirror):
        assert mirror is not None
        checkpoint.fetch(mirror)
        assert_same(state(local), state(Path(undisturbed.run_dir)))
        assert mirror.pull("progress.jsonl")
        written = read_events(local / "progress.jsonl")
    assert sizes(written) == [2, 2]
