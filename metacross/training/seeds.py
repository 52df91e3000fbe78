"""The seeds of runs that differ in nothing else."""

from __future__ import annotations

from metacross.config import TrainConfig

PAPER_SEEDS = (95, 495, 539, 667, 806)


def seeds_of(train: TrainConfig) -> list[int]:
    """The `train.seeds` seeds that a configuration is trained with.

    They are the paper's, as far as there are so many and `train.seed` is the first of them; else `train.seed` and those
    that follow it. After the greatest seed that is allowed comes 0.
    """
    if train.seed == PAPER_SEEDS[0] and train.seeds <= len(PAPER_SEEDS):
        return list(PAPER_SEEDS[: train.seeds])
    return [(train.seed + i) % 2**32 for i in range(train.seeds)]
