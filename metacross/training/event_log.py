"""A run's events written to progress.jsonl, and the run stopped while it is being prepared."""

from __future__ import annotations

import time
from pathlib import Path

from metacross.event_files import to_line
from metacross.events import Event, Preparation

PREPARATION_SECONDS = 0.2  # between two events of the preparation


class Stopped(Exception):
    """Someone stopped the run while it was being prepared."""


class EventLog:
    """Appends events to progress.jsonl; while the run is being prepared it also looks for STOP.

    From the first step on, `loop.run` looks for it, since then all workers must stop at the same step.

    Args:
        run_dir: the run's directory.
        stop: whoever creates this file stops the run; STOP in the run's directory by default.
    """

    def __init__(self, run_dir: Path, stop: Path | None = None) -> None:
        self._file = (run_dir / "progress.jsonl").open("a", encoding="utf-8", buffering=1)
        self._stop = stop or run_dir / "STOP"
        self._last_preparation = float("-inf")

    def __call__(self, event: Event) -> None:
        """Writes one event.

        Raises:
            Stopped: it is about the preparation, and someone has stopped the run.
        """
        if isinstance(event, Preparation):
            if self._stop.exists():
                raise Stopped
            now = time.monotonic()
            if now - self._last_preparation < PREPARATION_SECONDS and event.done < event.total:
                return
            self._last_preparation = now
        self._file.write(to_line(event))
