"""How certain a difference of two methods is: a paired bootstrap over seeds and sentences.

A resample draws as many seeds and, in every language, as many sentences as there are, with replacement. Both methods
get the same draws, and all languages the same seeds, since a seed's bundle tags all of them.

Shapes: R resamples, L languages, S seeds, N sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metacross.reproduction.results import Array, Counts, f1

RESAMPLES = 10_000
CHUNK = 500  # resamples that are in memory at a time


def differences(one: Sequence[Counts], other: Sequence[Counts], *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Resampled differences in F1 (R, L), in points: the mean over seeds of `one` minus that of `other`.

    Args:
        one: a method's counts in each language; all with the same seeds.
        other: another method's, with the same seeds and sentences.
        resamples: R.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    seeds = len(one[0].found_SN)
    weights_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    columns = []
    for a, b in zip(one, other, strict=True):
        count = len(a.gold_N)
        parts = []
        for start in range(0, resamples, CHUNK):
            size = min(CHUNK, resamples - start)
            drawn_RN = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float32)
            gold_R1 = (drawn_RN @ a.gold_N.astype(np.float32))[:, None]
            parts.append(_f1_RS(a, drawn_RN, gold_R1) - _f1_RS(b, drawn_RN, gold_R1))
        columns.append((np.concatenate(parts) * weights_RS).sum(1))
    return np.stack(columns, axis=1)


def interval(values_R: Array) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(values_R, [2.5, 97.5])
    return float(low), float(high)


def _f1_RS(counts: Counts, drawn_RN: NDArray[np.float32], gold_R1: NDArray[np.float32]) -> Array:
    """F1 of each seed on each resample. Sums of numbers of entities are exact in fp32 up to 16 million."""
    found_RS = drawn_RN @ counts.found_SN.T.astype(np.float32)
    correct_RS = drawn_RN @ counts.correct_SN.T.astype(np.float32)
    return f1(gold_R1, found_RS, correct_RS)
