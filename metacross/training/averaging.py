"""The average of theta over the last steps of a run, which is what is measured and left as the bundle.

Steps near the end move theta around a good place more than towards it, and the mean of where they were is nearer to it
(Polyak and Juditsky, 1992; Izmailov et al., 2018). Training itself goes on from theta and knows nothing of the average,
so the average can be computed by every worker by itself: all of them have the same theta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ThetaAverage:
    """The mean of theta after each step since the first that is averaged, every step counting the same.

    How many steps it is the mean of follows from the number of steps done, so nothing but the mean has to be kept.

    Args:
        theta: parameters, in fp32.
        start: steps that are done before the first one that is averaged.
    """

    def __init__(self, theta: Sequence[nn.Parameter], *, start: int) -> None:
        self._theta = theta
        self._start = start
        self._mean: list[Tensor] = []  # empty, and without memory, until the first averaged step

    @property
    def mean(self) -> Sequence[Tensor]:
        """The mean of each parameter, in theta's order; empty before the first averaged step."""
        return self._mean

    def has_begun(self, step: int) -> bool:
        """Whether there is an average after so many steps."""
        return step > self._start

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in theta as it is after so many steps; to be called after every step."""
        if not self.has_begun(step):
            return
        if not self._mean:
            self._mean = [torch.zeros_like(p) for p in self._theta]
        for mean, p in zip(self._mean, self._theta, strict=True):
            mean.lerp_(p, 1 / (step - self._start))

    def restore(self, mean: Sequence[Tensor]) -> None:
        """Sets the mean to copies of these tensors; none where averaging has not begun."""
        self._mean = [saved.to(p.device, copy=True) for saved, p in zip(mean, self._theta, strict=False)]

    def replace_theta(self) -> None:
        """Sets theta to the average for good, if averaging has begun."""
        if self._mean:
            _copy(self._mean, self._theta)

    @contextmanager
    def in_place_of_theta(self) -> Iterator[None]:
        """Within the block theta has the values of the average; afterwards its own again, to the bit."""
        if not self._mean:
            yield
            return
        own = [p.detach().clone() for p in self._theta]
        _copy(self._mean, self._theta)
        try:
            yield
        finally:
            _copy(own, self._theta)


@torch.no_grad()
def _copy(values: Sequence[Tensor], theta: Sequence[nn.Parameter]) -> None:
    for value, p in zip(values, theta, strict=True):
        p.copy_(value)
