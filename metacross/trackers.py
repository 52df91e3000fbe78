"""Where a run's figures go besides progress.jsonl: TensorBoard files always, MLflow where `train.mlflow_uri` is set.

A tracker takes the run's events as they happen. It never ends a training that has begun: what goes wrong is told once,
as a note, and later events are tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from metacross.config import Config

Event = dict[str, Any]

FIGURES: dict[str, dict[str, tuple[str, ...]]] = {
    "step": {"train": ("loss", "learning_rate"), "speed": ("pieces_per_second", "steps_per_second", "seconds_left")},
    "eval": {"dev_f1": ("plain", "adapted", "target_plain", "target_adapted")},
}


def metrics(event: Event) -> dict[str, float]:
    """The figures of an event by their names in TensorBoard and MLflow; most kinds of events have none.

    >>> metrics({"event": "eval", "step": 300, "plain": 81.25, "adapted": 83.5})
    {'dev_f1/plain': 81.25, 'dev_f1/adapted': 83.5}
    """
    groups = FIGURES.get(event["event"], {})
    return {f"{group}/{key}": float(event[key]) for group, keys in groups.items() for key in keys if key in event}


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
        from metacross.mlflow_tracker import MLflow  # which imports this module

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


class TensorBoard:
    """Writes `run_dir/tensorboard`: a file for every start of the run.

    A run goes on from its last checkpoint; points after it may have been written already and will come again. So a
    file begins with the mark that makes TensorBoard drop them.

    Points are written where they come up, not through tensorboardX's SummaryWriter: its thread ends when the disk is
    full, and whoever hands it more points then waits for ever.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "tensorboard"
        self._next = 1  # the step of the point to come, or an earlier one
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Takes one event."""
        if event["event"] == "start":
            self._next = event["step"] + 1
        values = metrics(event)
        if not values:
            return
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            self._writer = self._open()
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        try:
            _write(self._writer, step=event["step"], summary=Summary(value=points))
        except BaseException:
            self._writer = None  # half a point may be in the file, and readers stop there: go on in another
            raise
        self._next = event["step"] + 1

    def close(self, status: str) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> Any:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, which must not hang on clocks.
        number = len(list(self._folder.iterdir()))
        writer = EventsWriter(str(self._folder / f"events.{number:04}"))
        _write(writer, step=self._next, session_log=SessionLog(status=SessionLog.START))
        return writer


def _write(writer: Any, **content: Any) -> None:
    from tensorboardX.proto.event_pb2 import Event as Record

    writer.write_event(Record(wall_time=time.time(), **content))
    writer.flush()


def first_line(error: Exception) -> str:
    """What an error says, at most a line of it; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
