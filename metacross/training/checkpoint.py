"""Checkpoints of a run: theta, optimizer, progress. safetensors and JSON, written beside and renamed.

What a step needs besides these (meta-batches, masks, learning rate) is a function of the seed and the step's number,
and nothing else draws random numbers, so there is no random state to keep.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from metacross.encoder.model import TagModel
from metacross.errors import UserError
from metacross.storage.directories import check_manifest, write_directory, write_manifest
from metacross.storage.files import write_json
from metacross.training.progress import score_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metacross.storage.addresses import Mirror
    from metacross.training.progress import Progress

FOLDER = "checkpoints"
KEPT = 2  # the newest ones; the best one is kept besides
FORMAT = 1


class Keeper:
    """Writes what a run leaves. Checkpoints are copied in memory and written by a thread of their own.

    One thing is written at a time: whoever comes next waits, and gets the error of the one before.

    Args:
        run_dir: of the run.
        tags: the tag set, IOB2.
        mirror: carries them on, in that thread, for a run that is kept at an address.
    """

    def __init__(self, run_dir: Path, *, tags: Sequence[str], mirror: Mirror | None = None) -> None:
        self._run_dir = run_dir
        self._tags = list(tags)
        self._mirror = mirror
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeper")
        self._pending: Future[None] | None = None

    def checkpoint(self, model: TagModel, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Starts to write `checkpoints/step-N`; older ones but the last few and the best are dropped after it.

        Raises:
            UserError: what was to be written before could not be.
        """
        self.wait()
        tensors = _snapshot(model, optimizer)
        state: dict[str, Any] = {
            "step": progress.step,
            "best": progress.best,
            "history": list(progress.history),
            "tags": self._tags,
        }

        def work() -> None:
            path = save(self._run_dir, tensors, state)
            if self._mirror:
                self._mirror.push(f"{FOLDER}/{path.name}")
                for name in superseded(self._mirror.names(FOLDER), state["history"]):
                    self._mirror.remove(f"{FOLDER}/{name}")

        self._pending = self._thread.submit(work)

    def bundle(self, save: Callable[[Path], None]) -> None:
        """Has `save` write `bundle`, then starts to carry it on.

        Raises:
            UserError: this, or what was to be written before, could not be.
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
        """Lets what is being written come to its end, whatever that is."""
        self._thread.shutdown(wait=True)


def save(run_dir: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Writes `run_dir/checkpoints/step-N`, N being state["step"], and drops those that are not kept."""
    path = run_dir / FOLDER / f"step-{state['step']:07d}"

    def fill(folder: Path) -> None:
        save_file(tensors, folder / "state.safetensors")
        write_json(folder / "progress.json", state)
        write_manifest(folder, FORMAT)

    write_directory(path, fill)
    for name in superseded([old.name for old in found(run_dir)], state["history"]):
        shutil.rmtree(path.with_name(name), ignore_errors=True)
    return path


def superseded(names: Sequence[str], history: Sequence[dict[str, Any]]) -> list[str]:
    """Which of these checkpoints, oldest first, are no longer kept.

    >>> superseded(["step-10", "step-20", "step-30", "step-40"], [{"step": 10, "plain": 72.0}])
    ['step-20']
    """
    best = best_step(history)
    return [name for name in names[:-KEPT] if int(name.removeprefix("step-")) != best]


def fetch(mirror: Mirror) -> None:
    """Brings the newest whole checkpoint here from a run's address, and the damaged ones that are newer."""
    for name in reversed(mirror.names(FOLDER)):
        mirror.pull(f"{FOLDER}/{name}")
        if newest_whole(mirror.local)[0]:
            return


def restore(
    run_dir: Path, model: TagModel, optimizer: torch.optim.Optimizer, progress: Progress, *, tags: Sequence[str]
) -> list[str]:
    """Goes on from the newest checkpoint that is whole, if there is one.

    Returns what is wrong with those that had to be passed over, newest first.

    Raises:
        UserError: there are checkpoints, but none is whole; or it belongs to another tag set.
    """
    newest, damage = newest_whole(run_dir)
    if newest is None:
        if damage:
            raise UserError(f"no checkpoint in {run_dir / FOLDER} is whole ({damage[0]}). Start a new run.")
        return damage
    state = read_progress(newest)
    if state["tags"] != list(tags):
        raise UserError(
            f"{newest}: trained for tags {state['tags']}, the data has {list(tags)}. Use another train.name"
        )
    tensors = load_file(newest / "state.safetensors")
    for i, p in enumerate(model.theta()):
        with torch.no_grad():
            p.copy_(tensors[f"theta.{i}"])
        optimizer.state[p] = {
            key: tensors[f"{key}.{i}"].to(p.device if key != "step" else "cpu", copy=True)  # not the file's memory
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{key}.{i}" in tensors
        }
    progress.step, progress.best, progress.history = state["step"], state["best"], state["history"]
    return damage


def newest_whole(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are as they were written, and what is wrong with those newer than it."""
    damage: list[str] = []
    for path in reversed(found(run_dir)):
        try:
            check_manifest(path, FORMAT, kind="checkpoint")
        except UserError as error:
            damage.append(str(error))
        else:
            return path, damage
    return None, damage


def drop_damaged(run_dir: Path, mirror: Mirror | None = None) -> None:
    """Removes the checkpoints newer than the newest whole one, which would be taken for the last few."""
    newest, _ = newest_whole(run_dir)
    for path in found(run_dir):
        if newest is not None and path > newest:
            shutil.rmtree(path, ignore_errors=True)
            if mirror:
                mirror.remove(f"{FOLDER}/{path.name}")


def latest_progress(run_dir: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint's {"step", "best", "history", "tags"}; None where there is no checkpoint."""
    newest, _ = newest_whole(run_dir)
    return read_progress(newest) if newest else None


def read_progress(path: Path) -> dict[str, Any]:
    """A checkpoint's {"step", "best", "history", "tags"}."""
    state: dict[str, Any] = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    return state


def found(run_dir: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run_dir / FOLDER).glob("step-*"))


def best_step(history: Sequence[dict[str, Any]]) -> int | None:
    """The step of the best measurement, the first of several; None before the first.

    >>> best_step([{"step": 10, "plain": 70.0}, {"step": 20, "plain": 72.0}, {"step": 30, "plain": 71.0}])
    20
    """
    return max(history, key=score_of)["step"] if history else None


def _snapshot(model: TagModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies, in the CPU's memory, of theta and the optimizer's state."""
    tensors: dict[str, Tensor] = {}
    for i, p in enumerate(model.theta()):
        for key, value in {"theta": p.detach(), **optimizer.state.get(p, {})}.items():
            tensors[f"{key}.{i}"] = value.detach().to("cpu", copy=True).contiguous()
    return tensors
