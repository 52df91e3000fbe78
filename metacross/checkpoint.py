"""Checkpoints of a run: theta, optimizer, progress. safetensors and JSON, written beside and renamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from metacross.bundle import write_directory
from metacross.errors import UserError
from metacross.model import TagModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metacross.learner import Progress

KEPT = 2


def save(
    run_dir: Path, model: TagModel, optimizer: torch.optim.Optimizer, progress: Progress, *, tags: Sequence[str]
) -> None:
    """Writes `run_dir/checkpoints/step-N` and drops all but the last few."""

    def fill(folder: Path) -> None:
        tensors = {f"theta.{i}": p.detach().contiguous() for i, p in enumerate(model.theta())}
        for i, p in enumerate(model.theta()):
            for key, value in optimizer.state.get(p, {}).items():
                tensors[f"{key}.{i}"] = value.contiguous()
        save_file(tensors, folder / "state.safetensors")
        state = {"step": progress.step, "best": progress.best, "history": progress.history, "tags": list(tags)}
        (folder / "progress.json").write_text(json.dumps(state), encoding="utf-8")

    write_directory(run_dir / "checkpoints" / f"step-{progress.step:07d}", fill)
    for old in found(run_dir)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def restore(
    run_dir: Path, model: TagModel, optimizer: torch.optim.Optimizer, progress: Progress, *, tags: Sequence[str]
) -> None:
    """Goes on from the newest checkpoint, if there is one."""
    state = latest_progress(run_dir)
    if state is None:
        return
    newest = found(run_dir)[-1]
    if state["tags"] != list(tags):
        raise UserError(
            f"{newest}: trained for tags {state['tags']}, the data has {list(tags)}. Use another train.name"
        )
    tensors = load_file(newest / "state.safetensors")
    for i, p in enumerate(model.theta()):
        with torch.no_grad():
            p.copy_(tensors[f"theta.{i}"])
        optimizer.state[p] = {
            key: tensors[f"{key}.{i}"].to(p.device if key != "step" else "cpu")
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{key}.{i}" in tensors
        }
    progress.step, progress.best, progress.history = state["step"], state["best"], state["history"]


def latest_progress(run_dir: Path) -> dict[str, Any] | None:
    """The newest checkpoint's {"step", "best", "history", "tags"}; None where there is no checkpoint."""
    checkpoints = found(run_dir)
    if not checkpoints:
        return None
    state: dict[str, Any] = json.loads((checkpoints[-1] / "progress.json").read_text(encoding="utf-8"))
    return state


def found(run_dir: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run_dir / "checkpoints").glob("step-*"))
