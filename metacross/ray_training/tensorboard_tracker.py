"""A run's figures as TensorBoard files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from metacross.events import Event, Measurement, Start, StepsDone, metrics


class TensorBoard:
    """Writes `run_dir/tensorboard`: a file for every start of the run.

    A run goes on from its last checkpoint; points after it may have been written already and will come again. So a
    file begins with the mark that makes TensorBoard drop them.

    Points are written by the caller's thread, not through tensorboardX's SummaryWriter: its thread ends when the disk
    is full, and whoever gives it more points then waits for ever.

    Args:
        run_dir: the run's directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "tensorboard"
        self._next = 1  # the step of the point to come, or an earlier one
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Takes one event; those without figures leave nothing."""
        match event:
            case Start():
                self._next = event.step + 1
            case StepsDone() | Measurement():
                self._add_points(event)

    def close(self, status: str) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _add_points(self, event: StepsDone | Measurement) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            self._writer = self._open()
        points = [Summary.Value(tag=name, simple_value=value) for name, value in metrics(event).items()]
        try:
            _write(self._writer, step=event.step, summary=Summary(value=points))
        except BaseException:
            self._writer = None  # half a point may be in the file, and readers stop there: go on in another
            raise
        self._next = event.step + 1

    def _open(self) -> Any:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, which must not depend on clocks.
        number = len(list(self._folder.iterdir()))
        writer = EventsWriter(str(self._folder / f"events.{number:04}"))
        _write(writer, step=self._next, session_log=SessionLog(status=SessionLog.START))
        return writer


def _write(writer: Any, **content: Any) -> None:
    from tensorboardX.proto.event_pb2 import Event as Record

    writer.write_event(Record(wall_time=time.time(), **content))
    writer.flush()
