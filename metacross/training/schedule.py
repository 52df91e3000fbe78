"""What every meta-step's number decides, its learning rate and whether it is averaged, and what runs have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from metacross.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """A run's learning rates: they rise linearly to the peak (warm-up), stay there, and fall linearly to 0 (decay).

    It also says over which of the steps theta is averaged.

    Attributes:
        steps: meta-steps of the complete run.
        peak: the highest rate.
        warmup: the first steps, in which the rate rises: their share of all steps, or above 1 their number.
        decay: share of all steps, the last ones, in which the rate falls; where it is more than the warm-up leaves,
            the rate falls in all steps after the warm-up.
        average: share of all steps, the last ones, over which theta is averaged; see `averaging`.
    """

    steps: int
    peak: float
    warmup: float
    decay: float
    average: float = 0.0

    @classmethod
    def of(cls, train: TrainConfig) -> Self:
        """The schedule of a configuration."""
        return cls(train.steps, train.lr, train.warmup, train.decay, train.average)

    @property
    def warmup_steps(self) -> int:
        """Steps in which the rate rises."""
        return max(1, round(self.warmup * self.steps) if self.warmup <= 1 else round(self.warmup))

    @property
    def decay_start(self) -> int:
        """Steps before the rate falls."""
        return max(self.warmup_steps, self.steps - round(self.decay * self.steps))

    @property
    def average_start(self) -> int:
        """Steps before the first one that is averaged."""
        return self.steps - round(self.average * self.steps)

    @property
    def open_steps(self) -> int:
        """Steps that are the same in every longer run: up to the decay or the averaging. 0 where there are none.

        >>> Schedule(steps=100, peak=1e-4, warmup=10, decay=0.2).open_steps
        80
        >>> Schedule(steps=100, peak=1e-4, warmup=0.1, decay=0.2).open_steps  # a longer run warms up longer
        0
        >>> Schedule(steps=100, peak=1e-4, warmup=10, decay=1.0).open_steps  # the rate falls at once
        0
        >>> Schedule(steps=100, peak=1e-4, warmup=10, decay=0.2, average=0.5).open_steps
        50
        """
        warmup_is_fixed = self.warmup == 0 or self.warmup > 1
        # An average of all steps begins with the first one, however long the run is.
        end = self.decay_start if self.average == 1 else min(self.decay_start, self.average_start)
        return end if warmup_is_fixed and end > self.warmup_steps else 0

    def rate(self, step: int) -> float:
        """The learning rate of a step (0, 1, ...)."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if step < self.decay_start:
            return self.peak
        return self.peak * (self.steps - step) / (self.steps - self.decay_start)

    def is_averaged(self, step: int) -> bool:
        """Whether theta after a step (0, 1, ...) is part of the average."""
        return step >= self.average_start

    def steps_in_common(self, other: Schedule) -> int:
        """How many steps, from the first on, are the same in both: their rates, and whether they are averaged."""
        shorter = min(self.steps, other.steps)
        differing = (
            step
            for step in range(shorter)
            if self.rate(step) != other.rate(step) or self.is_averaged(step) != other.is_averaged(step)
        )
        return next(differing, shorter)
