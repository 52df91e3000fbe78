"""How fast a run gets on: the `StepsDone` events."""

from __future__ import annotations

import time

from metacross.events import StepsDone
from metacross.time_left import TimeLeft
from metacross.training.learner import Learner, StepResult

REPORT_SECONDS = 1.0  # between two events


class Pace:
    """Reports how fast a learner gets on, about once a second.

    Args:
        learner: of this worker; its `report` gets the events.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        train = learner.config.train
        self._time_left = TimeLeft(train.steps, done=learner.progress.step, period=train.eval_every)
        self.restart()

    def restart(self) -> None:
        """Starts a new interval, so that the speed leaves out what took time before it, such as a measurement."""
        self._began, self._pieces, self._losses = time.monotonic(), 0, list[float]()

    def count(self, result: StepResult) -> None:
        """Counts a meta-step that was done, and reports all since the last event once it is time."""
        self._pieces += result.pieces
        self._losses.append(result.loss)
        step, steps = self._learner.progress.step, self._learner.config.train.steps
        seconds = time.monotonic() - self._began
        if seconds > REPORT_SECONDS or step == steps:
            self._learner.report(
                StepsDone(
                    step=step,
                    steps=steps,
                    loss=sum(self._losses) / len(self._losses),
                    learning_rate=self._learner.optimizer.param_groups[0]["lr"],
                    pieces_per_second=self._pieces / seconds,
                    steps_per_second=len(self._losses) / seconds,
                    seconds_left=self._time_left.seconds(step),
                )
            )
            self.restart()
