"""Sweeps on Ray Tune: `tune`. Every trial is a training run on Ray Train; tuner.py sets Ray Tune up.

A sweep is a directory that the driver and every node see:

    ray_config.yaml      the configuration that all trials start from
    space.yaml           the search space, as it was given
    trials.jsonl         what became of every trial: see trials.py
    trials/ID/           a run each: see ray_training/driver.py
    tune/                Ray Tune's own state, for --resume; it is unpickled, so resume nobody else's sweep
    results.csv, best.yaml, *.png, report.html     see report.py
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from metacross.background import repeated
from metacross.config import Config, TrainConfig, differences
from metacross.config_loading import FILE_NAME, load_config
from metacross.errors import UserError
from metacross.event_files import EventTail
from metacross.events import Show
from metacross.ray_internals import TUNE_OUTPUT
from metacross.ray_session import cluster_resources, ray_session, refuse_unpacked, submission_id
from metacross.ray_training.signals import sigterm_as_sigint
from metacross.storage import addresses
from metacross.sweeps.space import Space, load_space, trial_config
from metacross.sweeps.trial import drop_checkpoints
from metacross.sweeps.trials import TRIALS_FILE, Sweep, read_trials
from metacross.sweeps.tuner import has_state, new_tuner, restored_tuner

SHOW_SECONDS = 1.0  # between two looks at trials.jsonl
SPACE_FILE = "space.yaml"


def tune(
    config: Config,
    space_file: Path | None,
    *,
    directory: Path,
    resume: bool = False,
    auto_resume: bool = False,
    trials: int | None = None,
    show: Show | None = None,
) -> Sweep:
    """Runs a sweep to its end, or until it is interrupted (Ctrl-C or SIGTERM); finished trials are kept in any case.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine.

    Args:
        config: the configuration that all trials start from; with `resume` the sweep's own is taken.
        space_file: the search space; with `resume` the sweep's own is taken.
        directory: where to write; must not hold a sweep yet, unless it is resumed.
        resume: run the trials that are left of the sweep in `directory`.
        auto_resume: where the directory holds a sweep with this configuration and space, go on with it, or return its
            result if it is done; else start it.
        trials: how many, in place of the space's number.
        show: called, in another thread, with every event of trials.jsonl as it happens.

    Raises:
        UserError: something in the configuration, the space or the directory has to be changed first, or the cluster
            has no room for a single trial.
    """
    directory = directory.absolute()
    if resume:
        config, space_file = _own_settings(directory)
    if space_file is None:
        raise UserError("a new sweep needs a search space")
    if config.train.seeds > 1:
        raise UserError(f"train.seeds={config.train.seeds}: a trial has one seed, train.seed. Leave it out.")
    space = load_space(space_file, config)
    if trials is not None:
        space = space.model_copy(update={"trials": trials})
    if auto_resume and (directory / SPACE_FILE).is_file():
        _refuse_changes(directory, config, space)
        sweep = _read(directory, config, space)
        if not sweep.interrupted:
            return sweep
        resume = has_state(directory)
        if not resume:  # interrupted before its first trial
            _clear(directory)
    _run_trials(config, space, directory, resume=resume, show=show)
    sweep = _read(directory, config, space)
    for trial in sweep.trials:
        if trial.state != "unfinished":
            drop_checkpoints(directory, trial.id)
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


def trials_at_once(space: Space, train: TrainConfig, cluster: Mapping[str, float]) -> int:
    """How many trials a cluster has room for; a GPU's share counts where GPUs are used.

    Args:
        space: says what a worker reserves.
        train: says how many workers a trial has, and whether on GPUs.
        cluster: what Ray has of each resource.

    Raises:
        UserError: not even for one.
    """
    (_, workers), gpus = train.worker_range(), space.resources.gpus
    on_gpu = train.use_gpu is True or (train.use_gpu == "auto" and cluster.get("GPU", 0) > 0)
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


def _run_trials(config: Config, space: Space, directory: Path, *, resume: bool, show: Show | None) -> None:
    os.environ[TUNE_OUTPUT] = "0"  # trials say themselves what went wrong
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with ray_session(dashboard=True):
        at_once = trials_at_once(space, config.train, cluster_resources())
        if resume:
            tuner = restored_tuner(config, space, directory)
        else:
            _open_sweep(directory, config, space)
            tuner = new_tuner(config, space, directory, at_once=at_once)
        with _shown(directory / TRIALS_FILE, show), sigterm_as_sigint():
            tuner.fit()


def _shown(path: Path, show: Show | None) -> AbstractContextManager[None]:
    """Inside the block, events that are added to a file go to `show`, in a thread of its own."""
    if show is None:
        return nullcontext()
    events = EventTail(path)

    def show_new() -> None:
        for event in events.new():
            show(event)

    return repeated(show_new, seconds=SHOW_SECONDS, name="sweep-events")


def _own_settings(directory: Path) -> tuple[Config, Path]:
    """The configuration and the file of the search space that the sweep in `directory` began with."""
    if not (directory / SPACE_FILE).is_file():
        raise UserError(f"{directory}: no sweep to resume ({SPACE_FILE} is missing). Name the directory of a sweep.")
    return load_config([directory / FILE_NAME], alone=True), directory / SPACE_FILE


def _open_sweep(directory: Path, config: Config, space: Space) -> None:
    if (directory / SPACE_FILE).exists():
        raise UserError(f"{directory} already holds a sweep. Choose another --name, or go on: --resume {directory}")
    try:
        (directory / "trials").mkdir(parents=True, exist_ok=True)
        (directory / TRIALS_FILE).touch()
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
    """Removes what a sweep that was interrupted before its first trial left."""
    for folder in ("tune", "trials"):
        shutil.rmtree(directory / folder, ignore_errors=True)
    for file in (TRIALS_FILE, SPACE_FILE):
        (directory / file).unlink(missing_ok=True)
