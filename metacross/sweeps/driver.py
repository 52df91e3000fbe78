"""Sweeps on Ray Tune: every trial is a training run of its own, on Ray Train.

A sweep is a directory, seen by the driver and by every node:

    ray_config.yaml      the configuration that all trials start from
    space.yaml           the search space, as it was given
    trials.jsonl         what became of every trial, one event a line
    trials/ID/           a run each: see train.py
    tune/                Ray Tune's own state, for --resume; it is unpickled, so resume nobody else's sweep
    results.csv, best.yaml, *.png, report.html     see sweep_report.py
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.optuna import OptunaSearch

from metacross.config import FILE_NAME, Config, TrainConfig, differences, load_config
from metacross.errors import UserError
from metacross.ray_session import cluster_resources, ray_session, refuse_unpacked, submission_id
from metacross.ray_training import driver
from metacross.ray_training.directory import Tail
from metacross.storage import addresses
from metacross.sweeps.space import Space, load_space, trial_config
from metacross.sweeps.trials import METRIC, Sweep, read_trials
from metacross.training import checkpoint
from metacross.training.progress import score_of

SHOW_SECONDS = 1.0  # between two looks at trials.jsonl
# A trial's driver only waits for its workers, and a share of a processor for it would keep a worker out. Tune does not
# take nothing, so it is a megabyte of the nodes' memory.
DRIVER = {"CPU": 0.0, "memory": 1e6}
SPACE_FILE = "space.yaml"
ERROR_FILE = "failed.txt"


def tune(
    config: Config,
    space_file: Path | None,
    *,
    directory: Path,
    resume: bool = False,
    auto_resume: bool = False,
    trials: int | None = None,
    show: driver.Show | None = None,
) -> Sweep:
    """Runs a sweep to its end, or until it is interrupted (Ctrl-C or SIGTERM); finished trials are kept in any case.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine.

    Args:
        config: what all trials start from.
        space_file: the search space; with `resume` the sweep's own is taken.
        directory: where to write; must not hold a sweep yet, unless it is resumed.
        resume: run the trials that are left of the sweep in `directory`.
        auto_resume: where the directory holds a sweep with this configuration and space, go on with it, or return what
            it came to if it is done; else start it.
        trials: in place of the space's number.
        show: is called, in another thread, with every event as it happens.

    Raises:
        UserError: something in the configuration, the space or the directory has to be changed first, or the cluster
            has no room for a single trial.
    """
    directory = directory.absolute()
    if resume:
        if not (directory / SPACE_FILE).is_file():
            raise UserError(
                f"{directory}: no sweep to resume ({SPACE_FILE} is missing). Name the directory of a sweep."
            )
        config, space_file = load_config([directory / FILE_NAME], alone=True), directory / SPACE_FILE
    if space_file is None:
        raise UserError("a new sweep needs a search space")
    space = load_space(space_file, config)
    if trials is not None:
        space = space.model_copy(update={"trials": trials})
    if auto_resume and (directory / SPACE_FILE).is_file():
        _refuse_changes(directory, config, space)
        done = _read(directory, config, space)
        if not done.interrupted:
            return done
        resume = any((directory / "tune" / "sweep").glob("experiment_state-*"))
        if not resume:  # interrupted before its first trial
            _clear(directory)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables of Tune's own, and no tracebacks: trials tell what went wrong
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with ray_session(dashboard=True):
        at_once = trials_at_once(space, config.train, cluster_resources())
        if not resume:
            _open_sweep(directory, config, space)
        tuner = _restored(config, space, directory) if resume else _tuner(config, space, directory, at_once=at_once)
        with _shown(directory / "trials.jsonl", show), _sigterm_interrupts():
            tuner.fit()
    sweep = _read(directory, config, space)
    for trial in sweep.trials:
        if trial.state != "unfinished":
            _drop_checkpoints(directory / "trials" / trial.id)
    return sweep


def sweep_directory(config: Config, name: str | None) -> Path:
    """Where a sweep is written: below train.storage_path, under its name, its Ray job's submission id, or the time.

    Raises:
        UserError: that is an address, or where a Ray job deletes it again.
    """
    if addresses.is_address(config.train.storage_path):
        raise UserError(
            f"train.storage_path={config.train.storage_path} is an address. Give a directory that all nodes see."
        )
    refuse_unpacked(config.train.storage_path)
    name = name or submission_id() or f"sweep-{time.strftime('%Y%m%d-%H%M%S')}"
    return Path(config.train.storage_path).expanduser() / name


def trials_at_once(space: Space, settings: TrainConfig, cluster: Mapping[str, float]) -> int:
    """How many trials a cluster has room for; a GPU's share counts where GPUs are used.

    Raises:
        UserError: not even for one.
    """
    (_, workers), gpus = settings.worker_range(), space.resources.gpus
    on_gpu = settings.use_gpu is True or (settings.use_gpu == "auto" and cluster.get("GPU", 0) > 0)
    need = {"CPU": workers * space.resources.cpus, "GPU": workers * gpus if on_gpu else 0}
    room = {key: int(cluster.get(key, 0) / amount + 1e-9) for key, amount in need.items() if amount}
    if not min(room.values()):
        has = ", ".join(f"{cluster.get(key, 0):g} {key}" for key in room)
        wants = ", ".join(f"{amount:g} {key}" for key, amount in need.items() if amount)
        raise UserError(
            f"a trial needs {wants} (train.workers={workers} times the space's resources), Ray has {has}. Lower "
            "resources in the space, or train.workers."
        )
    return min(room.values())


def _open_sweep(directory: Path, config: Config, space: Space) -> None:
    if (directory / SPACE_FILE).exists():
        raise UserError(f"{directory} already holds a sweep. Choose another --name, or go on: --resume {directory}")
    try:
        (directory / "trials").mkdir(parents=True, exist_ok=True)
        (directory / "trials.jsonl").touch()
        (directory / FILE_NAME).write_text(config.to_yaml(), encoding="utf-8")
        (directory / SPACE_FILE).write_text(json.dumps(space.model_dump(), indent=1), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror or error}). Choose another place.") from error


def _read(directory: Path, config: Config, space: Space) -> Sweep:
    return Sweep(directory, config, space, read_trials(directory, trial_config(config, space, {}).train.steps))


def _refuse_changes(directory: Path, config: Config, space: Space) -> None:
    """Raises UserError where the sweep in `directory` began with another configuration or space."""
    began = load_config([directory / FILE_NAME], alone=True)
    changed = list(differences(began, config))
    if load_space(directory / SPACE_FILE, began) != space:
        changed.append("the search space")
    if changed:
        raise UserError(
            f"{directory} holds a sweep that began with other settings ({', '.join(changed)}). Give those, or choose "
            "another --name."
        )


def _clear(directory: Path) -> None:
    for folder in ("tune", "trials"):
        shutil.rmtree(directory / folder, ignore_errors=True)
    for file in ("trials.jsonl", SPACE_FILE):
        (directory / file).unlink(missing_ok=True)


def _drop_checkpoints(run_dir: Path) -> None:
    """A trial that has ended needs no checkpoints any more, and they are most of what it takes on the disk."""
    shutil.rmtree(run_dir / checkpoint.FOLDER, ignore_errors=True)


def _trainable(config: Config, space: Space, directory: Path) -> Any:
    return ray.tune.with_resources(_Job(config, space, directory, Path.cwd()).run, DRIVER)


def _restored(config: Config, space: Space, directory: Path) -> ray.tune.Tuner:
    place = str(directory / "tune" / "sweep")
    if not ray.tune.Tuner.can_restore(place):
        raise UserError(f"{directory}: the sweep was interrupted before its first trial. Start it anew.")
    return ray.tune.Tuner.restore(place, _trainable(config, space, directory), resume_unfinished=True)


def _tuner(config: Config, space: Space, directory: Path, *, at_once: int) -> ray.tune.Tuner:
    searcher: Searcher | BasicVariantGenerator = BasicVariantGenerator(random_state=space.seed)
    if space.searcher == "optuna":
        searcher = OptunaSearch(seed=space.seed)
    return ray.tune.Tuner(
        _trainable(config, space, directory),
        param_space={key: _domain(distribution) for key, distribution in space.space.items()},
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=searcher,
            scheduler=_scheduler(trial_config(config, space, {}), space),
            num_samples=space.trials,
            max_concurrent_trials=min(at_once, space.trials),
        ),
        run_config=ray.tune.RunConfig(
            name="sweep", storage_path=str(directory / "tune"), callbacks=[_Log(directory / "trials.jsonl")], verbose=0
        ),
    )


def _scheduler(shared: Config, space: Space) -> TrialScheduler:
    if space.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    settings = shared.train
    return ASHAScheduler(
        time_attr="step",
        max_t=settings.steps,
        grace_period=first_rung(settings),
        reduction_factor=space.reduction,
    )


def first_rung(settings: TrainConfig) -> int:
    """The step of the first measurement that trials may be stopped after: the first one past the plain steps.

    Before it the searched settings have hardly been at work: the inner step has only been measured, never trained for.
    """
    plain = 0 if settings.plain_steps >= settings.steps else settings.plain_steps
    return min((plain // settings.eval_every + 1) * settings.eval_every, settings.steps)


def _domain(distribution: dict[str, list[Any]]) -> Any:
    ((kind, values),) = distribution.items()
    return ray.tune.choice(values) if kind == "choice" else getattr(ray.tune, kind)(*values)


@dataclass(frozen=True)
class _Job:
    """What every trial is told."""

    config: Config
    space: Space
    directory: Path
    working_directory: Path

    def run(self, chosen: dict[str, Any]) -> None:
        """A trial: runs inside Ray Tune, in a process of its own, and goes on where an earlier attempt stopped."""
        if self.working_directory.is_dir():
            os.chdir(self.working_directory)  # Tune has gone to a directory of its own
        config = trial_config(self.config, self.space, chosen)
        run_dir = self.directory / "trials" / ray.tune.get_context().get_trial_id()
        resume = bool(checkpoint.found(run_dir))
        if not resume:
            shutil.rmtree(run_dir, ignore_errors=True)  # one that was interrupted before its first checkpoint
        # The last measurements may have come after Tune had stopped listening; those it knows are not counted twice.
        for found in (checkpoint.latest_progress(run_dir) or {"history": []})["history"]:
            _report({"event": "eval", **found})
        try:
            driver.train(
                config,
                run_dir=run_dir,
                resume=resume,
                show=_report,
                cpus_per_worker=self.space.resources.cpus,
                gpus_per_worker=self.space.resources.gpus,
            )
        except Exception as error:
            # Tune keeps a traceback of its own; this is for people, and the driver reads it.
            (run_dir / ERROR_FILE).write_text(str(error) or type(error).__name__, encoding="utf-8")
            raise


def _report(event: dict[str, Any]) -> None:
    """Passes a run's measurements on to Tune, which may stop the trial there."""
    if event["event"] == "eval":
        found = {key: value for key, value in event.items() if key != "event"}
        ray.tune.report({**found, METRIC: score_of(found)})


class _Log(ray.tune.Callback):
    """Writes what becomes of every trial into trials.jsonl, at once: that file, not Tune's state, is what we read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._write({"event": "trial", "id": trial.trial_id, "chosen": trial.config})

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        names = ("step", METRIC, "plain", "adapted", "target_plain", "target_adapted")
        found = {name: result[name] for name in names if name in result}
        if METRIC in found:
            self._write({"event": "measured", "id": trial.trial_id, **found})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._write({"event": "ended", "id": trial.trial_id, "state": "ended", "error": ""})
        _drop_checkpoints(self._run(trial))  # one that was stopped may still be writing one: see `tune`

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        told = self._run(trial) / ERROR_FILE
        message = told.read_text(encoding="utf-8") if told.exists() else "its process died"
        self._write({"event": "ended", "id": trial.trial_id, "state": "failed", "error": message})

    def _run(self, trial: Any) -> Path:
        return self._path.parent / "trials" / str(trial.trial_id)

    def _write(self, event: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")


@contextmanager
def _shown(path: Path, show: driver.Show | None) -> Iterator[None]:
    """Hands the events that are added to a file inside the block to `show`, in a thread of its own."""
    events, over = Tail(path), threading.Event()

    def follow() -> None:
        while show is not None:
            last = over.wait(SHOW_SECONDS)
            for event in events.new():
                show(event)
            if last:
                return

    thread = threading.Thread(target=follow, name="sweep-events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, as `ray job stop` sends it, does what Ctrl-C does: Tune saves its state and returns.

    Ray blocks SIGINT in all its processes, and so in a job's: here it is let through.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGTERM, before)
