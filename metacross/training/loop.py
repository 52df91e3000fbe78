"""A run from its first step, or its last checkpoint, to its end: steps, measurements, checkpoints, the best bundle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from metacross.config_loading import FILE_NAME, load_config
from metacross.errors import UserError
from metacross.events import Measurement, Note, Start, to_fields
from metacross.storage.addresses import Mirror
from metacross.storage.directories import tidy
from metacross.training import checkpoint
from metacross.training.extension import is_measured, needed_steps
from metacross.training.learner import Learner
from metacross.training.pace import Pace
from metacross.training.progress import Progress
from metacross.training.schedule import Schedule

AroundStep = Callable[[int], AbstractContextManager[None]]  # meta-steps done -> what the next one is taken inside of


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        progress: how far it came.
        stopped: whether someone stopped it before its last step.
    """

    progress: Progress
    stopped: bool


def run(
    learner: Learner,
    run_dir: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    should_save: Callable[[], bool] = lambda: False,
    on_eval: Callable[[Measurement], None] = lambda measured: None,
    around_step: AroundStep = lambda done: nullcontext(),
    mirror: Mirror | None = None,
) -> Outcome:
    """Trains to the end or until someone stops it; leaves `run_dir/bundle`, the best on development data.

    A checkpoint is written every `train.checkpoint_every` steps, at every new best, when wished or stopped, and before
    averaging begins or the learning rate falls, from where a longer run could go on. A run whose `run_dir` has one goes
    on from it. Every worker calls this; all of them read `run_dir`, and the first one writes.

    Args:
        learner: this worker's.
        run_dir: the run's directory.
        should_stop: called before every step; True on any worker stops all of them after that step.
        should_save: called after every step on the first worker; True if a checkpoint is to be written.
        on_eval: called with every measurement, on every worker.
        around_step: called before every step; returns a context manager that the step is taken in.
        mirror: for a run that is kept at an address, of which `run_dir` is a copy.

    Raises:
        UserError: a file cannot be written or read, or workers do not see the same checkpoints.
        RunError: the loss is not finite.
    """
    train = learner.config.train
    writer = checkpoint.RunWriter(
        run_dir, tags=learner.tags, needed=lambda history: needed_steps(history, train), mirror=mirror
    )
    try:
        _restore(learner, run_dir, writer, mirror)
        stopped = _train(learner, writer, should_stop, should_save, on_eval, around_step)
        writer.wait()
    finally:
        writer.close()
    learner.team.gather(None)  # nobody leaves before rank 0 has written
    return Outcome(learner.progress, stopped)


def _restore(learner: Learner, run_dir: Path, writer: checkpoint.RunWriter, mirror: Mirror | None) -> None:
    """Brings all workers to the newest complete checkpoint, and reports the start."""
    progress = learner.progress
    if learner.team.rank == 0:
        tidy(run_dir)
        tidy(run_dir / checkpoint.FOLDER)
    if mirror:
        checkpoint.fetch(mirror)
    damage = checkpoint.restore(run_dir, learner.model, learner.optimizer, progress, learner.average, tags=learner.tags)
    if len(set(learner.team.gather(progress.step))) > 1:
        raise UserError(
            f"{run_dir}: not every worker sees the checkpoints here. Give a train.storage_path that all nodes see"
        )
    for what in damage:
        learner.report(Note(f"warning: {what} Going on from step {progress.step}."))
    if damage and learner.team.rank == 0:
        checkpoint.drop_newer(run_dir, progress.step, mirror)
    _lengthen(learner, run_dir, writer, mirror)
    learner.report(Start(progress.step, learner.config.train.steps, workers=learner.team.size))


def _lengthen(learner: Learner, run_dir: Path, writer: checkpoint.RunWriter, mirror: Mirror | None) -> None:
    """Brings progress and bundle to where a run of train.steps steps would have them; the run may have had fewer."""
    train, progress = learner.config.train, learner.progress
    history = [measured for measured in progress.history if is_measured(measured.step, train)]
    best = checkpoint.best_step(history)
    if learner.team.rank == 0 and best is not None and _bundle_steps(run_dir, mirror) not in (None, train.steps):
        # The bundle is that of the shorter run: its settings are, and it may be from a step that was dropped.
        newest = progress.step
        if mirror:
            mirror.pull(f"{checkpoint.FOLDER}/{checkpoint.path_of(run_dir, best).name}")
        _load(learner, run_dir, best)
        _write_bundle(learner, writer, dev_f1=progress.best)
        _load(learner, run_dir, newest)
    progress.history = history
    progress.best = max((measured.score for measured in history), default=Progress.best)


def _bundle_steps(run_dir: Path, mirror: Mirror | None) -> int | None:
    """The steps of the run that the bundle was written by; None where there is no bundle."""
    name = f"bundle/{FILE_NAME}"
    if mirror:
        mirror.pull(name)
    path = run_dir / name
    return load_config([path], alone=True).train.steps if path.exists() else None


def _load(learner: Learner, run_dir: Path, step: int) -> None:
    path = checkpoint.path_of(run_dir, step)
    checkpoint.load(path, learner.model, learner.optimizer, learner.progress, learner.average, tags=learner.tags)


def _train(
    learner: Learner,
    writer: checkpoint.RunWriter,
    should_stop: Callable[[], bool],
    should_save: Callable[[], bool],
    on_eval: Callable[[Measurement], None],
    around_step: AroundStep,
) -> bool:
    """Takes steps to the end or until someone stops the run; returns whether someone did before the last step."""
    train, progress, writes = learner.config.train, learner.progress, learner.team.rank == 0
    open_steps = Schedule.of(train).open_steps
    stopped = False
    pace = Pace(learner)
    while progress.step < train.steps and not stopped:
        with around_step(progress.step):
            result = learner.step(should_stop())
        pace.count(result)
        stopped = result.stop
        better = False
        if is_measured(progress.step, train):
            measured = learner.evaluate()
            learner.report(measured)
            on_eval(measured)
            if better := measured.score > progress.best:
                progress.best, progress.score_temperature = measured.score, learner.fit_temperature()
                if writes:
                    _write_bundle(learner, writer, dev_f1=measured.score)
            pace.restart()
        due = progress.step % train.checkpoint_every == 0 or progress.step in (open_steps, train.steps)
        if writes and (should_save() or due or stopped or better):
            writer.checkpoint(learner.model, learner.optimizer, progress, learner.average)
    if writes and progress.best < 0:  # stopped before the first measurement: a bundle that was not measured
        _write_bundle(learner, writer, dev_f1=None)
    return stopped and progress.step < train.steps


def _write_bundle(learner: Learner, writer: checkpoint.RunWriter, *, dev_f1: float | None) -> None:
    progress = learner.progress
    history = [to_fields(measured) for measured in progress.history]
    metrics = {"steps": progress.step, "dev_f1": dev_f1, "history": history}
    writer.bundle(lambda path: learner.save(path, metrics))
