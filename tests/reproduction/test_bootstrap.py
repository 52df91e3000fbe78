"""The bootstrap against a literal one, and against what is known without it."""

from __future__ import annotations

import numpy as np

from metacross.reproduction.bootstrap import differences, interval
from metacross.reproduction.results import Counts


def counts(
    rng: np.random.Generator, seeds: int, sentences: int, skill: float, gold: np.ndarray | None = None
) -> Counts:  # type: ignore[type-arg]
    gold = rng.integers(0, 4, sentences).astype(float) if gold is None else gold
    correct = rng.binomial(gold.astype(int), skill, size=(seeds, sentences)).astype(float)
    found = correct + rng.integers(0, 2, (seeds, sentences))
    return Counts(gold, found, correct)


def literal_f1(gold: float, found: float, correct: float) -> float:
    return 200 * correct / (gold + found) if gold + found else 0.0


def literal(one: list[Counts], other: list[Counts], resamples: int, seed: int) -> list[list[float]]:
    """Draws by the same generator, everything else counted one by one."""
    rng = np.random.default_rng(seed)
    seeds = len(one[0].found_SN)
    times_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    columns = []
    for a, b in zip(one, other, strict=True):
        n = len(a.gold_N)
        column = []
        for times_S, drawn_N in zip(times_RS, rng.multinomial(n, np.full(n, 1 / n), size=resamples), strict=True):
            values = []
            for s, times in enumerate(times_S):
                part = []
                for method in (a, b):
                    gold = found = correct = 0.0
                    for i, weight in enumerate(drawn_N):
                        gold += weight * method.gold_N[i]
                        found += weight * method.found_SN[s, i]
                        correct += weight * method.correct_SN[s, i]
                    part.append(literal_f1(gold, found, correct))
                values += [part[0] - part[1]] * int(times)
            column.append(sum(values) / len(values))
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def test_it_is_the_literal_bootstrap() -> None:
    rng = np.random.default_rng(4)
    one = [counts(rng, 3, 12, 0.7), counts(rng, 3, 7, 0.5)]
    other = [counts(rng, 3, 12, 0.6, one[0].gold_N), counts(rng, 3, 7, 0.6, one[1].gold_N)]
    found = differences(one, other, resamples=40, seed=5)
    assert found.shape == (40, 2)
    assert np.allclose(found, literal(one, other, 40, 5), atol=1e-4)


def test_chunks_change_no_draw() -> None:
    rng = np.random.default_rng(4)
    one = [counts(rng, 2, 9, 0.7)]
    other = [counts(rng, 2, 9, 0.6, one[0].gold_N)]
    assert np.allclose(differences(one, other, resamples=1100, seed=5), literal(one, other, 1100, 5), atol=1e-4)


def test_intervals_hold_the_difference_and_shrink_with_the_data() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for sentences in (50, 800):
        one = [counts(rng, 5, sentences, 0.9)]
        other = [counts(rng, 5, sentences, 0.6, one[0].gold_N)]
        low, high = interval(differences(one, other, resamples=2000)[:, 0])
        real = float((one[0].f1_S - other[0].f1_S).mean())
        assert 0 < low < real < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    same = differences(one, one, resamples=100)
    assert np.all(same == 0)
