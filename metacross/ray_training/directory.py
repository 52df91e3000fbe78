"""A run's directory as its driver sees it; what is in it is told in train.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metacross.config import FILE_NAME, Config, differences, load_config
from metacross.errors import UserError
from metacross.storage import addresses
from metacross.storage.files import write_file
from metacross.training import checkpoint

# What a resumed run may do otherwise.
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
    """A run as its driver sees it: the place it is kept, and the directory here that is it, or its copy."""

    place: Path | str
    local: Path
    mirror: addresses.Mirror | None

    def fetch_settings(self) -> None:
        """Brings here what the driver reads of a run that is kept at an address."""
        if self.mirror:
            self.mirror.pull(FILE_NAME)
            self.mirror.pull("progress.jsonl")

    def has(self, name: str) -> bool:
        """Whether the run has a file or directory."""
        return self.mirror.exists(name) if self.mirror else (self.local / name).exists()

    def newest(self) -> int:
        """The step of the newest checkpoint; 0 without one."""
        folder = checkpoint.FOLDER
        names = self.mirror.names(folder) if self.mirror else [path.name for path in checkpoint.found(self.local)]
        return int(names[-1].removeprefix("step-")) if names else 0

    def progress(self) -> dict[str, Any] | None:
        """What the newest whole checkpoint tells; None without one."""
        if self.mirror:
            checkpoint.fetch(self.mirror)
        return checkpoint.latest_progress(self.local)

    def write(self, name: str, text: str) -> None:
        """Writes a small file, whole or not at all."""
        write_file(self.local / name, text)
        if self.mirror:
            self.mirror.push(name)

    def remove(self, name: str) -> None:
        """Removes a small file, if it is there."""
        (self.local / name).unlink(missing_ok=True)
        if self.mirror:
            self.mirror.remove(name)

    def below(self, name: str) -> Path | str:
        """The place of something in the run."""
        return self.place / name if isinstance(self.place, Path) else addresses.join(self.place, name)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Inside the block, events come here from a run's address, and STOP goes there."""
        if self.mirror is None:
            yield
            return
        with self.mirror.follow(up=["STOP"], down=["progress.jsonl"]):
            yield


def refuse_used(run: Run) -> None:
    """Raises UserError where a run is already."""
    if run.has(FILE_NAME):
        raise UserError(
            f"{run.place} already holds a run. Choose another train.name, or go on with that one: --resume {run.place}"
        )


def settings_file(run: Run) -> Path:
    """The run's configuration; UserError where there is no run."""
    path = run.local / FILE_NAME
    if not path.is_file():
        raise UserError(f"{run.place}: no run to resume ({FILE_NAME} is missing). Name the directory of a run.")
    return path


def refuse_changes(run: Run, config: Config) -> None:
    """Raises UserError where `config` differs from the run's own in what decides the result."""
    began = load_config([settings_file(run)], alone=True)
    changed = [name for name in differences(began, config) if name not in CHANGEABLE]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: cannot be changed in a run that goes on ({run.place}); only "
            f"{', '.join(CHANGEABLE)} can. Leave it out, or start a new run."
        )


def open_run(run: Run, config: Config, *, fresh: bool) -> None:
    """Makes the directory and writes the configuration, whole or not at all."""
    try:
        run.local.mkdir(parents=True, exist_ok=True)
        for name in ("STOP", "error.log", *(("progress.jsonl", "mlflow.json") if fresh else ())):
            run.remove(name)
        run.write(FILE_NAME, config.to_yaml())
    except OSError as error:
        raise UserError(
            f"{run.place}: cannot be written ({error.strerror or error}). Choose another train.storage_path."
        ) from error


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
