"""Training on Ray: `train`. worker.py has what runs on every worker, attempts.py what happens when workers are lost.

A run is a directory that the driver and every node see, or an address that they all reach (storage/addresses.py):

    ray_config.yaml      the resolved configuration; while it is there, the directory belongs to this run
    progress.jsonl       the events as they happened, one a line: what `show` gets
    checkpoints/step-N   to resume from
    bundle/              the tagger: see bundle.py
    tensorboard/         the figures of progress.jsonl for TensorBoard; mlflow.json: the run's id in MLflow
    profile/             a trace of some steps, where train.profile is set: see training/profiler.py
    STOP                 whoever creates this file stops the run after the step it is in
    error.log            the worker's traceback of a run that failed
    ray/                 Ray's own files
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metacross.config import Config, TrainConfig
from metacross.config_loading import FILE_NAME, load_config
from metacross.errors import UserError
from metacross.events import Measurement, Show, ignore
from metacross.ray_session import cluster_resources, ray_session, refuse_unpacked, submission_id
from metacross.ray_training.attempts import attempt_until_done
from metacross.ray_training.directory import Run, opened, refuse_changes, refuse_used, settings_file, take_up
from metacross.ray_training.resources import worker_resources, worker_threads
from metacross.ray_training.worker import Assignment
from metacross.storage import addresses
from metacross.training.loop import Outcome


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run_dir: the run's directory, absolute; its address, if it is kept at one.
        bundle: the tagger it left, below it; None only where it was stopped before its first step.
        step: meta-steps done.
        stopped: whether someone stopped it before its last step; `train` with resume=True goes on.
        best: the bundle's dev F1 in percent; negative where nothing was measured yet.
        history: every measurement, in order.
    """

    run_dir: Path | str
    bundle: Path | str | None
    step: int
    stopped: bool
    best: float
    history: list[Measurement] = field(default_factory=list)


def train(
    config: Config,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    auto_resume: bool = False,
    show: Show = ignore,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float = 1.0,
) -> TrainResult:
    """Trains on Ray Train workers, to the end or until it is stopped; lost workers and nodes are replaced.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine for as long as
    the run takes. The first Ctrl-C (or SIGTERM) ends the run after the step it is in, with a checkpoint and a bundle;
    the second ends it at once.

    Args:
        config: the run's configuration; for a resumed run, what `resume_config` returns.
        run_dir: where to write, a directory or an address; train.storage_path/train.name by default. Without a name, a
            run that is a Ray job takes the job's submission id, and `auto_resume` is on: a job that is submitted again
            goes on.
        resume: go on from the newest checkpoint in `run_dir`; with a larger train.steps than the run had, from the
            newest that a fresh run of so many steps would have too.
        auto_resume: where the directory holds a run with this configuration, or with fewer steps, go on with it, from
            the start if it has no checkpoint, or return its result if it is done; else start it.
        show: called, in the caller's thread, with every event of progress.jsonl as it happens.
        cpus_per_worker: CPUs that Ray reserves for a worker, and its threads. By default all of this machine's go to
            the workers where Ray was started here; elsewhere it is 1.
        gpus_per_worker: GPUs that Ray reserves for a worker that uses one; a fraction lets several share it.

    Raises:
        UserError: something in the configuration, the corpora or `run_dir` has to be changed first.
        RunError: the run failed; checkpoints written so far are complete.
        KeyboardInterrupt: the second Ctrl-C; checkpoints written so far are complete.
    """
    if config.train.seeds > 1:
        raise UserError(f"train.seeds={config.train.seeds}: a run has one seed, train.seed. Leave it out.")
    if resume and run_dir is None:
        raise UserError("which run is to be resumed? Name its directory: --resume DIR")
    auto_resume = auto_resume or (not resume and resumes_by_itself(config, run_dir))
    location = location_of(config, run_dir)
    with addresses.working_copy(location) as (local, mirror):
        run = Run(location, local, mirror)
        run.fetch_settings()
        if auto_resume and run.has(FILE_NAME):
            take_up(run, config, show)
            if finished := _result_of_finished(run, config.train.steps):
                return finished
            resume = run.newest() > 0
        elif resume:
            take_up(run, config, show)
        else:
            refuse_used(run)
        with opened(run, config, fresh=not resume):
            outcome = _train_on_ray(run, config, show, cpus_per_worker, gpus_per_worker)
        return _result(run, outcome)


def resumes_by_itself(config: Config, run_dir: Path | str | None) -> bool:
    """Whether a run goes on without being told to: one without a name of its own, in a job that is submitted again."""
    return bool(submission_id()) and not (run_dir or config.train.name)


def location_of(config: Config, run_dir: Path | str | None) -> Path | str:
    """Where a run is kept: in `run_dir`, or below train.storage_path."""
    location = run_dir or _location_by_name(config.train)
    return str(location) if addresses.is_address(location) else Path(location).absolute()


def resume_config(run_dir: Path | str, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run goes on with: its own, with overrides of where it runs and how long.

    Raises:
        UserError: no run is there, or an override would change what the run has computed (which ones).
    """
    with addresses.working_copy(run_dir) as (local, mirror):
        run = Run(run_dir, local, mirror)
        run.fetch_settings()
        config = load_config([settings_file(run)], overrides, alone=True)
        refuse_changes(run, config)
    return config


def _train_on_ray(
    run: Run, config: Config, show: Show, cpus_per_worker: float | None, gpus_per_worker: float
) -> Outcome:
    with ray_session() as ours:
        use_gpu, resources = worker_resources(
            config.train,
            cluster_resources(),
            ours=ours,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
        )
        threads = worker_threads(resources["CPU"], ours=ours)
        assignment = Assignment(config, run.location, Path.cwd(), use_gpu, threads)
        return attempt_until_done(run, assignment, resources, show)


def _result(run: Run, outcome: Outcome) -> TrainResult:
    progress = outcome.progress
    return TrainResult(
        run_dir=run.location,
        bundle=run.below("bundle") if run.has("bundle") else None,
        step=progress.step,
        stopped=outcome.stopped,
        best=progress.best,
        history=progress.history,
    )


def _result_of_finished(run: Run, steps: int) -> TrainResult | None:
    """The result of a run that has done all its steps; None for one that has not."""
    progress = run.progress()
    if progress is None or progress.step < steps or not run.has("bundle"):
        return None
    return _result(run, Outcome(progress, stopped=False))


def _location_by_name(train: TrainConfig) -> Path | str:
    """Below train.storage_path, under the run's name, its Ray job's submission id, or method and time."""
    refuse_unpacked(train.storage_path)
    name = train.name or submission_id() or f"{train.method}-{time.strftime('%Y%m%d-%H%M%S')}"
    if addresses.is_address(train.storage_path):
        return addresses.join(train.storage_path, name)
    return Path(train.storage_path).expanduser() / name
