"""Packing and batching change no result."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch

from metacross.encoder.rows import PIECE_STEP, budgeted, pack, trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.trunk_cache import TrunkCache
from metacross.encoder.windows import IGNORED, Window
from tests.helpers.tiny import CONFIGS, tiny_model


def windows(lengths: Sequence[int], seed: int = 0) -> list[Window]:
    generator = torch.Generator().manual_seed(seed)
    rows = [tuple(torch.randint(5, 60, (n,), generator=generator).tolist()) for n in lengths]
    return [Window(i, row, tuple(range(1, len(row) - 1)), 0, (0, len(row) - 2)) for i, row in enumerate(rows)]


@pytest.mark.parametrize("family", CONFIGS)
def test_logits_of_packed_sentences_are_those_of_each_alone(family: str) -> None:
    model = tiny_model(family)
    some = windows([5, 11, 8])
    states, _ = trunk_states(model, some, batch_pieces=1000)
    tags = [torch.full((len(w),), IGNORED) for w in some]
    packed = pack([list(zip(states, tags, strict=True))])
    with torch.no_grad():
        together_TC = model.logits(packed)[0]
        at = 0
        for window, state in zip(some, states, strict=True):
            piece_ids = torch.tensor([window.piece_ids])
            alone = model.classifier(input_ids=piece_ids, attention_mask=torch.ones_like(piece_ids)).logits[0]
            assert torch.allclose(together_TC[at : at + len(state)], alone, rtol=1e-5, atol=1e-6)
            at += len(state)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("family", CONFIGS)
def test_sentence_vectors_are_those_of_the_untouched_encoder(family: str, pooling: str) -> None:
    model = tiny_model(family)
    encoder = SentenceEncoder(model, layer=3, pooling=pooling)
    some = windows([5, 11, 8])
    expected = []
    for window in some:
        piece_ids = torch.tensor([window.piece_ids])
        hidden_TH = model.encoder(input_ids=piece_ids, attention_mask=torch.ones_like(piece_ids)).last_hidden_state[0]
        pooled = hidden_TH.float().mean(0) if pooling == "mean" else hidden_TH[0].float()
        expected.append(pooled / pooled.norm())
    with torch.no_grad():
        for p in model.theta():
            p.add_(1.0)  # theta moves on; the vectors must not
    for batch_pieces in (8, 1000):
        _, vectors_BH = trunk_states(model, some, batch_pieces=batch_pieces, sentence_encoder=encoder)
        assert vectors_BH is not None
        assert torch.allclose(vectors_BH, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_retrieval_layer_inside_the_trunk_costs_nothing() -> None:
    model = tiny_model("bert", frozen_layers=2)
    assert not list(SentenceEncoder(model, layer=2, pooling="mean").parameters())


def test_batches_stay_within_their_budget() -> None:
    lengths = [3, 9, 40, 12, 12, 200, 8]
    order = sorted(range(7), key=lengths.__getitem__)
    runs = list(budgeted(lengths, order, 64))
    assert [i for run in runs for i in run] == order
    for run in runs:
        padded = max(-(-lengths[i] // PIECE_STEP) * PIECE_STEP for i in run) * len(run)
        assert padded <= 64 or len(run) == 1


@pytest.mark.parametrize("slack", [0, 16, 40, 1000])
def test_runs_have_no_more_padding_than_they_may(slack: int) -> None:
    lengths = [3, 9, 40, 12, 12, 200, 8, 41]
    order = sorted(range(8), key=lengths.__getitem__)
    runs = list(budgeted(lengths, order, 10_000, slack))
    assert [i for run in runs for i in run] == order
    padded = [[-(-lengths[i] // PIECE_STEP) * PIECE_STEP for i in run] for run in runs]
    assert all(max(run) * len(run) - sum(run) <= slack for run in padded)
    for run, after in itertools.pairwise(padded):  # the next one did not fit
        joined = [*run, after[0]]
        assert max(joined) * len(joined) - sum(joined) > slack


def test_pieces_besides_the_rows_count_for_the_budget_and_not_as_padding() -> None:
    lengths, besides = [8, 8, 8, 8], [100, 20, 20, 100]
    assert list(budgeted(lengths, range(4), 1000, 0, besides)) == [[0, 1, 2, 3]]
    assert list(budgeted(lengths, range(4), 230, 0, besides)) == [[0, 1], [2, 3]], "padded to 8 and 104"


@pytest.mark.parametrize("budget_mb", [0, 100])
def test_trunk_states_are_the_same_kept_or_computed_again(budget_mb: int) -> None:
    model = tiny_model("bert")
    some = windows([5, 11, 8, 8, 20])
    expected, vectors = trunk_states(
        model, some, batch_pieces=1000, sentence_encoder=SentenceEncoder(model, layer=3, pooling="mean")
    )
    cache = TrunkCache(model, some, budget_mb=budget_mb, batch_pieces=30)
    assert vectors is not None
    assert torch.allclose(cache.vectors(SentenceEncoder(model, layer=3, pooling="mean")), vectors, atol=1e-6)
    for indices in ([4, 0], [1, 1, 2], [3, 4, 0]):
        found = cache.states(indices)
        assert found.keys() == set(indices)
        for i in indices:
            assert torch.allclose(found[i], expected[i], atol=1e-12)
