"""The released code's inner optimizer: a step by hand, and theta as it was before."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from metacross.algorithm import episode_losses
from metacross.bundle import load_bundle
from metacross.corpora.sentence import sentence_from_words
from metacross.reproduction.bert_adam import BertAdam
from metacross.reproduction.released_optimizer import ReleasedOptimizerTagger, take_steps
from metacross.tagging.tagger import AdaptiveTagger
from tests.helpers.tiny import pack, random_sentence, tiny_model

SENTENCE = sentence_from_words(["Anna", "Berg", "left", "Oslo", "."])


def test_two_steps_by_hand() -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = BertAdam([p], lr=0.1)
    p.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)  # length 5: clipped to 0.6, 0.8
    optimizer.step()
    expected = []
    for value, gradient in ((1.0, 0.6), (-2.0, 0.8)):
        update = 0.1 * gradient / (math.sqrt(0.001 * gradient**2) + 1e-6) + 0.01 * value
        expected.append(value - 0.1 * update)
    assert p.tolist() == pytest.approx(expected, rel=1e-5)
    optimizer.zero_grad()
    p.grad = torch.tensor([0.0, 0.5], dtype=torch.float64)  # shorter than 1: not clipped
    optimizer.step()
    after = []
    for value, old, gradient in ((expected[0], 0.6, 0.0), (expected[1], 0.8, 0.5)):
        first = 0.9 * 0.1 * old + 0.1 * gradient
        second = 0.999 * 0.001 * old**2 + 0.001 * gradient**2
        after.append(value - 0.1 * (first / (math.sqrt(second) + 1e-6) + 0.01 * value))
    assert p.tolist() == pytest.approx(after, rel=1e-5)


def test_steps_move_theta_by_the_gradient_of_the_support_loss() -> None:
    model = tiny_model("bert")
    generator = torch.Generator().manual_seed(1)
    support = pack(model, [[random_sentence(7, generator), random_sentence(5, generator)]])
    before = [p.detach().clone() for p in model.theta()]
    loss = episode_losses(model.logits(support), support, max_weight=0).sum()
    gradients = torch.autograd.grad(loss, model.theta())
    take_steps(model, support, steps=1, lr=1e-3)
    for p, old, gradient in zip(model.theta(), before, gradients, strict=True):
        clipped = gradient * min(1.0, 1 / (float(gradient.norm()) + 1e-6))
        update = 0.1 * clipped / ((0.001 * clipped**2).sqrt() + 1e-6) + 0.01 * old
        assert torch.allclose(p, old - 1e-3 * update, atol=1e-9)
        assert p.grad is None


def test_the_tagger_adapts_and_puts_theta_back(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    before = [p.detach().clone() for p in bundle.model.theta()]
    still, neighbours = ReleasedOptimizerTagger(bundle, neighbours=2, lr=0.0).probabilities(SENTENCE)
    moved, _ = ReleasedOptimizerTagger(bundle, neighbours=2, lr=1e-3).probabilities(SENTENCE)
    assert all(torch.equal(p, old) for p, old in zip(bundle.model.theta(), before, strict=True))
    (plain,) = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu").probabilities([SENTENCE], adapt=False)
    assert torch.allclose(still, plain, atol=1e-5)
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert len(neighbours) == 2
