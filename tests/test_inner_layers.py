"""Inner steps that change the upper layers only, against SGD on literal copies of just these weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from metacross.algorithm import InnerLoop, adapt, query_losses, tag
from metacross.encoder.model import TagModel
from metacross.errors import UserError
from metacross.tagging.factor_cache import FactorCache
from tests.helpers.tiny import pack, tiny_model
from tests.test_oracle import Sentences, adapted_names, episodes, literal_logits, literal_loss, relative

FAMILIES = ["bert", "distilbert"]
STEP = InnerLoop(1, 0.3, True, 0.0)


def chosen(family: str) -> TagModel:
    """Three layers: one frozen, one that only training changes, one that inner steps change too."""
    model = tiny_model(family)
    model.choose_inner_layers(1)
    return model


def literal_weights(model: TagModel, support: Sentences, inner: InnerLoop) -> dict[str, Tensor]:
    """Theta, and the inner layers after the steps."""
    weights = {name: p.detach().clone().requires_grad_() for name, p in adapted_names(model).items()}
    ids = {id(p) for p in model.inner_theta()}
    names = [name for name, p in adapted_names(model).items() if id(p) in ids]
    for _ in range(inner.steps):
        loss = literal_loss(model, weights, support, inner.max_weight)
        grads = torch.autograd.grad(loss, [weights[name] for name in names], create_graph=inner.second_order)
        size = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
        moved = {name: weights[name] - inner.lr * g / size for name, g in zip(names, grads, strict=True)}
        weights |= {name: w if inner.second_order else w.detach().requires_grad_() for name, w in moved.items()}
    return weights


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_meta_gradient_equal_copied_weights(family: str, steps: int) -> None:
    model, inner = chosen(family), InnerLoop(steps, 0.3, True, 2.0)
    support, query = episodes()
    with sdpa_kernel(SDPBackend.MATH):
        total = {name: torch.zeros_like(p) for name, p in adapted_names(model).items()}
        with torch.no_grad(), model.fast_layers.running(adapt(model, pack(model, support), inner)):
            logits_ETC = model.logits(pack(model, query))
        for e, ((piece_ids_T, _),) in enumerate(query):
            weights = literal_weights(model, support[e], inner)
            expected = literal_logits(model, weights, piece_ids_T).detach()
            assert relative(logits_ETC[e, : len(piece_ids_T)], expected) < 1e-9
            loss = literal_loss(model, weights, query[e], 2.0) / len(query)
            for name, grad in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
                total[name] += grad
        query_losses(model, pack(model, support), pack(model, query), inner, max_weight=2.0).mean().backward()
    scale = torch.cat([grad.flatten() for grad in total.values()]).norm()
    for name, p in adapted_names(model).items():
        assert p.grad is not None and (p.grad - total[name]).norm() < 1e-9 * scale, name


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_factors_are_of_these_layers(family: str, fused: bool) -> None:
    model = chosen(family)
    support, query = episodes()
    rows = pack(model, query)
    expected = tag(model, rows, adapt(model, pack(model, support), STEP))
    changed = tag(tiny_model(family), rows, adapt(tiny_model(family), pack(model, support), STEP))
    assert (expected - changed).abs().max() > 1e-4, "all layers give something else"
    sentences = [(pack(model, [[pair]]).hidden_BTH[0], pair[1]) for row in support for pair in row]
    if fused:
        model.fuse()
    cache = FactorCache(
        model, lambda wanted: [[sentences[i] for i in row] for row in wanted], budget_mb=1, batch_pieces=64
    )
    for _ in range(2):
        weights = cache.fast_weights([[0, 1], [2, 3], [4, 5]], inner_lr=STEP.lr, normalized=True)
        assert all(name.startswith(("layers.2.", "classifier")) for name in weights.linears)
        torch.testing.assert_close(tag(model, rows, weights), expected, rtol=0, atol=1e-11)


def test_more_layers_than_are_not_frozen_are_refused() -> None:
    model = tiny_model("bert")
    with pytest.raises(UserError, match=r"inner\.layers=3 but only 2"):
        model.choose_inner_layers(3)
    model.choose_inner_layers(1)
    model.choose_inner_layers("all")
    assert model.inner_theta() == model.theta()
