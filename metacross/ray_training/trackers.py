"""Where a run's figures go besides progress.jsonl: TensorBoard files always, MLflow where `train.mlflow_uri` is set.

A tracker takes the run's events as they happen. It never ends a training that has begun: what goes wrong is told once,
as a note, and later events are tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from metacross.config import Config
from metacross.errors import first_line
from metacross.events import Event
from metacross.ray_training.tensorboard_tracker import TensorBoard


class Tracker(Protocol):
    """Takes a run's events; may raise anything."""

    def __call__(self, event: Event) -> None:
        """Takes one event."""

    def close(self, status: str) -> None:
        """The run is over: FINISHED, KILLED (someone stopped it) or FAILED, in MLflow's words."""


@contextmanager
def tracked(config: Config, run_dir: Path, report: Callable[[Event], None]) -> Iterator[Callable[[Event], None]]:
    """Gives a report that hands every event to `report`, then to the run's trackers.

    Args:
        config: of the run.
        run_dir: the run's directory.
        report: also gets a note for every tracker that fails.

    Raises:
        UserError: MLflow is wanted but not installed, or a new run does not reach it.
    """
    trackers: list[Tracker] = [TensorBoard(run_dir)]
    if config.train.mlflow_uri:
        from metacross.ray_training.mlflow_tracker import MLflow  # which imports this module

        trackers.append(MLflow(config, run_dir))
    everyone = Trackers(report, trackers)
    try:
        yield everyone
    except BaseException:
        everyone.close("FAILED")
        raise
    everyone.close("FINISHED" if everyone.finished else "KILLED")


class Trackers:
    """A report that tells trackers too, and of each of them only once that it fails.

    Attributes:
        finished: whether the run's last step was reported.
    """

    def __init__(self, report: Callable[[Event], None], trackers: Sequence[Tracker]) -> None:
        self.finished = False
        self._report = report
        self._trackers = trackers
        self._failed: list[Tracker] = []

    def __call__(self, event: Event) -> None:
        """Reports one event to all."""
        self._report(event)
        if event["event"] in ("start", "step"):
            self.finished = event["step"] == event["steps"]
        for tracker in self._trackers:
            with self._harmless(tracker):
                tracker(event)

    def close(self, status: str) -> None:
        """Closes all."""
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
                name = type(tracker).__name__
                self._report({"event": "note", "text": f"{name}: {first_line(error)} (the training goes on)"})
