"""What a failed attempt means: which errors are worth another one, and what the user gets to see."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
import ray.train
import torch

from metacross.errors import RunError, UserError
from metacross.ray_training.directory import Run
from metacross.ray_training.failures import raise_cause, worth_another_attempt


def test_other_errors_are_logged(tmp_path: Path) -> None:
    failed = ray.train.WorkerGroupError("Traceback: all of it", {1: ValueError("odd\nmore")})
    with pytest.raises(RunError, match=r"^a worker failed: ValueError: odd \("):
        raise_cause(Run(tmp_path, tmp_path, None), failed)
    assert "all of it" in (tmp_path / "error.log").read_text()


def test_cause_is_preferred_to_its_consequences(tmp_path: Path) -> None:
    failed = ray.train.WorkerGroupError("", {0: RuntimeError("connection closed by peer"), 1: UserError("disk full")})
    with pytest.raises(UserError, match="disk full"):
        raise_cause(Run(tmp_path, tmp_path, None), failed)


@pytest.mark.parametrize(
    ("causes", "expected"),
    [
        ({0: ray.exceptions.ActorDiedError()}, True),
        ({0: RuntimeError("Connection closed by peer"), 1: ray.exceptions.ActorDiedError()}, True),
        ({0: OSError("Stale file handle")}, True),
        ({0: RuntimeError("Connection closed by peer"), 1: UserError("no such file")}, False),
        ({0: RunError("step 3: the loss is not finite")}, False),
        ({0: ValueError("odd")}, False),
        ({0: torch.OutOfMemoryError("CUDA out of memory")}, False),
    ],
)
def test_only_what_machines_do_is_worth_another_attempt(causes: dict[int, Exception], expected: bool) -> None:
    assert worth_another_attempt(ray.train.WorkerGroupError("", causes)) is expected


def test_loss_of_a_node_while_workers_start_is_worth_another_attempt() -> None:
    assert worth_another_attempt(ray.train.ControllerError(ray.exceptions.ActorDiedError()))
