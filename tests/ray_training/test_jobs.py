"""`ray job submit` against a real head: names, exit statuses, stopping, and the same job submitted again."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR, get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.job_submission import JobStatus, JobSubmissionClient
from safetensors.torch import load_file

from metacross.bundle import load_bundle
from metacross.config import Config
from metacross.errors import UserError
from metacross.event_files import read_events
from metacross.events import Measurement, StepsDone
from metacross.ray_internals import JOB_CONFIG, PREEMPTION_WATCHER
from metacross.ray_session import refuse_unpacked, submission_id
from metacross.ray_training import driver
from metacross.sweeps.trials import read_trials
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.tiny_bundle import tiny_config, write_inputs

STEPS = 400
SETTINGS = [f"train.steps={STEPS}", "train.plain_steps=10", "train.eval_every=100", "train.checkpoint_every=20"]
SPACE = """
trials: 2
searcher: random
scheduler: none
reduction: 2
seed: 3
resources: {cpus: 1, gpus: 0}
fixed: {train.steps: 200, train.plain_steps: 4, train.eval_every: 20, train.checkpoint_every: 20}
space:
  inner.lr: {loguniform: [0.01, 0.3]}
"""
SUPERVISOR_SECONDS = 3.0  # Ray's supervisor outlives its job, and stands in the way of the same id
PATIENCE = 240.0  # seconds; a busy machine starts Ray slowly


@dataclass(frozen=True)
class Cluster:
    """A running head, and what to submit jobs with."""

    client: JobSubmissionClient
    runtime_env: dict[str, object]

    def submit(self, submission_id: str, *arguments: object) -> None:
        command = shlex.join(["metacross", *map(str, arguments)])
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.submit_job(entrypoint=command, submission_id=submission_id, runtime_env=self.runtime_env)
                return
            except RuntimeError as error:  # on a busy machine the head misses the agent of its node for a moment
                if "try again later" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def wait_for(self, submission_id: str, condition: Callable[[], bool]) -> None:
        """Waits until a running job has come so far."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            over = self.client.get_job_status(submission_id).is_terminal() or time.monotonic() > deadline
            assert not over, self.client.get_job_logs(submission_id)
            time.sleep(0.1)

    def end(self, submission_id: str) -> tuple[JobStatus, int | None, str]:
        """Waits; status, exit status and log. The id is free again, as a retrying launcher makes it."""
        deadline = time.monotonic() + PATIENCE
        while not self.client.get_job_status(submission_id).is_terminal():
            assert time.monotonic() < deadline, self.client.get_job_logs(submission_id)
            time.sleep(0.2)
        found = self.client.get_job_info(submission_id)
        log = self.client.get_job_logs(submission_id) or str(found.message)
        time.sleep(SUPERVISOR_SECONDS)
        self.client.delete_job(submission_id)
        return found.status, found.driver_exit_code, log


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder, corpora, a configuration and a space."""
    place = write_inputs(tmp_path_factory.mktemp("jobs"))
    (place / "job.yaml").write_text(config(place, "").to_yaml(), encoding="utf-8")
    (place / "space.yaml").write_text(SPACE, encoding="utf-8")
    return place


def config(place: Path, name: str) -> Config:
    return tiny_config(place, *SETTINGS, f"train.name={name}")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def cluster(root: Path) -> Iterator[Cluster]:
    """`ray start --head` beside whatever Ray runs on this machine already."""
    names = ["port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    names += ["node-manager-port", "object-manager-port", "metrics-export-port", "runtime-env-agent-port"]
    names += ["ray-client-server-port"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    binaries = Path(sys.executable).parent
    temporary = Path(tempfile.mkdtemp(prefix="ray"))  # short: paths of sockets are below it
    command = [str(binaries / "ray"), "start", "--head", "--block", "--num-cpus=3", "--disable-usage-stats"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
    command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1"]
    command += [f"--object-store-memory={100 << 20}", f"--temp-dir={temporary}"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": ""}
    environment[PREEMPTION_WATCHER] = "0"  # a process less for every run
    environment[ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # it listens on loopback alone; see ray_internals.on_loopback
    environment.pop("RAY_ADDRESS", None)
    with (temporary / "head.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        runtime_env = yaml.safe_load((root / "cluster" / "runtime_env.yaml").read_text(encoding="utf-8"))
        client = connected(f"http://127.0.0.1:{ports['dashboard-port']}", head, temporary / "head.log")
        yield Cluster(client, {**runtime_env, "working_dir": str(root)})
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)


def connected(address: str, head: subprocess.Popen[bytes], log: Path) -> JobSubmissionClient:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert head.poll() is None, log.read_text()
        try:
            client = JobSubmissionClient(address)
            client.list_jobs()  # answered once an agent is there to run jobs
        except (RuntimeError, ConnectionError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        else:
            return client


@pytest.mark.cluster
def test_a_stopped_job_that_is_submitted_again_goes_on(cluster: Cluster, place: Path) -> None:
    run_dir = place / "runs" / "raysubmit_again"
    cluster.submit("raysubmit_again", "train", "--config", place / "job.yaml")
    cluster.wait_for("raysubmit_again", lambda: bool(checkpoint.paths(run_dir)))
    cluster.client.stop_job("raysubmit_again")
    status, _, log = cluster.end("raysubmit_again")
    assert status == JobStatus.STOPPED
    progress = checkpoint.latest_progress(run_dir)
    assert progress is not None
    stopped = progress.step
    assert f"stopped at step {stopped}; go on with: metacross train --resume {run_dir}" in log
    assert stopped < STEPS
    load_bundle(run_dir / "bundle")

    cluster.submit("raysubmit_again", "train", "--config", place / "job.yaml")
    status, exit_status, log = cluster.end("raysubmit_again")
    assert (status, exit_status) == (JobStatus.SUCCEEDED, 0), log
    assert log.splitlines()[-1] == str(run_dir / "bundle")
    events = read_events(run_dir / "progress.jsonl")
    steps = [event.step for event in events if isinstance(event, StepsDone | Measurement)]
    assert steps == sorted(steps), "it went on and did not begin anew"

    undisturbed = place / "undisturbed"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(Learner.from_config(config(place, ""), device=torch.device("cpu")), undisturbed)
    torch.set_num_threads(threads)
    found, expected = (load_file(checkpoint.paths(d)[-1] / "state.safetensors") for d in (run_dir, undisturbed))
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.chaos
def test_a_failed_job_says_why(cluster: Cluster, place: Path) -> None:
    cluster.submit("unwritten", "train", "--config", place / "job.yaml", "train.storage_path=runs")
    cluster.submit("failed", "train", "--config", place / "job.yaml", "episodes.support_size=1000")
    status, exit_status, log = cluster.end("unwritten")
    assert (status, exit_status) == (JobStatus.FAILED, 2)
    assert "error: train.storage_path=runs is inside this job's copy of the working directory" in log
    status, exit_status, log = cluster.end("failed")
    assert (status, exit_status) == (JobStatus.FAILED, 2)
    assert "error: episodes.support_size=1000" in log
    assert not (place / "runs" / "failed" / "ray_config.yaml").exists(), "the name is free again"


@pytest.mark.chaos
def test_a_stopped_sweep_that_is_submitted_again_goes_on(cluster: Cluster, place: Path) -> None:
    directory = place / "runs" / "searched"
    sweep = ["tune", "--config", place / "job.yaml", "--space", place / "space.yaml"]
    cluster.submit("searched", *sweep)
    cluster.wait_for("searched", lambda: any(directory.glob("trials/*/checkpoints/step-*")))
    cluster.client.stop_job("searched")
    status, _, log = cluster.end("searched")
    assert status == JobStatus.STOPPED
    assert f"interrupted; go on with: metacross tune --resume {directory}" in log
    states = {trial.id: trial.state for trial in read_trials(directory, 200)}
    assert "unfinished" in states.values()

    cluster.submit("searched", *sweep)
    status, exit_status, log = cluster.end("searched")
    assert (status, exit_status) == (JobStatus.SUCCEEDED, 0), log
    assert str(directory / "best.yaml") in log
    trials = read_trials(directory, 200)
    assert [trial.state for trial in trials] == ["finished", "finished"]
    assert states.keys() <= {trial.id for trial in trials}


def test_the_upload_is_small(root: Path, tmp_path: Path) -> None:
    """As `ray job submit --working-dir .` packs it."""
    package = tmp_path / "package.zip"
    create_package(str(root), package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    assert package.stat().st_size < 5 << 20
    names = zipfile.ZipFile(package).namelist()
    assert {"ray_config.yaml", "metacross/__main__.py", "samples/en/train.conll", "tune_spaces/smoke.yaml"} <= set(
        names
    )
    assert {name.split("/")[0] for name in names} & {".venv", ".git", "runs", "tests", "docs", "benchmarks"} == set()


def test_the_unpacked_working_directory_is_no_place_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = tmp_path / "working_dir_files" / "_ray_pkg_0123"
    unpacked.mkdir(parents=True)
    refuse_unpacked("runs")
    monkeypatch.chdir(unpacked)
    refuse_unpacked(str(tmp_path))
    refuse_unpacked("s3://bucket/runs")
    with pytest.raises(UserError, match="Give an absolute path"):
        refuse_unpacked("runs")


def test_only_a_job_has_a_submission_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB_CONFIG, raising=False)
    assert submission_id() == ""
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"metadata": {"job_submission_id": "nightly"}}))
    assert submission_id() == "nightly"


def test_a_finished_run_is_not_run_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is Ray started: there is none in this test."""
    monkeypatch.setattr(driver, "ray_session", None)
    run_dir = place / "runs" / "finished"
    short = tiny_config(place, "train.steps=4", "train.plain_steps=0", "train.name=finished")
    run_dir.mkdir(parents=True)
    (run_dir / "ray_config.yaml").write_text(short.to_yaml(), encoding="utf-8")
    with pytest.raises(TypeError):  # no checkpoint: it would start
        driver.train(short, auto_resume=True)
    (run_dir / "ray_config.yaml").write_text(short.to_yaml(), encoding="utf-8")
    run(Learner.from_config(short, device=torch.device("cpu")), run_dir)
    result = driver.train(short, auto_resume=True)
    assert (result.run_dir, result.bundle, result.step, result.stopped) == (run_dir, run_dir / "bundle", 4, False)
    with pytest.raises(UserError, match=r"^train.lr: cannot be changed"):
        driver.train(
            tiny_config(place, "train.steps=4", "train.plain_steps=0", "train.name=finished", "train.lr=1"),
            auto_resume=True,
        )
    with pytest.raises(UserError, match="already holds a run"):
        driver.train(short)
