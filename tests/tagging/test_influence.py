"""What support changed in an answer, against small steps that are really taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metacross import AdaptiveTagger
from metacross.algorithm import InnerLoop, adapt
from metacross.encoder.model import TagModel
from metacross.encoder.rows import pack
from metacross.encoder.windows import Window
from metacross.fast_weights import Factors, FastWeights
from metacross.tagging.influence import MOST_ENTITIES, entity_influences
from tests.helpers.tiny import CONFIGS, random_sentence, tiny_model

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
STEP = 1e-4  # of the difference quotients
WINDOW = Window(0, tuple(range(8)), tuple(range(1, 7)), 0, (0, 6))
TARGETS = [(1, 2, [3]), (3, 5, [1, 2])]  # words (first, end) and their tag ids
ANSWERS = [torch.eye(5)[[0, 3, 0, 1, 2, 0]], torch.eye(5)[[0, 0, 0, 0, 3, 0]]]


def states(model: TagModel, length: int, seed: int) -> tuple[Tensor, Tensor]:
    piece_ids_T, tag_ids_T = random_sentence(length, torch.Generator().manual_seed(seed))
    return model.trunk(piece_ids_T[None], torch.ones_like(piece_ids_T)[None])[0], tag_ids_T


def log_probability(
    model: TagModel, states_TH: Tensor, weights: FastWeights, target: tuple[int, int, list[int]]
) -> float:
    first, end, tag_ids = target
    rows = pack([[(states_TH, torch.empty(len(states_TH), dtype=torch.long))]])
    with torch.no_grad(), model.fast_layers.running(weights):
        log_TC = model.logits(rows)[0].log_softmax(1)
    return float(log_TC[list(WINDOW.first_pieces[first:end]), tag_ids].sum())


def part(weights: FastWeights, piece: int, scale: float) -> FastWeights:
    """What one support piece adds to the linear layers, for episode 1 alone."""

    def of_piece(factors: Factors) -> Factors:
        mask_N = torch.zeros(factors.inputs_ENI.shape[1], dtype=torch.float64)
        mask_N[piece] = scale
        step_1N = factors.step_EN[1:2] * mask_N
        return replace(factors, inputs_ENI=factors.inputs_ENI[1:2], grads_ENO=factors.grads_ENO[1:2], step_EN=step_1N)

    return FastWeights({name: tuple(map(of_piece, steps)) for name, steps in weights.linears.items()}, {})


@pytest.mark.parametrize("family", CONFIGS)
def test_a_piece_changes_what_a_small_step_on_it_changes(family: str) -> None:
    model = tiny_model(family)
    support = pack([[states(model, 6, 1)], [states(model, 7, 2), states(model, 5, 3)]])
    weights = adapt(model, support, InnerLoop(steps=2, lr=0.1, normalized=True, max_weight=0.5))
    states_TH = states(model, len(WINDOW), 4)[0]
    found = entity_influences(model, WINDOW, states_TH, ANSWERS, tags=TAGS, fast_weights=weights, episode=1)
    assert [one.words for one in found] == [(1, 2), (3, 5)], "the second answer's entity overlaps one of them"
    for one, target in zip(found, TARGETS, strict=True):
        for piece in (1, 3, 9):
            up, down = (log_probability(model, states_TH, part(weights, piece, s), target) for s in (STEP, -STEP))
            expected = (up - down) / (2 * STEP)
            # ModernBERT turns positions into angles in fp32.
            assert float(one.change_N[piece]) == pytest.approx(expected, rel=1e-3, abs=3e-5)
        assert float(one.change_N[12:].abs().sum()) == 0, "padding changes nothing"


def test_the_number_of_entities_is_bounded() -> None:
    model = tiny_model("bert")
    window = Window(0, tuple(range(22)), tuple(range(1, 21)), 0, (0, 20))
    weights = adapt(model, pack([[states(model, 6, 1)]]), InnerLoop(steps=1, lr=0.1, normalized=True, max_weight=0))
    every = torch.eye(5)[[1] * 20]
    found = entity_influences(
        model, window, states(model, 22, 2)[0], [every], tags=TAGS, fast_weights=weights, episode=0
    )
    assert [one.words[0] for one in found] == list(range(MOST_ENTITIES))


def test_answers_tell_what_support_changed(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    (answer,) = tagger.tag_texts(["So: Anna Berg left Oslo. Jan Smit lives in Lima."], explain=True)
    support = answer.support()
    assert support
    for one in support:
        inside = [e for e in answer.entities() if one.start <= e.start and e.end <= one.end]
        assert {(e.start, e.end) for e in inside} <= {(i.start, i.end) for i in one.influences}
        for influence in one.influences:
            strengths = [abs(change) for _, _, change in influence.words]
            assert strengths == sorted(strengths, reverse=True) != []
            assert all(one.text[start:end].strip() for start, end, _ in influence.words)
    assert all(not one.influences for text in tagger.tag_texts(["Anna left."]) for one in text.support())
