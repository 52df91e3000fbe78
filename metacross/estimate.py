"""How long a run still takes."""

from __future__ import annotations

import time
from collections import deque


class Estimate:
    """Estimates the time to a run's end from how long its last steps took, with all that came between them.

    A whole `period` between two measurements counts where there was one, so that the time they take is in it in the
    right proportion. Steps done before a run was resumed do not count: nobody knows how long they took.

    Args:
        step: meta-steps done before.
        steps: meta-steps of the whole run.
        period: steps between two measurements.
    """

    def __init__(self, step: int, steps: int, *, period: int) -> None:
        self._steps = steps
        self._period = period
        self._marks = deque([(step, time.monotonic())])

    def seconds_left(self, step: int) -> float:
        """Seconds to the end, when `step` meta-steps are done, more than at the last call."""
        now = time.monotonic()
        self._marks.append((step, now))
        while step - self._marks[1][0] >= self._period:
            self._marks.popleft()
        first, began = self._marks[0]
        return (self._steps - step) * (now - began) / (step - first)
