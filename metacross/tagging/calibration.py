"""The temperature at which the score of an entity is the share of such entities that are right.

Temperature scaling (Guo et al., ICML 2017, "On Calibration of Modern Neural Networks") divides logits by one number. It
is fitted to labelled sentences: the found entities' scores are to predict which of them are right.

Shapes: K found entities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metacross.corpora.sentence import entities
from metacross.tagging.tag_sequences import Floats, TagChains

LOWEST, HIGHEST = 0.1, 10.0  # the temperatures that are tried
SEARCH_STEPS = 16  # leave the logarithm of the temperature known to 0.002
CERTAIN = 1e-6  # no score counts as nearer to 0 or 1, so that a single mistake does not cost infinitely much


class LabelledChains(NamedTuple):
    """Tagged sentences, and the IOB2 tags that each should have."""

    chains: TagChains
    gold: Sequence[Sequence[str]]


def fit_temperature(labelled: Sequence[LabelledChains]) -> float:
    """The temperature with the lowest negative log-likelihood of which found entities are right; 1 where none is found.

    As in Platt's scaling, targets are a little away from 0 and 1, (right + 1) / (right + 2) and 1 / (wrong + 2): a few
    entities that are all right are no evidence of certainty.
    """
    right_K = np.concatenate([_right(chains, gold) for chains, gold in labelled])
    if not len(right_K):
        return 1.0
    right, wrong = int(right_K.sum()), int((~right_K).sum())
    targets_K = np.where(right_K, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        scores_K = np.concatenate([_scores(chains, temperature) for chains, _ in labelled]).clip(CERTAIN, 1 - CERTAIN)
        return -float((targets_K * np.log(scores_K) + (1 - targets_K) * np.log(1 - scores_K)).mean())

    return math.exp(_minimum(loss, math.log(LOWEST), math.log(HIGHEST)))


def _right(chains: TagChains, gold: Sequence[Sequence[str]]) -> Floats:
    """Whether each found entity is one of its sentence's, with the same type and words."""
    found = zip(chains.segments(), (set(entities(tags)) for tags in gold), strict=True)
    return np.array([s[:3] in expected for segments, expected in found for s in segments if s.type != "O"], dtype=bool)


def _scores(chains: TagChains, temperature: float) -> Floats:
    segments = chains.segments(temperature=temperature)
    return np.array([s.probability for sentence in segments for s in sentence if s.type != "O"])


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum between `low` and `high` has it, by golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(SEARCH_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
