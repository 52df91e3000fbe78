"""Fused layers give what transformers' modules give; a model whose weights may change does not use them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metacross.encoder.fused import lays_out
from metacross.encoder.model import Rows, TagModel
from metacross.fast_weights import FastWeights, PieceGradients, piece_gradients
from metacross.training.optimizer import make_optimizer
from tests.helpers.tiny import CONFIGS, pack, random_sentence, tiny_model

FUSED = [family for family in CONFIGS if family != "modernbert"]


def some_rows(model: TagModel) -> Rows:
    """Rows with several sentences, and with padding."""
    generator = torch.Generator().manual_seed(3)
    groups = [[random_sentence(n, generator) for n in lengths] for lengths in ((5, 7), (9,))]
    return pack(model, groups, padding=2)


def by_modules(model: TagModel, rows: Rows) -> list[Tensor]:
    """The states that transformers' modules give: those run wherever there may be a gradient."""
    with torch.enable_grad():
        return [state.detach() for state in model.states(rows)]


@pytest.mark.parametrize("family", FUSED)
def test_states_are_those_of_the_modules(family: str) -> None:
    model = tiny_model(family)
    model.fuse()
    rows = some_rows(model)
    with torch.no_grad():
        fused = model.states(rows)
    assert not any(state.requires_grad for state in fused)
    torch.testing.assert_close(fused, by_modules(model, rows), rtol=1e-12, atol=1e-12)


def test_a_group_does_not_see_other_groups() -> None:
    model = tiny_model("bert")
    model.fuse()
    generator = torch.Generator().manual_seed(4)
    groups = [pack(model, [[random_sentence(n, generator)] for n in lengths]) for lengths in ((5, 7), (30,), (9, 3, 9))]
    with torch.no_grad():
        together = model.states_of(groups, [FastWeights()] * 3)
        for rows, found in zip(groups, together, strict=True):
            torch.testing.assert_close(found, model.states(rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FUSED)
def test_what_a_fused_forward_records_is_what_the_modules_record(family: str) -> None:
    model = tiny_model(family)
    rows = some_rows(model)

    def gradients() -> PieceGradients:
        with torch.enable_grad(), model.fast_layers.running(FastWeights(), record=True) as recording:
            (logits_BTC,) = model.recorded_logits([rows])
            return piece_gradients(model.fast_layers, recording, logits_BTC.square().sum())

    by_modules = gradients()
    model.fuse()
    fused = gradients()
    assert len(by_modules.products) == 4 * 2 + 1 and by_modules.products.keys() == fused.products.keys()
    for names, pair in by_modules.products.items():
        torch.testing.assert_close(fused.products[names], pair, rtol=1e-10, atol=1e-12)
    for name, sums in by_modules.norms.items():
        torch.testing.assert_close(fused.norms[name], sums, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", FUSED)
def test_bf16_is_as_near_to_exact_as_the_modules_in_bf16(family: str) -> None:
    model = tiny_model(family, dtype=torch.float32)
    model.fuse()
    rows = some_rows(model)
    exact = by_modules(model, rows)[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        modules = by_modules(model, rows)[-1]
        with torch.no_grad():
            fused = model.states(rows)[-1]
    assert fused.dtype == torch.float32
    assert 0 < (fused - exact).norm() < 1.5 * (modules - exact).norm()


def test_in_training_changed_weights_count_at_once() -> None:
    """Torch's fused optimizers do not say that they have changed a parameter."""
    model = tiny_model("bert", dtype=torch.float32)
    rows = some_rows(model)
    with torch.no_grad():
        before = model.states(rows)[-1]
    optimizer = make_optimizer(model.theta(), 0.0)
    torch.autograd.backward(model.states(rows)[-1].square().sum())
    optimizer.param_groups[0]["lr"] = 0.1
    versions = [p._version for p in model.theta()]
    optimizer.step()
    assert versions == [p._version for p in model.theta()], "nothing to be told by"
    with torch.no_grad():
        after = model.states(rows)[-1]
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, by_modules(model, rows)[-1])


@pytest.mark.skipif(not lays_out(), reason="this CPU does not lay bf16 weights out")
def test_laid_out_weights_give_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*size, generator=generator).bfloat16() for size in ((3, 17, 96), (64, 96), (64,)))
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight)
    found = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
    assert torch.equal(found, torch.nn.functional.linear(x, weight, bias))
