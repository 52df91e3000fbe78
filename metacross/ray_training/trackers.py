"""Where a run's figures go besides progress.jsonl: TensorBoard and Prometheus, and MLflow with `train.mlflow_uri`.

A tracker takes the run's events as they happen. It never ends a training that has begun: what goes wrong is reported
once, as a note, and later events are tried again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import ray

from metacross.config import Config
from metacross.errors import first_line
from metacross.events import Event, Note, Show, Start, StepsDone
from metacross.ray_training.mlflow_tracker import MLflow
from metacross.ray_training.prometheus_tracker import Prometheus
from metacross.ray_training.tensorboard_tracker import TensorBoard


class Tracker(Protocol):
    """Takes a run's events; may raise anything."""

    def __call__(self, event: Event) -> None:
        """Takes one event."""

    def close(self, status: str) -> None:
        """The run is over: FINISHED, KILLED (someone stopped it) or FAILED, in MLflow's words."""


@contextmanager
def tracked(config: Config, run_dir: Path, report: Show, *, name: str = "") -> Iterator[Show]:
    """Yields a report that passes every event to `report`, then to the run's trackers.

    Args:
        config: the run's configuration; says whether MLflow is wanted.
        run_dir: the run's directory.
        report: gets the events, and a note for every tracker that fails.
        name: the run's name in Prometheus; by default that of its directory.

    Raises:
        UserError: MLflow is wanted but not installed, or a new run does not reach it.
    """
    trackers: list[Tracker] = [TensorBoard(run_dir)]
    if ray.is_initialized():  # Ray collects these
        trackers.append(Prometheus(name or run_dir.name, run_dir))
    if config.train.mlflow_uri:
        trackers.append(MLflow(config, run_dir))
    everyone = Trackers(report, trackers)
    try:
        yield everyone
    except BaseException:
        everyone.close("FAILED")
        raise
    everyone.close("FINISHED" if everyone.finished else "KILLED")


class Trackers:
    """A report that passes events to trackers too, and reports only the first failure of each of them.

    Args:
        report: gets every event first, and notes about failures.
        trackers: get every event after it, in this order.

    Attributes:
        finished: whether the run's last step was reported.
    """

    def __init__(self, report: Show, trackers: Sequence[Tracker]) -> None:
        self.finished = False
        self._report = report
        self._trackers = trackers
        self._failed: list[Tracker] = []

    def __call__(self, event: Event) -> None:
        """Passes on one event."""
        self._report(event)
        if isinstance(event, Start | StepsDone):
            self.finished = event.step == event.steps
        for tracker in self._trackers:
            with self._harmless(tracker):
                tracker(event)

    def close(self, status: str) -> None:
        """Closes all trackers."""
        for tracker in self._trackers:
            with self._harmless(tracker):
                tracker.close(status)

    @contextmanager
    def _harmless(self, tracker: Tracker) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, a training is worth more
            if tracker not in self._failed:
                self._failed.append(tracker)
                self._report(Note(f"{type(tracker).__name__}: {first_line(error)} (the training goes on)"))
