"""The filter against a slow, literal version, and what it is there for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metacross.adoption.agreement import agreement, neighbour_shares, uncertain_words, unconfident_words


def literal_agreement(shares: list[float], types: list[int]) -> list[float]:
    """The same word by word, as CoLaDa describes it."""
    found = []
    for share, kind in zip(shares, types, strict=True):
        same = [s for s, k in zip(shares, types, strict=True) if k == kind]
        greatest = max(same)
        scaled = [s / greatest if greatest else 0.0 for s in same]
        own = share / greatest if greatest else 0.0
        found.append(1 / (1 + math.exp(-6 * (own - sum(scaled) / len(scaled)))))
    return found


def literal_uncertain(
    types: list[int],
    spans: list[int],
    confidence: list[float],
    shares: list[float],
    capitals: list[bool],
    quantile: float,
) -> list[bool]:
    trust = [c * a for c, a in zip(confidence, literal_agreement(shares, types), strict=True)]
    for span in set(spans) - {-1}:
        members = [w for w, s in enumerate(spans) if s == span]
        mean = sum(trust[w] for w in members) / len(members)
        for w in members:
            trust[w] = mean
    found = []
    for w, kind in enumerate(types):
        things: dict[object, float] = {
            (spans[v] if kind else ("word", v)): trust[v] for v, k in enumerate(types) if k == kind
        }
        ranked = sorted(things.values())
        bound = ranked[math.floor(quantile * (len(ranked) - 1) + 1e-9)]
        found.append(trust[w] < bound - 1e-12 or (kind == 0 and capitals[w]))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_it_equals_a_literal_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spans, types, number = [], [], 0
    while len(types) < 60:
        length = int(rng.integers(1, 4))
        kind = int(rng.integers(0, 4))
        types += [kind] * length
        spans += [number if kind else -1] * length
        number += kind > 0
    confidence, shares = rng.random(len(types)).round(2), rng.random(len(types)).round(2)
    capitals = rng.random(len(types)) < 0.2
    assert agreement(shares, np.array(types)).tolist() == pytest.approx(literal_agreement(shares.tolist(), types))
    for quantile in (0.0, 0.3, 1.0):
        found = uncertain_words(
            types_W=np.array(types),
            spans_W=np.array(spans),
            confidence_W=confidence,
            shares_W=shares,
            capitals_W=capitals,
            quantile=quantile,
        )
        expected = literal_uncertain(types, spans, confidence.tolist(), shares.tolist(), capitals.tolist(), quantile)
        assert found.tolist() == expected


def test_a_word_is_trusted_as_far_as_its_neighbours_have_its_type() -> None:
    neighbours = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [2, 2, 1, 0]])
    assert neighbour_shares(np.array([1, 0, 1]), neighbours).tolist() == [0.75, 1.0, 0.25]
    assert neighbour_shares(np.array([1, 0]), np.empty((2, 0), dtype=np.int64)).tolist() == [1.0, 1.0]


def test_no_class_is_removed_for_being_harder_than_another() -> None:
    """All words of class 2 are less sure than any of class 1; of both, the least sure quarter goes."""
    types = np.repeat([1, 2], 8)
    confidence = np.concatenate([np.linspace(0.8, 0.9, 8), np.linspace(0.1, 0.2, 8)])
    found = uncertain_words(
        types_W=types,
        spans_W=np.arange(16),
        confidence_W=confidence,
        shares_W=np.ones(16),
        capitals_W=np.zeros(16, dtype=bool),
        quantile=0.3,
    )
    assert found.reshape(2, 8).sum(1).tolist() == [2, 2]


def test_one_word_is_enough() -> None:
    for kind in (0, 1):
        found = uncertain_words(
            types_W=np.array([kind]),
            spans_W=np.array([kind - 1]),
            confidence_W=np.array([0.5]),
            shares_W=np.array([0.0]),
            capitals_W=np.array([False]),
            quantile=0.3,
        )
        assert found.tolist() == [False]


@pytest.mark.parametrize("seed", range(4))
def test_confidence_alone_equals_a_literal_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spans, number = [], 0
    while len(spans) < 60:
        inside = bool(rng.integers(0, 2))
        spans += [number if inside else -1] * int(rng.integers(1, 4))
        number += inside
    confidence, capitals = rng.random(len(spans)).round(2), rng.random(len(spans)) < 0.2
    found = unconfident_words(spans_W=np.array(spans), confidence_W=confidence, capitals_W=capitals, bound=0.5)
    for w, span in enumerate(spans):
        members = [confidence[v] for v, s in enumerate(spans) if s == span]
        trust = confidence[w] if span < 0 else sum(members) / len(members)
        assert found[w] == (trust < 0.5 or (span < 0 and capitals[w]))
