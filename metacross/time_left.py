"""How long a piece of work still takes, judged by how fast it went so far."""

from __future__ import annotations

import time
from collections import deque


class TimeLeft:
    """Estimates the seconds to the end of a piece of work that is counted in units, such as steps or sentences.

    The clock starts with the construction. Units done before, by an interrupted run, say nothing about the rate: nobody
    knows how long they took.

    Args:
        total: units of the complete work.
        done: units done before.
        period: only the last so many units decide the rate (rounded up to the calls made), so that a change of pace
            shows. Where something else happens every so many units, such as a measurement, give that number: the time
            it takes then counts in the right proportion. None: all units since the start decide it.
    """

    def __init__(self, total: int, *, done: int = 0, period: int | None = None) -> None:
        self._total = total
        self._period = period
        self._marks = deque([(done, time.monotonic())])  # when how many were done; the first is where the rate begins

    def seconds(self, done: int) -> float:
        """The seconds left when `done` units are done, which must not be fewer than at the last call."""
        now = time.monotonic()
        if self._period is not None:
            self._marks.append((done, now))
            while done - self._marks[1][0] >= self._period:
                self._marks.popleft()
        first, began = self._marks[0]
        return (now - began) * (self._total - done) / max(done - first, 1)
