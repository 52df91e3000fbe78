"""Training on Ray: the coat around `learner.run`, which does the work on every worker.

A run is a directory, seen by the driver and by every node:

    ray_config.yaml      the resolved configuration; while it is there, the directory belongs to this run
    progress.jsonl       one event a line, as it happened: what `show` gets
    checkpoints/step-N   to resume from
    bundle/              what the run leaves: see bundle.py
    STOP                 whoever creates this file stops the run after the step it is in
    error.log            the worker's traceback of a run that failed
    ray/                 Ray's own files, a new directory for every attempt, so that Ray resumes nothing by itself
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor

from metacross import checkpoint, jobs, learner
from metacross.config import FILE_NAME, Config, TrainConfig, dotted, load_config
from metacross.device import pick_device
from metacross.errors import RunError, UserError

Show = Callable[[dict[str, Any]], None]

CHANGEABLE = ("train.workers", "train.use_gpu", "train.trunk_cache_mb")  # by a resumed run
OBJECT_STORE_BYTES = 100 << 20  # training keeps nothing in it
PREPARE_SECONDS = 0.2  # between two events of the preparation
POLL_SECONDS = 0.2  # between two looks of the driver at progress.jsonl
PATIENCE_SECONDS = 60.0  # without a word from the workers, before the driver says what it waits for


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run_dir: the run's directory, absolute.
        bundle: the tagger it left; None only where it was stopped before its first step.
        step: meta-steps done.
        stopped: whether someone stopped it before its last step; `train` with resume=True goes on.
        best: the bundle's dev F1 in percent; negative where nothing was measured yet.
        history: every measurement: {"step", "plain"} and, but for method base, "adapted".
    """

    run_dir: Path
    bundle: Path | None
    step: int
    stopped: bool
    best: float
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    config: Config,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    auto_resume: bool = False,
    show: Show | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float = 1.0,
) -> TrainResult:
    """Trains on Ray Train workers, to the end or until it is stopped.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine for as long as
    the run takes. The first Ctrl-C (or SIGTERM) ends the run after the step it is in, with a checkpoint and a bundle;
    the second ends it at once.

    Args:
        config: of the run; for a resumed one, what `resume_config` returns.
        run_dir: where to write; train.storage_path/train.name by default. Without a name, a run that is a Ray job
            takes the job's submission id, and `auto_resume` is on: a job that is submitted again goes on.
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
    if resume:
        if run_dir is None:
            raise UserError("which run is to be resumed? Name its directory: --resume DIR")
        run_dir = run_dir.absolute()
        _refuse_changes(run_dir, config)
    else:
        auto_resume = auto_resume or not (run_dir or config.train.name or not jobs.submission_id())
        run_dir = (run_dir or _default_run_dir(config.train)).absolute()
        if auto_resume and (run_dir / FILE_NAME).exists():
            _refuse_changes(run_dir, config)
            if done := _done(run_dir, config.train.steps):
                return done
            resume = bool(checkpoint.found(run_dir))
        else:
            _refuse_used(run_dir)
    _open_run(run_dir, config, fresh=not resume)
    try:
        with ray_session() as ours:
            use_gpu, resources = worker_resources(
                config.train,
                cluster_resources(),
                ours=ours,
                cpus_per_worker=cpus_per_worker,
                gpus_per_worker=gpus_per_worker,
            )
            job = Job(config, run_dir, Path.cwd(), use_gpu, _threads(resources["CPU"], ours=ours))
            found = _drive(job, _trainer(job, resources), show or (lambda event: None))
    except Exception:
        # Nothing to go on from: the name is free again once the mistake is mended.
        if not (resume or checkpoint.found(run_dir) or (run_dir / "bundle").exists()):
            (run_dir / FILE_NAME).unlink(missing_ok=True)
        raise
    finally:
        (run_dir / "STOP").unlink(missing_ok=True)
    bundle = run_dir / "bundle"
    return TrainResult(run_dir=run_dir, bundle=bundle if bundle.exists() else None, **found)


def resume_config(run_dir: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run goes on with: its own, with overrides of where it runs.

    Raises:
        UserError: no run is there, or an override would change what the run computes (which ones).
    """
    path = run_dir / FILE_NAME
    if not path.is_file():
        raise UserError(f"{run_dir}: no run to resume ({FILE_NAME} is missing). Name the directory of a run.")
    config = load_config([path], overrides, alone=True)
    _refuse_changes(run_dir, config)
    return config


def worker_resources(
    train: TrainConfig,
    cluster: Mapping[str, float],
    *,
    ours: bool,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float = 1.0,
) -> tuple[bool, dict[str, float]]:
    """Whether workers get a GPU, and what Ray reserves for each: CPUs, and the GPU's share.

    Args:
        train: says how many workers, and whether on GPUs.
        cluster: what Ray has, as `ray.cluster_resources` tells it.
        ours: Ray was started for this run alone, on this machine; it will not grow.
        cpus_per_worker: the caller's choice.
        gpus_per_worker: the caller's choice; 0 keeps workers off GPUs.

    Raises:
        UserError: there are GPUs, but fewer than workers need.
    """
    if train.use_gpu is True and not gpus_per_worker:
        raise UserError("train.use_gpu=true but workers are to get 0 GPUs. Set one of the two.")
    gpus = int(cluster.get("GPU", 0)) if gpus_per_worker else 0
    if ours and train.use_gpu == "auto":
        gpus = min(gpus, torch.cuda.device_count())  # Ray may see more than this build of torch can use
    room = int(gpus / gpus_per_worker) if gpus else 0
    short = room < train.workers
    if short and ((train.use_gpu is True and ours) or (train.use_gpu == "auto" and gpus)):
        fix = f"train.workers={room} or train.use_gpu=false" if room else "train.use_gpu=false"
        raise UserError(
            f"train.workers={train.workers} but Ray sees {gpus} GPUs, and every worker needs {gpus_per_worker:g}. "
            f"Set {fix}."
        )
    share = cluster.get("CPU", 1.0) / train.workers if ours else 1.0
    if cpus_per_worker is None:
        # Ray takes whole CPUs, or fractions below one where there are fewer CPUs than workers.
        cpus_per_worker = math.floor(share) if share >= 1 else math.floor(share * 100) / 100
    use_gpu = train.use_gpu is True or (train.use_gpu == "auto" and not short)
    return use_gpu, {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if use_gpu else {})


@dataclass(frozen=True)
class Job:
    """What every worker is told."""

    config: Config
    run_dir: Path
    working_directory: Path  # the driver's: relative corpus paths start there
    use_gpu: bool
    threads: int


def work(job: Job) -> dict[str, Any]:
    """A worker's part: runs inside Ray Train, in a process of its own, with torch's process group up."""
    if job.working_directory.is_dir():
        os.chdir(job.working_directory)  # Ray Train has gone to a directory of its own
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    events = _EventLog(job.run_dir) if rank == 0 else None
    stop = job.run_dir / "STOP"
    team = learner.Team(rank, size, all_reduce=_sum_over_workers, gather=_gather_from_workers)
    one = learner.Learner(job.config, device=_device(job.use_gpu), team=team, report=events)
    return learner.run(
        one,
        job.run_dir,
        should_stop=stop.exists if rank == 0 else lambda: False,
        # On every rank: Ray's report waits for all of them.
        on_eval=lambda found: ray.train.report(dict(found)),
    )


class _Stopped(Exception):
    """Someone stopped the run while it was being prepared."""


class _EventLog:
    """Appends events to progress.jsonl; while the run is being prepared it also looks for STOP.

    From the first step on, `learner.run` looks for it, since then all workers must stop at the same step.
    """

    def __init__(self, run_dir: Path) -> None:
        self._file = (run_dir / "progress.jsonl").open("a", encoding="utf-8", buffering=1)
        self._stop = run_dir / "STOP"
        self._prepared = float("-inf")

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "prepare":
            if self._stop.exists():
                raise _Stopped
            now = time.monotonic()
            if now - self._prepared < PREPARE_SECONDS and event["done"] < event["total"]:
                return
            self._prepared = now
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")


def _sum_over_workers(flat: Tensor) -> None:
    dist.all_reduce(flat)


def _gather_from_workers(part: Any) -> list[Any]:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def _device(use_gpu: bool) -> torch.device:
    device = pick_device(use_gpu)
    return ray.train.torch.get_device() if device.type == "cuda" else device


def _threads(cpus: float, *, ours: bool) -> int:
    """A worker's torch threads: its CPUs, unless this machine's environment says otherwise."""
    said = os.environ.get("OMP_NUM_THREADS", "") if ours else ""
    return int(said) if said.isdecimal() and int(said) else max(1, int(cpus))


def _default_run_dir(train: TrainConfig) -> Path:
    if "://" in train.storage_path:
        raise UserError(
            f"train.storage_path={train.storage_path} is an address. Give a directory (one that all nodes see, "
            "where there are several)."
        )
    jobs.refuse_unpacked(train.storage_path)
    name = train.name or jobs.submission_id() or f"{train.method}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Path(train.storage_path).expanduser() / name


def _done(run_dir: Path, steps: int) -> TrainResult | None:
    """What a run came to that has done all its steps; None for one that has not."""
    progress = checkpoint.latest_progress(run_dir)
    bundle = run_dir / "bundle"
    if progress is None or progress["step"] < steps or not bundle.exists():
        return None
    found = {key: progress[key] for key in ("step", "best", "history")}
    return TrainResult(run_dir=run_dir, bundle=bundle, stopped=False, **found)


def _refuse_used(run_dir: Path) -> None:
    if (run_dir / FILE_NAME).exists():
        raise UserError(
            f"{run_dir} already holds a run. Choose another train.name, or go on with that one: --resume {run_dir}"
        )


def _refuse_changes(run_dir: Path, config: Config) -> None:
    """Raises UserError where `config` differs from the run's own in what decides the result."""
    path = run_dir / FILE_NAME
    if not path.is_file():
        raise UserError(f"{run_dir}: no run to resume ({FILE_NAME} is missing). Name the directory of a run.")
    before, now = dotted(load_config([path], alone=True)), dotted(config)
    changed = [name for name in now if now[name] != before[name] and name not in CHANGEABLE]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: cannot be changed in a run that goes on ({run_dir}); only {', '.join(CHANGEABLE)} "
            "can. Leave it out, or start a new run."
        )


def _open_run(run_dir: Path, config: Config, *, fresh: bool) -> None:
    """Makes the directory and writes the configuration, whole or not at all."""
    temporary = run_dir / f".{FILE_NAME}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for name in ("STOP", "error.log", *(("progress.jsonl",) if fresh else ())):
            (run_dir / name).unlink(missing_ok=True)
        temporary.write_text(config.to_yaml(), encoding="utf-8")
        temporary.replace(run_dir / FILE_NAME)
    except OSError as error:
        raise UserError(
            f"{run_dir}: cannot be written ({error.strerror or error}). Choose another train.storage_path."
        ) from error


@contextmanager
def ray_session(*, dashboard: bool = False) -> Iterator[bool]:
    """Ray, initialised; gives whether it was started here, for this run alone.

    Tune needs the dashboard: Ray Train asks it whether a trial still lives, and frees its resources where it does not.
    """
    if ray.is_initialized():
        yield False
        return
    ours = os.environ.get("RAY_ADDRESS", "") in ("", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ours:
        # How often Ray looks at the workers (2 s otherwise): a measurement, and the end, may wait for that long.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    try:
        if ours:
            # RAY_AUTH_MODE stays what it is: unset, Ray guards a local cluster with a token in ~/.ray, so that other
            # users of this machine cannot run code in it.
            ray.init(
                **(_known_address() if dashboard else {}),
                address="local",
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        else:
            ray.init(logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        fix = (
            "If it cannot write its token below the home directory, set RAY_AUTH_MODE=disabled."
            if ours
            else f"Is there a cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}? Without it, Ray is started here."
        )
        raise UserError(f"Ray did not start: {error}. {fix}") from error
    finally:
        if dashboard:
            os.environ.pop("RAY_GCS_SERVER_PORT", None)
    try:
        yield ours
    finally:
        ray.shutdown()


def _known_address() -> dict[str, Any]:
    """Arguments of `ray.init` for a local Ray whose address all its processes are told.

    What asks the dashboard looks for "the" cluster of this machine. Where another Ray runs it finds two and gives up:
    so does what frees a stopped trial's resources.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["RAY_GCS_SERVER_PORT"] = str(port)
    return {"_node_ip_address": "127.0.0.1", "runtime_env": {"env_vars": {"RAY_ADDRESS": f"127.0.0.1:{port}"}}}


def cluster_resources() -> dict[str, float]:
    """What Ray has, in use or not."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _trainer(job: Job, resources: dict[str, float]) -> ray.train.torch.TorchTrainer:
    return ray.train.torch.TorchTrainer(
        lambda: work(job),  # type: ignore[arg-type]  # what it returns comes back as return_value
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if job.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.config.train.workers, use_gpu=job.use_gpu, resources_per_worker=dict(resources)
        ),
        run_config=ray.train.RunConfig(
            name=f"attempt-{uuid.uuid4().hex[:8]}",
            storage_path=str(job.run_dir / "ray"),
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )


def _drive(job: Job, trainer: ray.train.torch.TorchTrainer, show: Show) -> dict[str, Any]:
    """Runs the trainer, shows events, turns signals into STOP; returns what `learner.run` returned on rank 0."""
    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:
            outcome["error"] = error

    # Not in this thread: there, Ray would put a SIGINT handler of its own in place, which aborts without a checkpoint.
    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    events = Tail(job.run_dir / "progress.jsonl")
    with _signals_stop(job.run_dir) as notes:
        thread.start()
        began, quiet = time.monotonic(), True
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            for event in events.new():
                quiet = False
                show(event)
            if quiet and time.monotonic() - began > PATIENCE_SECONDS:
                quiet = False
                notes.append(_waiting(job.config.train.workers, job.use_gpu))
            while notes:
                show({"event": "note", "text": notes.pop(0)})
    for event in events.new():
        show(event)
    if "error" in outcome:
        return _explain(outcome["error"], job.run_dir)
    found: dict[str, Any] = outcome["result"].return_value
    if not (job.run_dir / "bundle").exists():
        raise RunError(
            f"the workers finished, but {job.run_dir / 'bundle'} is not here: train.storage_path must be a directory "
            "that all nodes see."
        )
    return found


def _waiting(workers: int, use_gpu: bool) -> str:
    each = ", each with a GPU" if use_gpu else ""
    return f"nothing yet from the workers (train.workers={workers}{each}); `ray status` shows whether there is room"


def _explain(error: BaseException, run_dir: Path) -> dict[str, Any]:
    """Raises what a worker raised, without Ray's wrapping; returns only for a run stopped while it was prepared."""
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    causes: list[BaseException] = [failures[rank] for rank in sorted(failures)] or [error]
    for kind in (UserError, RunError):
        for cause in causes:
            if isinstance(cause, kind):
                raise cause
    if any(isinstance(cause, _Stopped) for cause in causes):
        progress = checkpoint.latest_progress(run_dir) or {"step": 0, "best": -1.0, "history": []}
        return {"stopped": True, **{key: progress[key] for key in ("step", "best", "history")}}
    log = run_dir / "error.log"
    log.write_text(str(error), encoding="utf-8", errors="replace")
    summary = (str(causes[0]).strip() or "no message").splitlines()[0]
    hint = f" What was done before is kept: go on with --resume {run_dir}" if checkpoint.found(run_dir) else ""
    raise RunError(f"a worker failed: {type(causes[0]).__name__}: {summary} (all of it: {log}).{hint}") from error


class Tail:
    """Reads the lines that are added to a file from now on; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def new(self) -> list[dict[str, Any]]:
        """The events since the last call. A line that is still being written is left for the next."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                complete, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._at += len(complete) + len(newline)
        return [json.loads(line) for line in complete.splitlines()]


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
