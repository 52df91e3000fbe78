"""Kept support factors against `algorithm.adapt`, which knows nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from cachetools import LRUCache
from torch import Tensor

from metacross.algorithm import InnerLoop, adapt, tag, tag_with_states
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.rows import pack
from metacross.tagging import factor_layout
from metacross.tagging.factor_cache import FactorCache
from tests.helpers.tiny import CONFIGS, random_sentence, tiny_model

LENGTHS = [7, 12, 9, 4, 14, 5, 23]
ROWS = [[0, 1], [4, 0], [2, 6], [5, 3]]
QUERIES = [8, 13, 6, 30]


class Sentences:
    """Support sentences without a tokenizer."""

    def __init__(self, model: TagModel) -> None:
        generator = torch.Generator().manual_seed(11)
        self._states = [trunk(model, random_sentence(n, generator)) for n in LENGTHS]
        self.queries = [trunk(model, random_sentence(n, generator)) for n in QUERIES]
        self.asked: list[int] = []

    def support(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[Tensor, Tensor]]]:
        self.asked += [i for row in rows for i in row]
        return [[self._states[i] for i in row] for row in rows]


def trunk(model: TagModel, sentence: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    piece_ids_T, tag_ids_T = sentence
    return model.trunk(piece_ids_T[None], torch.ones_like(piece_ids_T)[None])[0], tag_ids_T


def made(model: TagModel, **settings: Any) -> tuple[FactorCache, Sentences]:
    sentences = Sentences(model)
    cache = FactorCache(model, sentences.support, **{"budget_mb": 64, "batch_pieces": 40, **settings})
    return cache, sentences


def tagged(
    model: TagModel, cache: FactorCache, sentences: Sentences, rows: Sequence[Sequence[int]], **how: Any
) -> Tensor:
    fast_weights = cache.fast_weights(rows, **{"inner_lr": 0.3, "normalized": True, **how})
    return tag(model, queries(sentences, len(rows)), fast_weights)


def queries(sentences: Sentences, count: int) -> Rows:
    return pack([[sentences.queries[e]] for e in range(count)])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("rows", [ROWS, [[3], [1]], [[0, 1, 2], [6, 5, 4], [2, 1, 0]], [[2, 6, 0], [3], [1, 4]]])
def test_the_same_weights_as_adapting_finds(family: str, normalized: bool, rows: list[list[int]], fused: bool) -> None:
    model = tiny_model(family)
    cache, sentences = made(model)
    inner = InnerLoop(steps=1, lr=0.3, normalized=normalized, max_weight=0)
    assert cache.serves(inner)
    query = queries(sentences, len(rows))
    expected = tag(model, query, adapt(model, pack(sentences.support(rows)), inner))
    assert (expected - tag(model, query)).abs().max() > 1e-3, "a step that changes nothing shows nothing"
    if fused:
        model.fuse()
    for _ in range(2):  # computed, then kept
        found = tagged(model, cache, sentences, rows, normalized=normalized)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("fused", [False, True])
def test_groups_of_rows_get_what_each_gets_alone(fused: bool) -> None:
    model = tiny_model("bert")
    if fused:
        model.fuse()
    cache, sentences = made(model)
    groups = [[[0, 1], [4, 0]], [[2, 6]], [[5, 3, 1]]]
    queries_of = [pack([[query] for query in sentences.queries[:2]]), *(pack([[q]]) for q in sentences.queries[2:])]
    found = tag_with_states(model, queries_of, cache.fast_weights_of(groups, inner_lr=0.3, normalized=True))
    assert sorted(sentences.asked) == list(range(7)), "each once, though 0 and 1 are in two groups"
    for rows, query, (probabilities_ETC, states) in zip(groups, queries_of, found, strict=True):
        weights = made(model)[0].fast_weights(rows, inner_lr=0.3, normalized=True)
        torch.testing.assert_close(probabilities_ETC, tag(model, query, weights), rtol=0, atol=1e-11)
        assert [state.shape[:2] for state in states] == [query.tag_ids_BT.shape] * 2


@pytest.mark.parametrize("pairs", [1, 500])
def test_products_of_pairs_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    """A window's memory grows with its support, and not with the square of it."""
    model, rows = tiny_model("bert"), [[0, 1, 2, 6], [5, 3]]
    expected = tagged(model, *made(model), rows)
    seen: list[int] = []
    gram = factor_layout._gram

    def counted(stack_LNI: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
        found = gram(stack_LNI, part, dtype)
        seen.append(found[0].numel())
        return found

    monkeypatch.setattr(factor_layout, "PAIRS", pairs)
    monkeypatch.setattr(factor_layout, "_gram", counted)
    torch.testing.assert_close(tagged(model, *made(model), rows), expected, rtol=0, atol=1e-12)
    assert max(seen) <= max(pairs, sum(LENGTHS[i] for i in rows[0]))


def test_what_is_kept_needs_no_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert")
    cache, sentences = made(model)
    cold = tagged(model, cache, sentences, ROWS)
    assert sorted(sentences.asked) == list(range(len(LENGTHS))), "each once, though 0 is in two rows"
    assert (cache.figures.hits, cache.figures.misses) == (0, len(LENGTHS))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a backward")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    assert torch.equal(tagged(model, cache, sentences, ROWS), cold)
    assert (cache.figures.hits, cache.figures.misses) == (len(LENGTHS), len(LENGTHS))
    mixed = tagged(model, cache, sentences, [[0, 4], [1, 6]])  # pairs that were never together before
    alone = tagged(model, cache, sentences, [[0, 4]])
    torch.testing.assert_close(mixed[0, : QUERIES[0]], alone[0, : QUERIES[0]], rtol=0, atol=1e-11)


def test_a_row_does_not_see_its_mates() -> None:
    model = tiny_model("bert", dtype=torch.float32)
    cache, sentences = made(model)
    together = tagged(model, cache, sentences, ROWS)
    for e, row in enumerate(ROWS):
        fresh, own = made(model)
        alone = tag(model, pack([[own.queries[e]]]), fresh.fast_weights([row], inner_lr=0.3, normalized=True))
        torch.testing.assert_close(together[e, : QUERIES[e]], alone[0, : QUERIES[e]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("budget_mb", [0, 64])
def test_memory_is_counted_and_bounded(budget_mb: int) -> None:
    model = tiny_model("bert")
    cache, sentences = made(model, budget_mb=budget_mb)
    expected = tagged(model, *made(model), ROWS)
    for _ in range(3):
        torch.testing.assert_close(tagged(model, cache, sentences, ROWS), expected, rtol=0, atol=1e-11)
        assert cache.figures.bytes == sum(kept.nbytes for kept in cache._cache.values())
    assert (len(cache) == 0) == (budget_mb == 0)
    assert cache.figures.evicted == (3 * len(LENGTHS) if budget_mb == 0 else 0)


def test_factors_are_put_side_by_side_when_their_product_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once would be written to memory and read again."""
    model = tiny_model("bert")
    model.fuse()
    cache, sentences = made(model)
    tagged(model, cache, sentences, ROWS)
    asked: list[int] = []
    factors = factor_layout.SideBySide.factors

    def counted(rows: factor_layout.SideBySide, product: int) -> tuple[Tensor, Tensor]:
        asked.append(product)
        return factors(rows, product)

    monkeypatch.setattr(factor_layout.SideBySide, "factors", counted)
    weights = cache.fast_weights(ROWS, inner_lr=0.3, normalized=True)
    assert not asked
    tag(model, queries(sentences, len(ROWS)), weights)
    assert sorted(asked) == list(range(len(weights.joined)))


def test_the_least_recently_used_goes_first() -> None:
    model = tiny_model("bert")
    cache, sentences = made(model)
    tagged(model, cache, sentences, [[0, 1]])
    two = cache.figures.bytes
    cache._cache = LRUCache(int(1.6 * two), getsizeof=cache._cache.getsizeof)
    tagged(model, cache, sentences, [[0, 1]])
    tagged(model, cache, sentences, [[0, 2]])
    tagged(model, cache, sentences, [[6]])
    assert 1 not in cache._cache
    assert list(cache._cache)[-1] == 6
    assert 0 < cache.figures.bytes <= cache._cache.maxsize


def test_other_inner_loops_are_not_served() -> None:
    one = InnerLoop(steps=1, lr=0.1, normalized=True, max_weight=0)
    assert FactorCache.serves(one)
    assert not FactorCache.serves(InnerLoop(steps=2, lr=0.1, normalized=True, max_weight=0))
    assert not FactorCache.serves(InnerLoop(steps=1, lr=0.1, normalized=True, max_weight=0.5))
