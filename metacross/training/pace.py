"""How long a run still takes."""

from __future__ import annotations

import time
from collections import deque

from metacross.training.learner import Learner


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


class Pace:
    """Reports how fast a learner gets on, about once a second."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        train = learner.config.train
        self._estimate = Estimate(learner.progress.step, train.steps, period=train.eval_every)
        self.begin()

    def begin(self) -> None:
        """Starts counting anew, so that what took time in between is left out."""
        self._began, self._pieces, self._losses = time.monotonic(), 0, list[float]()

    def count(self, pieces: int, loss: float) -> None:
        """Counts a step that was done."""
        self._pieces += pieces
        self._losses.append(loss)
        step, steps = self._learner.progress.step, self._learner.config.train.steps
        seconds = time.monotonic() - self._began
        if seconds > 1 or step == steps:
            self._learner.report(
                {
                    "event": "step",
                    "step": step,
                    "steps": steps,
                    "loss": sum(self._losses) / len(self._losses),
                    "learning_rate": self._learner.optimizer.param_groups[0]["lr"],
                    "pieces_per_second": self._pieces / seconds,
                    "steps_per_second": len(self._losses) / seconds,
                    "seconds_left": self._estimate.seconds_left(step),
                }
            )
            self.begin()
