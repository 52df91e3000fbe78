"""A run's directory as its driver sees it; driver.py lists what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metacross.config import Config, TrainConfig, differences
from metacross.config_loading import FILE_NAME, load_config
from metacross.errors import UserError
from metacross.events import Note, Show
from metacross.storage import addresses
from metacross.storage.files import write_file
from metacross.training import checkpoint, extension
from metacross.training.progress import Progress
from metacross.training.schedule import Schedule
from metacross.wording import counted

# Settings that a resumed run may change, since they do not decide its result; data.unlabelled is for afterwards.
CHANGEABLE = (
    "train.workers",
    "train.max_failures",
    "train.use_gpu",
    "train.trunk_cache_mb",
    "train.profile",
    "train.mlflow_uri",
    "data.unlabelled",
)


@dataclass(frozen=True)
class Run:
    """A run as its driver sees it.

    Attributes:
        location: the directory or address where it is kept.
        local: the directory here: the location itself, or a copy of what is at the address.
        mirror: carries files between `local` and the address; None for a run in a directory.
    """

    location: Path | str
    local: Path
    mirror: addresses.Mirror | None

    def fetch_settings(self) -> None:
        """Brings here what the driver reads of a run that is kept at an address."""
        if self.mirror:
            self.mirror.pull(FILE_NAME)
            self.mirror.pull("progress.jsonl")

    def has(self, name: str) -> bool:
        """Whether the run has a file or directory of this name."""
        return self.mirror.exists(name) if self.mirror else (self.local / name).exists()

    def newest(self) -> int:
        """The step of the newest checkpoint, complete or not; 0 without one."""
        folder = checkpoint.FOLDER
        names = self.mirror.names(folder) if self.mirror else [path.name for path in checkpoint.paths(self.local)]
        return checkpoint.step_of(names[-1]) if names else 0

    def progress(self) -> Progress | None:
        """The progress in the newest complete checkpoint; None without one."""
        if self.mirror:
            checkpoint.fetch(self.mirror)
        return checkpoint.latest_progress(self.local)

    def fetch_checkpoints(self) -> None:
        """Brings here all checkpoints of a run that is kept at an address."""
        if self.mirror:
            self.mirror.pull(checkpoint.FOLDER)

    def write(self, name: str, text: str) -> None:
        """Writes a small file atomically."""
        write_file(self.local / name, text)
        if self.mirror:
            self.mirror.push(name)

    def remove(self, name: str) -> None:
        """Removes a small file, if it is there."""
        (self.local / name).unlink(missing_ok=True)
        if self.mirror:
            self.mirror.remove(name)

    def below(self, name: str) -> Path | str:
        """Where something in the run is kept."""
        return self.location / name if isinstance(self.location, Path) else addresses.join(self.location, name)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Inside the block, new events come here from a run's address, and STOP goes there."""
        if self.mirror is None:
            yield
            return
        with self.mirror.follow(up=["STOP"], down=["progress.jsonl"]):
            yield


def refuse_used(run: Run) -> None:
    """Raises UserError where the directory or address already holds a run."""
    if run.has(FILE_NAME):
        raise UserError(
            f"{run.location} already holds a run. Choose another train.name, or go on with that one: "
            f"--resume {run.location}"
        )


def settings_file(run: Run) -> Path:
    """The run's configuration file; UserError where there is no run."""
    path = run.local / FILE_NAME
    if not path.is_file():
        raise UserError(f"{run.location}: no run to resume ({FILE_NAME} is missing). Name the directory of a run.")
    return path


def refuse_changes(run: Run, config: Config) -> int | None:
    """Refuses settings with which the run would end as no run with these settings does.

    Args:
        run: a run that is to go on.
        config: the configuration that it is to go on with; it may have more steps than the run's own.

    Returns:
        The step to go back to where the run is made longer; None where it is not.

    Raises:
        UserError: a setting that decides the result is changed, or with more steps the run would not end as a fresh
            run of so many steps; the message says why and what to do instead.
    """
    began = load_config([settings_file(run)], alone=True)
    longer = config.train.steps > began.train.steps
    changed = [
        name for name in differences(began, config) if name not in CHANGEABLE and not (longer and name == "train.steps")
    ]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: cannot be changed in a run that goes on ({run.location}); only "
            f"{', '.join(CHANGEABLE)} can, and train.steps to more than {began.train.steps}. Leave it out, or start a "
            "new run."
        )
    if not longer:
        return None
    run.fetch_checkpoints()
    step = extension.common_step(run.local, began.train, config.train)
    if step is None:
        raise UserError(_why_not_longer(run, began.train, config.train))
    return step


def _why_not_longer(run: Run, before: TrainConfig, now: TrainConfig) -> str:
    """Why the run has no checkpoint that a run of more steps has too, and what to do instead."""
    old, new = Schedule.of(before), Schedule.of(now)
    common = old.steps_in_common(new)
    reasons = []
    if common < before.steps:
        reasons.append(_first_difference(old, new, common))
    if common:
        reasons.append(
            f"the beginning that is the same, {counted(common, 'steps')}, has left no checkpoint to go on from"
        )
    copy = " (copy these from the address first)" if run.mirror else ""
    return (
        f"train.steps={now.steps}: {run.location} cannot go on and end as a run of {counted(now.steps, 'steps')} does: "
        f"{', and '.join(reasons)}.\n"
        f"Train one from its start: metacross train --config {run.below(FILE_NAME)} train.steps={now.steps} "
        "train.name=NAME\n"
        f"or, with another result, one that starts with the weights of this run: add "
        f"model.encoder={run.below('bundle')}{copy}\n"
        "A run that was started with train.warmup=STEPS (above 1), train.decay=SHARE and train.average=SHARE (below 1) "
        "can be made longer."
    )


def _first_difference(old: Schedule, new: Schedule, step: int) -> str:
    """How a step (0, 1, ...), the first that differs, is taken in a run and in a longer one."""
    if old.rate(step) == new.rate(step):
        return (
            f"theta is averaged from step {step + 1} on in a run of {counted(old.steps, 'steps')}, and from step "
            f"{new.average_start + 1} on in one of {new.steps} (train.average={old.average})"
        )
    return (
        f"step {step + 1} has learning rate {old.rate(step):.3g} in a run of {counted(old.steps, 'steps')} and "
        f"{new.rate(step):.3g} in one of {new.steps} (train.warmup={old.warmup}, train.decay={old.decay})"
    )


def take_up(run: Run, config: Config, show: Show) -> None:
    """Prepares a run to go on; where it is made longer, what a longer run would not have is removed.

    Args:
        run: the run.
        config: the configuration that it is to go on with.
        show: gets a note where the run goes back to an earlier checkpoint.

    Raises:
        UserError: as `refuse_changes` does.
    """
    step = refuse_changes(run, config)
    if step is None:
        return
    if step < run.newest():
        other = "other learning rates or another average" if config.train.average else "other learning rates"
        show(Note(f"going back to step {step}: after it, a run of {counted(config.train.steps, 'steps')} has {other}"))
        checkpoint.drop_newer(run.local, step, run.mirror)
    # A run in MLflow cannot change its params and keeps every point, so the longer run is another one there.
    run.remove("mlflow.json")


@contextmanager
def opened(run: Run, config: Config, *, fresh: bool) -> Iterator[None]:
    """Makes the directory and writes the configuration into it, which makes it a run; the block trains.

    A new run that fails before it has left anything stops being one, so that its name is free again.

    Args:
        run: the run.
        config: its configuration.
        fresh: whether the run starts from nothing; then events and MLflow's run of an earlier try are removed.

    Raises:
        UserError: the directory cannot be written.
    """
    try:
        run.local.mkdir(parents=True, exist_ok=True)
        for name in ("STOP", "error.log", *(("progress.jsonl", "mlflow.json") if fresh else ())):
            run.remove(name)
        run.write(FILE_NAME, config.to_yaml())
    except OSError as error:
        raise UserError(
            f"{run.location}: cannot be written ({error.strerror or error}). Choose another train.storage_path."
        ) from error
    try:
        yield
    except Exception:
        if fresh and not (run.newest() or run.has("bundle")):
            run.remove(FILE_NAME)
        raise
    finally:
        run.remove("STOP")
