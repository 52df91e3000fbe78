"""Training on a real local Ray: the same weights as without it, stopped, resumed, and failing in the right words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metacross.bundle import load_bundle
from metacross.config_loading import load_config
from metacross.errors import RunError, UserError
from metacross.event_files import read_events
from metacross.events import Event, Measurement, Note, Start
from metacross.ray_internals import PREEMPTION_WATCHER
from metacross.ray_training import attempts, driver
from metacross.ray_training.directory import Run, refuse_used
from metacross.storage import addresses
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.local_ray import one_thread, started_ray
from tests.helpers.ray_inputs import ROOT, STEPS, assert_same, config, state, theta, write_inputs
from tests.helpers.s3 import s3_server

DRIVER = """
import json, os, signal, sys
from pathlib import Path
from metacross.config_loading import load_config
from metacross.events import Measurement
from metacross.ray_training import attempts, driver

attempts.POLL_SECONDS = 0.01
sent = False

def show(event):  # what Ctrl-C in a terminal does, once the run is on its way: a signal to the whole process group
    global sent
    if isinstance(event, Measurement) and not sent:
        sent = True
        os.killpg(0, signal.SIGINT)

result = driver.train(load_config([Path(sys.argv[1])]), show=show)
print(json.dumps([str(result.run_dir), result.step, result.stopped]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("train"))


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs start in `place`, and numbers are compared between processes: one thread in all of them."""
    monkeypatch.chdir(place)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as options:
        yield options


@pytest.fixture(scope="module")
def local_ray(s3: str) -> Iterator[None]:
    """Ray with more (logical) CPUs than any test needs, since a failed run may hold on to its own for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PREEMPTION_WATCHER, "0")  # a process less for every run
        with started_ray(8):
            yield


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """An undisturbed run without Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        torch.set_num_threads(1)
        run_dir = place / "runs" / "alone"
        run(Learner.from_config(config("alone"), device=torch.device("cpu")), run_dir)
    return run_dir


@pytest.mark.cluster
@pytest.mark.ray
def test_one_worker_learns_what_the_learner_alone_learns(local_ray: None, alone: Path, place: Path) -> None:
    events: list[Event] = []
    address = f"sqlite:///{place / 'mlflow.db'}"
    result = driver.train(config("one", train__profile="true", train__mlflow_uri=address), show=events.append)

    assert (result.step, result.stopped) == (STEPS, False)
    assert_same(state(result.run_dir), state(alone))
    progress = checkpoint.latest_progress(alone)
    assert progress is not None
    assert progress.history == result.history
    written = read_events(Path(result.run_dir) / "progress.jsonl")
    assert [event for event in events if event in written] == written  # besides a note where the start is slow
    measured = [event for event in events if isinstance(event, Measurement)]
    assert measured == result.history
    assert [m.step for m in measured] == [20, 40, 60, 80, 100]
    assert result.bundle is not None
    assert load_bundle(result.bundle).metrics["dev_f1"] == result.best
    board = EventAccumulator(str(result.run_dir / "tensorboard"))
    board.Reload()
    points = [(point.step, point.value) for point in board.Scalars("dev_f1/adapted")]
    assert points == [(m.step, pytest.approx(m.adapted)) for m in measured]
    assert (result.run_dir / "profile" / "steps-6-15.pt.trace.json.gz").exists()

    kept = json.loads((Path(result.run_dir) / "mlflow.json").read_text(encoding="utf-8"))
    client = MlflowClient(tracking_uri=address)
    assert client.get_run(kept["run_id"]).info.status == "FINISHED"
    points = {point.step: point.value for point in client.get_metric_history(kept["run_id"], "dev_f1/adapted")}
    assert points == {m.step: m.adapted for m in result.history}


@pytest.mark.chaos  # "two workers" below is the same in the default run
def test_three_workers_learn_what_one_learns(local_ray: None, place: Path) -> None:
    settings = config("three", train__workers=3, train__steps=20, train__eval_every=10)
    result = driver.train(settings)
    run(Learner.from_config(settings, device=torch.device("cpu")), place / "runs" / "one-of-three")
    found, expected = theta(Path(result.run_dir)), theta(place / "runs" / "one-of-three")
    assert torch.linalg.vector_norm(found - expected) < 1e-5 * torch.linalg.vector_norm(expected)


@pytest.mark.chaos  # the next test does most of it
def test_a_run_at_an_address(local_ray: None, alone: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped and gone on with, it ends as a run in a directory does; driver and worker share no directory."""
    monkeypatch.setattr(addresses, "FOLLOW_SECONDS", 0.1)
    address = f"s3://metacross-runs/some{s3}"
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        if isinstance(event, Measurement):
            with addresses.working_copy(addresses.join(address, "moved")) as (local, mirror):
                (local / "STOP").touch()
                assert mirror is not None
                mirror.push("STOP")

    settings = config("moved", train__storage_path=address, train__steps=STEPS)
    first = driver.train(settings, show=stop)
    assert first.run_dir == addresses.join(address, "moved")
    with pytest.raises(UserError, match="already holds a run"):
        driver.train(settings)
    resumed = driver.resume_config(str(first.run_dir))
    assert resumed == settings
    result = driver.train(resumed, run_dir=first.run_dir, resume=True, show=events.append)
    assert (result.step, result.stopped) == (STEPS, False)
    assert [m.step for m in result.history] == [20, 40, 60, 80, 100]
    assert {event.step for event in events if isinstance(event, Measurement)} == {20, 40, 60, 80, 100}
    with addresses.working_copy(str(first.run_dir)) as (local, mirror):
        assert mirror is not None
        assert {"bundle", "checkpoints", "progress.jsonl", "ray_config.yaml", "tensorboard"} <= set(mirror.names(""))
        assert not mirror.exists("STOP")
        checkpoint.fetch(mirror)
        assert_same(state(local), state(alone))
    assert result.bundle is not None
    assert load_bundle(result.bundle).metrics["dev_f1"] == result.best


@pytest.mark.cluster
def test_a_finished_run_at_an_address_is_made_longer(
    local_ray: None, place: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as a run of that length that was never shorter, without Ray and in a directory, does."""
    monkeypatch.setattr(addresses, "FOLLOW_SECONDS", 0.1)
    changes = {"train__storage_path": f"s3://metacross-runs/some{s3}", "train__warmup": 4, "train__decay": 0.5}
    shorter = config("longer", train__steps=20, train__eval_every=5, **changes)
    settings = config("longer", train__steps=40, train__eval_every=5, **changes)
    fresh = place / "runs" / "never_shorter"
    expected = run(Learner.from_config(settings, device=torch.device("cpu")), fresh)

    address = str(driver.train(shorter).run_dir)
    resumed = driver.resume_config(address, ["train.steps=40"])
    assert resumed == settings
    events: list[Event] = []
    result = driver.train(resumed, run_dir=address, resume=True, show=events.append)
    assert (
        Note("going back to step 10: after it, a run of 40 steps has other learning rates or another average") in events
    )
    assert Start(step=10, steps=40, workers=1) in events
    assert (result.step, result.stopped) == (40, False)
    assert result.history == expected.progress.history
    with addresses.working_copy(address) as (local, mirror):
        assert mirror is not None
        checkpoint.fetch(mirror)
        assert_same(state(local), state(fresh))
        assert mirror.pull("bundle") and mirror.pull("ray_config.yaml")
        assert (local / "bundle" / "manifest.json").read_text() == (fresh / "bundle" / "manifest.json").read_text()
        assert load_config([local / "ray_config.yaml"], alone=True) == settings
    assert driver.train(settings, auto_resume=True) == result  # it is done


@pytest.mark.ray
def test_two_workers_learn_what_one_learns_and_stop_together(
    local_ray: None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "POLL_SECONDS", 0.01)
    stop = place / "runs" / "two" / "STOP"
    settings = config("two", train__workers=2, train__steps=1000, train__eval_every=10)
    result = driver.train(settings, show=lambda event: stop.touch() if isinstance(event, Measurement) else None)
    assert result.stopped
    assert 10 <= result.step < 1000

    learner = Learner.from_config(settings, device=torch.device("cpu"))
    run(learner, place / "runs" / "one_of_two", should_stop=lambda: learner.progress.step == result.step - 1)
    found, expected = theta(result.run_dir), theta(place / "runs" / "one_of_two")
    assert torch.linalg.vector_norm(found - expected) < 1e-5 * torch.linalg.vector_norm(expected)
    assert not torch.equal(found, expected)  # else it was one worker's work


@pytest.mark.cluster
@pytest.mark.ray
def test_ctrl_c_leaves_a_whole_run_that_goes_on_as_if_nothing_had_been(
    local_ray: None, alone: Path, place: Path
) -> None:
    settings = place / "stopped.yaml"
    settings.write_text(config("stopped").to_yaml(), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(settings)],
        env=environment,
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=400,  # most of it is Ray starting, slowly on a busy machine
    )
    assert done.returncode == 0, done.stderr
    path, step, stopped = json.loads(done.stdout.splitlines()[-1])
    run_dir = Path(path)
    assert stopped
    assert 20 <= step < STEPS
    assert checkpoint.paths(run_dir)[-1].name == f"step-{step:07d}"
    assert not (run_dir / "STOP").exists()
    load_bundle(run_dir / "bundle")

    events: list[Event] = []
    result = driver.train(driver.resume_config(run_dir), run_dir=run_dir, resume=True, show=events.append)
    assert (result.step, result.stopped) == (STEPS, False)
    assert all(event.step > step for event in events if isinstance(event, Measurement))  # it did not begin anew
    assert_same(state(run_dir), state(alone))


@pytest.mark.chaos
@pytest.mark.ray
def test_stop_before_the_first_step(local_ray: None, place: Path) -> None:
    run_dir = place / "runs" / "early"

    def stop() -> None:
        while not (run_dir / "ray_config.yaml").exists():
            time.sleep(0.01)
        (run_dir / "STOP").touch()

    thread = threading.Thread(target=stop)
    thread.start()
    result = driver.train(config("early"))
    thread.join()
    assert result == driver.TrainResult(run_dir=run_dir, bundle=None, step=0, stopped=True, best=-1.0, history=[])


@pytest.mark.cluster
@pytest.mark.ray
def test_user_error_of_a_worker_reaches_the_driver(local_ray: None, place: Path) -> None:
    impossible = config("impossible", episodes__support_size=1000)
    with pytest.raises(UserError) as expected:
        Learner.from_config(impossible, device=torch.device("cpu"))
    with pytest.raises(UserError) as caught:
        driver.train(impossible)
    assert str(caught.value) == str(expected.value)
    refuse_used(
        Run(run_dir := place / "runs" / "impossible", run_dir, None)
    )  # nothing was trained, so the name can be used again


@pytest.mark.cluster
@pytest.mark.ray
def test_loss_that_is_not_finite_names_the_step_and_keeps_checkpoints(local_ray: None, place: Path) -> None:
    broken = config("broken", train__lr=1e30, train__warmup=0, train__checkpoint_every=1)
    with pytest.raises(RunError, match=r"^step 2: the loss or its gradient is not finite"):
        driver.train(broken)
    learner = Learner.from_config(broken, device=torch.device("cpu"))
    run_dir = place / "runs" / "broken"
    checkpoint.restore(run_dir, learner.model, learner.optimizer, learner.progress, tags=learner.tags)
    assert learner.progress.step == 1
    with pytest.raises(UserError, match="already holds a run"):
        driver.train(broken)


def test_run_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ray_config.yaml").touch()
    with pytest.raises(UserError, match=f"Choose another train.name, or .* --resume {tmp_path}"):
        driver.train(config("any"), run_dir=tmp_path)


def test_run_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        driver.train(config("any"), run_dir=tmp_path / "file" / "run")


def test_resumed_run_keeps_what_decides_its_result(tmp_path: Path) -> None:
    own = config("kept")
    (tmp_path / "ray_config.yaml").write_text(own.to_yaml(), encoding="utf-8")
    assert driver.resume_config(tmp_path) == own
    assert driver.resume_config(tmp_path, ["train.workers=2", "train.lr=0.002"]).train.workers == 2
    assert driver.resume_config(tmp_path, ["train.profile=true", "train.mlflow_uri=http://host"]).train.profile
    with pytest.raises(UserError, match=r"^train.steps, train.lr: cannot be changed"):
        driver.resume_config(tmp_path, ["train.lr=0.1", "train.steps=9"])
    with pytest.raises(UserError, match=r"^train.seed: cannot be changed"):
        driver.train(config("kept", train__seed=1), run_dir=tmp_path, resume=True)
    with pytest.raises(UserError, match="no run to resume"):
        driver.resume_config(tmp_path / "elsewhere")
