"""The learning rate of every meta-step, and how many steps runs of different length have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from metacross.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """A run's learning rates: they rise linearly to the peak (warm-up), stay there, and fall linearly to 0 (decay).

    Attributes:
        steps: meta-steps of the complete run.
        peak: the highest rate.
        warmup: the first steps, in which the rate rises: their share of all steps, or above 1 their number.
        decay: share of all steps, the last ones, in which the rate falls; where it is more than the warm-up leaves,
            the rate falls in all steps after the warm-up.
    """

    steps: int
    peak: float
    warmup: float
    decay: float

    @classmethod
    def of(cls, train: TrainConfig) -> Self:
        """The schedule of a configuration."""
        return cls(train.steps, train.lr, train.warmup, train.decay)

    @property
    def warmup_steps(self) -> int:
        """Steps in which the rate rises."""
        return max(1, round(self.warmup * self.steps) if self.warmup <= 1 else round(self.warmup))

    @property
    def decay_start(self) -> int:
        """Steps before the rate falls."""
        return max(self.warmup_steps, self.steps - round(self.decay * self.steps))

    @property
    def open_steps(self) -> int:
        """Steps that every longer run takes at the same rates, up to the decay; 0 where there is no such stretch.

        >>> Schedule(steps=100, peak=1e-4, warmup=10, decay=0.2).open_steps
        80
        >>> Schedule(steps=100, peak=1e-4, warmup=0.1, decay=0.2).open_steps  # a longer run warms up longer
        0
        >>> Schedule(steps=100, peak=1e-4, warmup=10, decay=1.0).open_steps  # the rate falls at once
        0
        """
        warmup_is_fixed = self.warmup == 0 or self.warmup > 1
        return self.decay_start if warmup_is_fixed and self.decay_start > self.warmup_steps else 0

    def rate(self, step: int) -> float:
        """The learning rate of a step (0, 1, ...)."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if step < self.decay_start:
            return self.peak
        return self.peak * (self.steps - step) / (self.steps - self.decay_start)

    def steps_in_common(self, other: Schedule) -> int:
        """How many steps, from the first on, have the same rates in both schedules."""
        shorter = min(self.steps, other.steps)
        return next((step for step in range(shorter) if self.rate(step) != other.rate(step)), shorter)
