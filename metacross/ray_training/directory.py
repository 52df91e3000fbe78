"""A run's directory as its driver sees it; driver.py lists what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metacross.config import FILE_NAME, Config, differences, load_config
from metacross.errors import UserError
from metacross.storage import addresses
from metacross.storage.files import write_file
from metacross.training import checkpoint
from metacross.training.progress import Progress

# Settings that a resumed run may change, since they do not decide its result.
CHANGEABLE = (
    "train.workers",
    "train.max_failures",
    "train.use_gpu",
    "train.trunk_cache_mb",
    "train.profile",
    "train.mlflow_uri",
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
        return int(names[-1].removeprefix("step-")) if names else 0

    def progress(self) -> Progress | None:
        """The progress in the newest complete checkpoint; None without one."""
        if self.mirror:
            checkpoint.fetch(self.mirror)
        return checkpoint.latest_progress(self.local)

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


def refuse_changes(run: Run, config: Config) -> None:
    """Raises UserError where `config` differs from the run's own in what decides the result."""
    began = load_config([settings_file(run)], alone=True)
    changed = [name for name in differences(began, config) if name not in CHANGEABLE]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: cannot be changed in a run that goes on ({run.location}); only "
            f"{', '.join(CHANGEABLE)} can. Leave it out, or start a new run."
        )


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
