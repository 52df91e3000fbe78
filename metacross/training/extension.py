"""Runs that are made longer: with more steps, a run goes on from where a fresh run of so many steps would be the same.

All of a step but its learning rate is a function of the seed and the step's number (see `learner`), and the number of
steps also decides which of them are averaged. So two runs are the same up to the first step whose rates differ, or that
only one of them averages. They also measure at the same steps, but for the last step of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metacross.config import TrainConfig
from metacross.events import Measurement
from metacross.training import checkpoint
from metacross.training.schedule import Schedule


def is_measured(step: int, train: TrainConfig) -> bool:
    """Whether development data is scored after this many steps."""
    return step % train.eval_every == 0 or step == train.steps


def needed_steps(history: Sequence[Measurement], train: TrainConfig) -> set[int]:
    """The checkpoints that are needed besides the newest ones, by step.

    These are the best, the one from which a longer run could go on, and the best up to there, which would be that run's
    bundle.
    """
    open_steps = Schedule.of(train).open_steps
    shared = [measured for measured in history if measured.step <= open_steps and measured.step % train.eval_every == 0]
    best = {checkpoint.best_step(history), checkpoint.best_step(shared)}
    return {open_steps, *(step for step in best if step is not None)}


def common_step(run_dir: Path, before: TrainConfig, now: TrainConfig) -> int | None:
    """The step of the newest complete checkpoint that a run has in common with a longer one.

    Args:
        run_dir: the run's directory.
        before: the settings of the run so far.
        now: the same with more steps.

    Returns:
        The step, 0 where the run has no checkpoints yet; None where nothing of what was done can be used.
    """
    paths = {checkpoint.step_of(path.name): path for path in checkpoint.paths(run_dir)}
    if not paths:
        return 0
    complete = {step: path for step, path in paths.items() if not checkpoint.damage(path)}
    in_common = Schedule.of(before).steps_in_common(Schedule.of(now))
    for step in sorted((step for step in complete if step <= in_common), reverse=True):
        history = checkpoint.read_progress(complete[step]).progress.history
        best = checkpoint.best_step([measured for measured in history if is_measured(measured.step, now)])
        if best is None or best in complete:
            return step
    return None
