"""A run from its first step, or its last checkpoint, to its end: steps, measurements, checkpoints, the best bundle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from metacross.errors import UserError
from metacross.storage.addresses import Mirror
from metacross.storage.directories import tidy
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.pace import Pace
from metacross.training.progress import score_of

AroundStep = Callable[[int], AbstractContextManager[None]]


def run(
    learner: Learner,
    run_dir: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_eval: Callable[[dict[str, float]], None] = lambda found: None,
    around_step: AroundStep = lambda done: nullcontext(),
    mirror: Mirror | None = None,
) -> dict[str, Any]:
    """Trains to the end or until someone stops it; leaves `run_dir/bundle`, the best on development data.

    A checkpoint is written every `train.checkpoint_every` steps, at every new best and when stopped; a run whose
    `run_dir` has one goes on from it.

    Args:
        learner: this worker's.
        run_dir: where to write; every worker reads, the first one writes.
        should_stop: is asked before every step.
        on_eval: gets every measurement, on every worker.
        around_step: every meta-step is taken inside of what it gives for the number of steps done.
        mirror: of a run that is kept at an address; `run_dir` is its copy here.

    Returns {"step", "stopped", "best", "history"}.
    """
    keeper = checkpoint.Keeper(run_dir, tags=learner.tags, mirror=mirror)
    try:
        _restore(learner, run_dir, mirror)
        stopped = _train(learner, keeper, should_stop, on_eval, around_step)
        keeper.wait()
    finally:
        keeper.close()
    learner.team.gather(None)  # nobody leaves before rank 0 has written
    progress = learner.progress
    return {"step": progress.step, "stopped": stopped, "best": progress.best, "history": progress.history}


def _restore(learner: Learner, run_dir: Path, mirror: Mirror | None) -> None:
    """Brings the whole team to the newest checkpoint that is whole."""
    progress = learner.progress
    if learner.team.rank == 0:
        tidy(run_dir)
        tidy(run_dir / checkpoint.FOLDER)
    if mirror:
        checkpoint.fetch(mirror)
    damage = checkpoint.restore(run_dir, learner.model, learner.optimizer, progress, tags=learner.tags)
    if len(set(learner.team.gather(progress.step))) > 1:
        raise UserError(
            f"{run_dir}: not every worker sees the checkpoints here. Give a train.storage_path that all nodes see"
        )
    for what in damage:
        learner.report({"event": "note", "text": f"warning: {what} Going on from step {progress.step}."})
    if damage and learner.team.rank == 0:
        checkpoint.drop_damaged(run_dir, mirror)
    steps = learner.config.train.steps
    learner.report({"event": "start", "step": progress.step, "steps": steps, "workers": learner.team.size})


def _train(
    learner: Learner,
    keeper: checkpoint.Keeper,
    should_stop: Callable[[], bool],
    on_eval: Callable[[dict[str, float]], None],
    around_step: AroundStep,
) -> bool:
    """Steps to the end or until someone stops it: whether someone did."""
    train, progress, first = learner.config.train, learner.progress, learner.team.rank == 0
    stopped = False
    pace = Pace(learner)
    while progress.step < train.steps and not stopped:
        pieces = learner.pieces_of(learner.episodes.meta_batch(progress.step))
        with around_step(progress.step):
            loss, stopped = learner.step(should_stop())
        pace.count(pieces, loss)
        ends = progress.step == train.steps
        better = False
        if progress.step % train.eval_every == 0 or ends:
            found = learner.evaluate()
            learner.report({"event": "eval", **found})
            on_eval(found)
            score = score_of(found)
            if better := score > progress.best:
                progress.best = score
                if first:
                    metrics = {"steps": progress.step, "dev_f1": score, "history": progress.history}
                    keeper.bundle(lambda path, metrics=metrics: learner.save(path, metrics))  # type: ignore[misc]
            pace.begin()
        if first and (progress.step % train.checkpoint_every == 0 or ends or stopped or better):
            keeper.checkpoint(learner.model, learner.optimizer, progress)
    if first and progress.best < 0:  # stopped before the first measurement
        keeper.bundle(
            lambda path: learner.save(path, {"steps": progress.step, "dev_f1": None, "history": progress.history})
        )
    return stopped and progress.step < train.steps
