"""Checkpoints of a run: theta, its average, the optimizer's state and the progress, in an atomic directory.

Tensors are safetensors, the progress is JSON.

What a step needs besides these (meta-batches, masks, learning rate) is a function of the seed and the step's number,
and nothing else draws random numbers, so there is no random state to keep.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Sequence
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
from metacross.training.averaging import ThetaAverage
from metacross.training.progress import Progress

FOLDER = "checkpoints"
KEPT = 2  # the newest ones; extension.needed_steps says which others are kept
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
        needed: takes the history; returns the steps whose checkpoints are kept besides the newest ones.
        mirror: for a run that is kept at an address: carries what was written there, in the same thread.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        tags: Sequence[str],
        needed: Callable[[Sequence[Measurement]], Collection[int]],
        mirror: Mirror | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._tags = tags
        self._needed = needed
        self._mirror = mirror
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run-writer")
        self._pending: Future[None] | None = None

    def checkpoint(
        self,
        model: TagModel,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        average: ThetaAverage | None = None,
    ) -> None:
        """Starts to write `checkpoints/step-N`; then those are removed that are no longer kept.

        Raises:
            UserError: what was to be written before could not be.
        """
        self.wait()
        self._pending = self._thread.submit(
            self._write_checkpoint, _snapshot(model, optimizer, average), progress.copy()
        )

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
        needed = self._needed(progress.history)
        for name in superseded([old.name for old in paths(self._run_dir)], needed):
            shutil.rmtree(path.with_name(name), ignore_errors=True)
        if self._mirror:
            self._mirror.push(f"{FOLDER}/{path.name}")
            for name in superseded(self._mirror.names(FOLDER), needed):
                self._mirror.remove(f"{FOLDER}/{name}")


def save(run_dir: Path, tensors: dict[str, Tensor], progress: Progress, tags: Sequence[str]) -> Path:
    """Writes `run_dir/checkpoints/step-N`, N being progress.step."""
    path = path_of(run_dir, progress.step)

    def fill(folder: Path) -> None:
        save_file(tensors, folder / STATE_FILE)
        write_json(folder / PROGRESS_FILE, {**progress.to_json(), "tags": list(tags)})
        write_manifest(folder, FORMAT)

    write_directory(path, fill)
    return path


def superseded(names: Sequence[str], needed: Collection[int]) -> list[str]:
    """Which of these checkpoints, oldest first, are no longer kept: all but the last few and the needed steps.

    >>> superseded(["step-10", "step-20", "step-30", "step-40"], {10})
    ['step-20']
    """
    return [name for name in names[:-KEPT] if step_of(name) not in needed]


def fetch(mirror: Mirror) -> None:
    """Brings the newest complete checkpoint here from a run's address, and the damaged ones that are newer."""
    for name in reversed(mirror.names(FOLDER)):
        mirror.pull(f"{FOLDER}/{name}")
        if newest_complete(mirror.local)[0]:
            return


def restore(
    run_dir: Path,
    model: TagModel,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: ThetaAverage | None = None,
    *,
    tags: Sequence[str],
) -> list[str]:
    """Sets theta, the optimizer, the progress and the average to the newest complete checkpoint, if there is one.

    Returns what is wrong with those that had to be passed over, newest first.

    Raises:
        UserError: there are checkpoints, but none is complete; or as `load`.
    """
    newest, damages = newest_complete(run_dir)
    if newest is None:
        if damages:
            raise UserError(f"no checkpoint in {run_dir / FOLDER} is complete ({damages[0]}). Start a new run.")
        return damages
    load(newest, model, optimizer, progress, average, tags=tags)
    return damages


def load(
    path: Path,
    model: TagModel,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: ThetaAverage | None = None,
    *,
    tags: Sequence[str],
) -> None:
    """Sets theta, the optimizer, the progress and the average to a checkpoint, which has to be complete.

    Raises:
        UserError: it belongs to another tag set, or lacks the average.
    """
    saved = read_progress(path)
    if saved.tags != list(tags):
        raise UserError(f"{path}: trained for tags {saved.tags}, the data has {list(tags)}. Use another train.name")
    tensors = load_file(path / STATE_FILE)
    averaged = average is not None and average.has_begun(saved.progress.step)
    if averaged and "average.0" not in tensors:
        raise UserError(
            f"{path}: has no average of theta, but by train.average averaging had begun by then. "
            "Go on with the train.average that the run was started with, or start a new run"
        )
    for i, p in enumerate(model.theta()):
        with torch.no_grad():
            p.copy_(tensors[f"theta.{i}"])
        optimizer.state[p] = {
            key: tensors[f"{key}.{i}"].to(p.device if key != "step" else "cpu", copy=True)  # not the file's memory
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{key}.{i}" in tensors
        }
    if average is not None:
        average.restore([tensors[f"average.{i}"] for i in range(len(model.theta()))] if averaged else [])
    vars(progress).update(vars(saved.progress))


def newest_complete(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are as they were written, and what is wrong with those newer than it."""
    damages: list[str] = []
    for path in reversed(paths(run_dir)):
        what = damage(path)
        if not what:
            return path, damages
        damages.append(what)
    return None, damages


def damage(path: Path) -> str:
    """What is wrong with a checkpoint's files; "" where they are as they were written."""
    try:
        check_manifest(path, FORMAT, kind="checkpoint")
    except UserError as error:
        return str(error)
    return ""


def drop_newer(run_dir: Path, step: int, mirror: Mirror | None = None) -> None:
    """Removes the checkpoints of later steps, which would count among the last few to be kept."""
    for path in paths(run_dir):
        if step_of(path.name) > step:
            shutil.rmtree(path, ignore_errors=True)
    if mirror:
        for name in mirror.names(FOLDER):
            if step_of(name) > step:
                mirror.remove(f"{FOLDER}/{name}")


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


def path_of(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run_dir / FOLDER / f"step-{step:07d}"


def step_of(name: str) -> int:
    """The step of a checkpoint, by the name of its directory."""
    return int(name.removeprefix("step-"))


def paths(run_dir: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run_dir / FOLDER).glob("step-*"))


def best_step(history: Sequence[Measurement]) -> int | None:
    """The step of the best measurement, the first of several; None before the first.

    >>> best_step([Measurement(step=10, plain=70.0), Measurement(step=20, plain=72.0)])
    20
    """
    return max(history, key=lambda measured: measured.score).step if history else None


def _snapshot(model: TagModel, optimizer: torch.optim.Optimizer, average: ThetaAverage | None) -> dict[str, Tensor]:
    """Copies, in the CPU's memory, of theta, the optimizer's state and the average."""
    mean = average.mean if average else ()
    tensors = {f"average.{i}": value.to("cpu", copy=True).contiguous() for i, value in enumerate(mean)}
    for i, p in enumerate(model.theta()):
        for key, value in {"theta": p.detach(), **optimizer.state.get(p, {})}.items():
            tensors[f"{key}.{i}"] = value.detach().to("cpu", copy=True).contiguous()
    return tensors
