"""Each window's support, and the weights adapted to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metacross.algorithm import InnerLoop
from metacross.config import InnerConfig
from metacross.fast_weights import FastWeights


def inner_loop(config: InnerConfig, *, max_weight: float, second_order: bool = False) -> InnerLoop:
    """The inner loop of a configuration."""
    return InnerLoop(
        steps=config.steps,
        lr=config.lr,
        normalized=config.step == "normalized",
        max_weight=max_weight,
        second_order=second_order,
    )


@dataclass(frozen=True)
class Adaptation:
    """Each window's support, and how it becomes weights.

    Attributes:
        rows: a row of support sentences a window, by number; one with an empty row is tagged by theta.
        pieces: word pieces of each row.
        fast_weights: finds the weights of some rows, none of them empty.
    """

    rows: Sequence[Sequence[int]]
    pieces: Sequence[int]
    fast_weights: Callable[[Sequence[Sequence[int]]], FastWeights]
