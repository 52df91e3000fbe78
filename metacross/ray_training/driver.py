"""Training on Ray: the driver. worker.py has what runs on every worker.

A run is a directory that the driver and every node see, or an address that they all reach (see storage.py):

    ray_config.yaml      the resolved configuration; while it is there, the directory belongs to this run
    progress.jsonl       one event a line, as it happened: what `show` gets
    checkpoints/step-N   to resume from
    bundle/              what the run leaves: see bundle.py
    tensorboard/         the figures of progress.jsonl for TensorBoard; mlflow.json: the run's id in MLflow
    profile/             a trace of some steps, where train.profile is set: see profile.py
    STOP                 whoever creates this file stops the run after the step it is in
    error.log            the worker's traceback of a run that failed
    ray/                 Ray's own files, a new directory for every attempt, so that Ray resumes nothing by itself

A worker or a node that is lost ends an attempt; the next one goes on from the newest checkpoint. That is done here and
not by Ray, whose own retries leave out a node lost while workers start, and would repeat the user's mistakes.
"""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import ray
import ray.train
import ray.train.torch
import torch

from metacross.config import FILE_NAME, Config, TrainConfig, load_config
from metacross.errors import RunError, UserError, first_line
from metacross.ray_session import cluster_resources, ray_session, refuse_unpacked, submission_id
from metacross.ray_training.directory import Run, Tail, open_run, refuse_changes, refuse_used, settings_file
from metacross.ray_training.resources import worker_resources, worker_threads
from metacross.ray_training.worker import Assignment, Stopped, work
from metacross.storage import addresses

Show = Callable[[dict[str, Any]], None]

POLL_SECONDS = 0.2  # between two looks of the driver at progress.jsonl
# A fault of the program, or too large a model, shows in one of these, and would again.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
    torch.OutOfMemoryError,
)
COLLECTIVE_SECONDS = 900  # how long a worker waits for the others, who may still be encoding or writing a bundle
RESIZE_SECONDS = 60.0  # between two looks whether there is room for more workers
PATIENCE_SECONDS = 60.0  # without a word from the workers, before the driver says what it waits for


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run_dir: the run's directory, absolute; its address, if it is kept at one.
        bundle: the tagger it left, below it; None only where it was stopped before its first step.
        step: meta-steps done.
        stopped: whether someone stopped it before its last step; `train` with resume=True goes on.
        best: the bundle's dev F1 in percent; negative where nothing was measured yet.
        history: every measurement: {"step", "plain"} and, but for method base, "adapted".
    """

    run_dir: Path | str
    bundle: Path | str | None
    step: int
    stopped: bool
    best: float
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    config: Config,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    auto_resume: bool = False,
    show: Show | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float = 1.0,
) -> TrainResult:
    """Trains on Ray Train workers, to the end or until it is stopped; lost workers and nodes are made good.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine for as long as
    the run takes. The first Ctrl-C (or SIGTERM) ends the run after the step it is in, with a checkpoint and a bundle;
    the second ends it at once.

    Args:
        config: of the run; for a resumed one, what `resume_config` returns.
        run_dir: where to write, a directory or an address; train.storage_path/train.name by default. Without a name, a
            run that is a Ray job takes the job's submission id, and `auto_resume` is on: a job that is submitted again
            goes on.
        resume: go on from the newest checkpoint in `run_dir`.
        auto_resume: where the directory holds a run with this configuration, go on with it, from the start if it has
            no checkpoint, or return what it came to if it is done; else start it.
        show: is called, in the caller's thread, with every event of progress.jsonl as it happens.
        cpus_per_worker: CPUs that Ray reserves for a worker, and its threads. By default all of this machine's go to
            the workers where Ray was started here; elsewhere it is 1.
        gpus_per_worker: GPUs that Ray reserves for a worker that uses one; a fraction lets several share it.

    Raises:
        UserError: something in the configuration, the corpora or `run_dir` has to be changed first.
        RunError: the run failed; checkpoints written so far are whole.
        KeyboardInterrupt: the second Ctrl-C; checkpoints written so far are whole.
    """
    if resume and run_dir is None:
        raise UserError("which run is to be resumed? Name its directory: --resume DIR")
    auto_resume = auto_resume or not (resume or run_dir or config.train.name or not submission_id())
    place = _absolute(run_dir or _default_run_dir(config.train))
    with addresses.working_copy(place) as (local, mirror):
        run = Run(place, local, mirror)
        run.fetch_settings()
        if auto_resume and run.has(FILE_NAME):
            refuse_changes(run, config)
            if done := _done(run, config.train.steps):
                return done
            resume = run.newest() > 0
        elif resume:
            refuse_changes(run, config)
        else:
            refuse_used(run)
        open_run(run, config, fresh=not resume)
        try:
            with ray_session() as ours:
                use_gpu, resources = worker_resources(
                    config.train,
                    cluster_resources(),
                    ours=ours,
                    cpus_per_worker=cpus_per_worker,
                    gpus_per_worker=gpus_per_worker,
                )
                job = Assignment(config, place, Path.cwd(), use_gpu, worker_threads(resources["CPU"], ours=ours))
                found = _drive(run, job, resources, show or (lambda event: None))
        except Exception:
            # Nothing to go on from: the name is free again once the mistake is mended.
            if not (resume or run.newest() or run.has("bundle")):
                run.remove(FILE_NAME)
            raise
        finally:
            run.remove("STOP")
        bundle = run.below("bundle") if run.has("bundle") else None
        return TrainResult(run_dir=place, bundle=bundle, **found)


def resume_config(run_dir: Path | str, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run goes on with: its own, with overrides of where it runs.

    Raises:
        UserError: no run is there, or an override would change what the run computes (which ones).
    """
    with addresses.working_copy(run_dir) as (local, mirror):
        run = Run(run_dir, local, mirror)
        run.fetch_settings()
        config = load_config([settings_file(run)], overrides, alone=True)
        refuse_changes(run, config)
    return config


def _absolute(place: Path | str) -> Path | str:
    return str(place) if addresses.is_address(place) else Path(place).absolute()


def _done(run: Run, steps: int) -> TrainResult | None:
    """What a run came to that has done all its steps; None for one that has not."""
    progress = run.progress()
    if progress is None or progress["step"] < steps or not run.has("bundle"):
        return None
    found = {key: progress[key] for key in ("step", "best", "history")}
    return TrainResult(run_dir=run.place, bundle=run.below("bundle"), stopped=False, **found)


def _default_run_dir(train: TrainConfig) -> Path | str:
    refuse_unpacked(train.storage_path)
    name = train.name or submission_id() or f"{train.method}-{time.strftime('%Y%m%d-%H%M%S')}"
    if addresses.is_address(train.storage_path):
        return addresses.join(train.storage_path, name)
    return Path(train.storage_path).expanduser() / name


def _drive(run: Run, job: Assignment, resources: dict[str, float], show: Show) -> dict[str, Any]:
    """Makes attempts until one comes to its end; returns what `training_loop.run` returned on rank 0.

    Attempts that failed one after another without a new checkpoint are counted.
    """
    lost = 0
    with _signals_stop(run.local) as notes, run.followed():
        while True:
            before = run.newest()
            outcome = _attempt(run, job, resources, show, notes)
            error = outcome.get("error")
            if error is None:
                break
            if found := _stopped_early(run, error):
                return found
            lost = 1 if run.newest() > before else lost + 1
            if not _worth_another(error) or lost > job.config.train.max_failures or (run.local / "STOP").exists():
                _raise(run, error)
            what = f"{first_line(_causes(error)[0])} ({type(_causes(error)[0]).__name__})"
            text = f"lost workers: {what}; going on from step {run.newest()}, try {lost} of "
            show({"event": "note", "text": f"{text}{job.config.train.max_failures}"})
    if not run.has("bundle"):
        raise RunError(
            f"the workers finished, but {run.below('bundle')} is not here: train.storage_path must be a directory that "
            "all nodes see, or an address."
        )
    result: dict[str, Any] = outcome["result"].return_value
    return result


def _attempt(run: Run, job: Assignment, resources: dict[str, float], show: Show, notes: list[str]) -> dict[str, Any]:
    """Runs workers once, shows events and notes meanwhile; {"result": ...} or {"error": ...}."""
    trainer, outcome = _trainer(run, job, resources), dict[str, Any]()

    def fit() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:
            # Its frames would keep Ray's controller, and so the workers' places, from the next attempt.
            outcome["error"] = error.with_traceback(None)

    # Not in this thread: there, Ray would put a SIGINT handler of its own in place, which aborts without a checkpoint.
    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    events = Tail(run.local / "progress.jsonl")
    thread.start()
    began, quiet = time.monotonic(), True
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        for event in events.new():
            quiet = False
            show(event)
        if quiet and time.monotonic() - began > PATIENCE_SECONDS:
            quiet = False
            notes.append(_waiting(job.config.train, job.use_gpu))
        while notes:
            show({"event": "note", "text": notes.pop(0)})
    if run.mirror:
        run.mirror.pull("progress.jsonl")
    for event in events.new():
        show(event)
    return outcome


def _trainer(run: Run, job: Assignment, resources: dict[str, float]) -> ray.train.torch.TorchTrainer:
    fewest, most = job.config.train.worker_range()
    attempt = f"attempt-{uuid.uuid4().hex[:8]}"
    where: dict[str, Any] = {"storage_path": str(run.local / "ray")}
    if run.mirror:
        where = {"storage_path": run.mirror.path("ray"), "storage_filesystem": run.mirror.filesystem}
    return ray.train.torch.TorchTrainer(
        lambda: work(job),  # type: ignore[arg-type]  # what it returns comes back as return_value
        torch_config=ray.train.torch.TorchConfig(
            backend="nccl" if job.use_gpu else "gloo", timeout_s=COLLECTIVE_SECONDS
        ),
        scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg]  # seen as Train V1's
            num_workers=fewest if fewest == most else (fewest, most),  # type: ignore[arg-type]
            use_gpu=job.use_gpu,
            resources_per_worker=dict(resources),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=ray.train.RunConfig(name=attempt, failure_config=ray.train.FailureConfig(max_failures=0), **where),
    )


def _waiting(train: TrainConfig, use_gpu: bool) -> str:
    each = ", each with a GPU" if use_gpu else ""
    return (
        f"nothing yet from the workers (train.workers={train.workers}{each}); `ray status` shows whether there is room"
    )


def _causes(error: BaseException) -> list[BaseException]:
    """What workers raised, by rank; where none did, what Ray raised."""
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    return [failures[rank] for rank in sorted(failures)] or [error]


def _worth_another(error: BaseException) -> bool:
    """Whether an attempt may have failed by its machines alone.

    A worker that died shows as an error of Ray's, and the others lose their connections, which are RuntimeErrors.
    """
    return not any(isinstance(cause, (UserError, RunError, *FAULTS)) for cause in _causes(error))


def _stopped_early(run: Run, error: BaseException) -> dict[str, Any] | None:
    """What to return for a run that someone stopped while it was prepared."""
    if not any(isinstance(cause, Stopped) for cause in _causes(error)):
        return None
    progress = run.progress() or {"step": 0, "best": -1.0, "history": []}
    return {"stopped": True, **{key: progress[key] for key in ("step", "best", "history")}}


def _raise(run: Run, error: BaseException) -> NoReturn:
    """Raises what a worker raised, without Ray's wrapping."""
    causes = _causes(error)
    for kind in (UserError, RunError):
        for cause in causes:
            if isinstance(cause, kind):
                raise cause
    run.write("error.log", str(error))
    hint = f" What was done before is kept: go on with --resume {run.place}" if run.newest() else ""
    raise RunError(
        f"a worker failed: {type(causes[0]).__name__}: {first_line(causes[0])} (all of it: {run.below('error.log')})."
        f"{hint}"
    ) from error


@contextmanager
def _signals_stop(run_dir: Path) -> Iterator[list[str]]:
    """The first SIGINT or SIGTERM creates STOP, the second raises KeyboardInterrupt; gives what to tell the user.

    Only in a main thread, which alone gets signals.
    """
    notes: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield notes
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        (run_dir / "STOP").touch()
        notes.append("stopping after this step; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield notes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
