"""Checkpoints of a run: theta, the optimizer's state and the progress, as safetensors and JSON in an atomic directory.

What a step needs besides these (meta-batches, masks, learning rate) is a function of the seed and the step's number,
and nothing else draws random numbers, so there is no random state to keep.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from metacross.encoder.model import TagModel
from metacross.errors import UserError
from metacross.events import Measurement
from metacross.storage.addresses import Mirror
from metacross.storage.directories import check_manifest, write_directory, write_manifest
from metacross.storage.files import write_json
from metacross.training.progress import Progress

FOLDER = "checkpoints"
KEPT = 2  # the newest ones; the one of the best measurement is kept as well
FORMAT = 1
STATE_FILE = "state.safetensors"
PROGRESS_FILE = "progress.json"


class RunWriter:
    """Writes a run's checkpoints and its bundle.

    A checkpoint's tensors are copied in memory, and a thread writes the copy while training goes on. Only one thing is
    written at a time: the next call waits for it, and raises its error.

    Args:
        run_dir: the run's directory.
        tags: the tag set, IOB2.
        mirror: for a run that is kept at an address: carries what was written there, in the same thread.
    """

    def __init__(self, run_dir: Path, *, tags: Sequence[str], mirror: Mirror | None = None) -> None:
        self._run_dir = run_dir
        self._tags = tags
        self._mirror = mirror
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run-writer")
        self._pending: Future[None] | None = None

    def checkpoint(self, model: TagModel, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Starts to write `checkpoints/step-N`; then older ones are removed but for the last few and the best.

        Raises:
            UserError: what was to be written before could not be.
        """
        self.wait()
        self._pending = self._thread.submit(self._write_checkpoint, _snapshot(model, optimizer), progress.copy())

    def bundle(self, save: Callable[[Path], None]) -> None:
        """Calls `save` to write the bundle at a path, then starts to carry it to the run's address.

        Raises:
            UserError: the bundle, or what was to be written before, could not be written.
        """
        self.wait()
        save(self._run_dir / "bundle")
        if self._mirror:
            self._pending = self._thread.submit(self._mirror.push, "bundle")

    def wait(self) -> None:
        """Returns when everything is written; raises what failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits for what is being written, without raising its error."""
        self._thread.shutdown(wait=True)

    def _write_checkpoint(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        path = save(self._run_dir, tensors, progress, self._tags)
        if self._mirror:
            self._mirror.push(f"{FOLDER}/{path.name}")
            for name in superseded(self._mirror.names(FOLDER), progress.history):
                self._mirror.remove(f"{FOLDER}/{name}")


def save(run_dir: Path, tensors: dict[str, Tensor], progress: Progress, tags: Sequence[str]) -> Path:
    """Writes `run_dir/checkpoints/step-N`, N being progress.step, and removes those that are no longer kept."""
    path = run_dir / FOLDER / f"step-{progress.step:07d}"

    def fill(folder: Path) -> None:
        save_file(tensors, folder / STATE_FILE)
        write_json(folder / PROGRESS_FILE, {**progress.to_json(), "tags": list(tags)})
        write_manifest(folder, FORMAT)

    write_directory(path, fill)
    for name in superseded([old.name for old in paths(run_dir)], progress.history):
        shutil.rmtree(path.with_name(name), ignore_errors=True)
    return path


def superseded(names: Sequence[str], history: Sequence[Measurement]) -> list[str]:
    """Which of these checkpoints, oldest first, are no longer kept.

    >>> superseded(["step-10", "step-20", "step-30", "step-40"], [Measurement(step=10, plain=72.0)])
    ['step-20']
    """
    best = best_step(history)
    return [name for name in names[:-KEPT] if int(name.removeprefix("step-")) != best]


def fetch(mirror: Mirror) -> None:
    """Brings the newest complete checkpoint here from a run's address, and the damaged ones that are newer."""
    for name in reversed(mirror.names(FOLDER)):
        mirror.pull(f"{FOLDER}/{name}")
        if newest_complete(mirror.local)[0]:
            return


def restore(
    run_dir: Path, model: TagModel, optimizer: torch.optim.Optimizer, progress: Progress, *, tags: Sequence[str]
) -> list[str]:
    """Sets theta, the optimizer and the progress to the newest complete checkpoint, if there is one.

    Returns what is wrong with those that had to be passed over, newest first.

    Raises:
        UserError: there are checkpoints, but none is complete; or it belongs to another tag set.
    """
    newest, damage = newest_complete(run_dir)
    if newest is None:
        if damage:
            raise UserError(f"no checkpoint in {run_dir / FOLDER} is complete ({damage[0]}). Start a new run.")
        return damage
    saved = read_progress(newest)
    if saved.tags != list(tags):
        raise UserError(f"{newest}: trained for tags {saved.tags}, the data has {list(tags)}. Use another train.name")
    tensors = load_file(newest / STATE_FILE)
    for i, p in enumerate(model.theta()):
        with torch.no_grad():
            p.copy_(tensors[f"theta.{i}"])
        optimizer.state[p] = {
            key: tensors[f"{key}.{i}"].to(p.device if key != "step" else "cpu", copy=True)  # not the file's memory
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{key}.{i}" in tensors
        }
    progress.step, progress.best, progress.history = saved.progress.step, saved.progress.best, saved.progress.history
    return damage


def newest_complete(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are as they were written, and what is wrong with those newer than it."""
    damage: list[str] = []
    for path in reversed(paths(run_dir)):
        try:
            check_manifest(path, FORMAT, kind="checkpoint")
        except UserError as error:
            damage.append(str(error))
        else:
            return path, damage
    return None, damage


def drop_damaged(run_dir: Path, mirror: Mirror | None = None) -> None:
    """Removes the checkpoints newer than the newest complete one, which would count among the last few to be kept."""
    newest, _ = newest_complete(run_dir)
    for path in paths(run_dir):
        if newest is not None and path > newest:
            shutil.rmtree(path, ignore_errors=True)
            if mirror:
                mirror.remove(f"{FOLDER}/{path.name}")


def latest_progress(run_dir: Path) -> Progress | None:
    """The progress in the newest complete checkpoint; None where there is no checkpoint."""
    newest, _ = newest_complete(run_dir)
    return read_progress(newest).progress if newest else None


class SavedProgress(NamedTuple):
    """A checkpoint's progress, and the tag set that it was trained for."""

    progress: Progress
    tags: list[str]


def read_progress(path: Path) -> SavedProgress:
    """What a checkpoint says about the run."""
    content = json.loads((path / PROGRESS_FILE).read_text(encoding="utf-8"))
    return SavedProgress(Progress.from_json(content), content["tags"])


def paths(run_dir: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run_dir / FOLDER).glob("step-*"))


def best_step(history: Sequence[Measurement]) -> int | None:
    """The step of the best measurement, the first of several; None before the first.

    >>> best_step([Measurement(step=10, plain=70.0), Measurement(step=20, plain=72.0)])
    20
    """
    return max(history, key=lambda measured: measured.score).step if history else None


def _snapshot(model: TagModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies, in the CPU's memory, of theta and the optimizer's state."""
    tensors: dict[str, Tensor] = {}
    for i, p in enumerate(model.theta()):
        for key, value in {"theta": p.detach(), **optimizer.state.get(p, {})}.items():
            tensors[f"{key}.{i}"] = value.detach().to("cpu", copy=True).contiguous()
    return tensors
