"""Layers without padding compute what transformers' modules with their hooks do; tests/test_oracle.py runs them too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from metacross.algorithm import InnerLoop, query_losses
from metacross.encoder.model import Rows, TagModel
from tests.helpers.tiny import pack, random_sentence, tiny_model

INNER = InnerLoop(steps=2, lr=0.3, normalized=True, max_weight=2.0)


def episodes(model: TagModel, *, padding: int = 0) -> tuple[Rows, Rows]:
    """Support and query rows, none of which is as long as another."""
    generator = torch.Generator().manual_seed(2)
    support = [[random_sentence(n, generator) for n in lengths] for lengths in [(4, 19), (6, 5), (3, 3)]]
    query = [[random_sentence(n, generator)] for n in (4, 17, 8)]
    return pack(model, support, padding=padding), pack(model, query, padding=padding)


def meta_gradient(model: TagModel, support: Rows | None, query: Rows, *, bf16: bool = False) -> Tensor:
    """As a learner takes it: the backward is within autocast too."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        query_losses(model, support, query, INNER, max_weight=2.0).mean().backward()
    return torch.cat([p.grad.flatten() for p in model.theta() if p.grad is not None])


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("inner_layers", ["all", 1])
def test_same_meta_gradient_as_by_modules(monkeypatch: pytest.MonkeyPatch, inner_layers: int | str) -> None:
    model = tiny_model("bert")
    model.choose_inner_layers(inner_layers)  # type: ignore[arg-type]
    support, query = episodes(model, padding=2)
    packed = meta_gradient(model, support, query), meta_gradient(model, None, query)
    monkeypatch.setattr(TagModel, "packed", lambda self: None)
    for found, rows in zip(packed, (support, None), strict=True):
        assert error(found, meta_gradient(model, rows, query)) < 1e-9


def test_bf16_is_nearer_to_fp32_than_by_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert", dtype=torch.float32)
    support, query = episodes(model)
    exact = meta_gradient(model, support, query)
    packed = error(meta_gradient(model, support, query, bf16=True), exact)
    monkeypatch.setattr(TagModel, "packed", lambda self: None)
    assert 1e-4 < packed < error(meta_gradient(model, support, query, bf16=True), exact)


def test_products_have_no_padding() -> None:
    """Rows that are padded further take no more arithmetic, but in attention."""
    model = tiny_model("bert")
    counts = []
    for padding in (0, 40):
        support, query = episodes(model, padding=padding)
        with FlopCounterMode(display=False) as counter:
            meta_gradient(model, support, query)
        counts.append({str(k): n for k, n in counter.get_flop_counts()["Global"].items() if "mm" in str(k)})
    assert counts[0] == counts[1] and len(counts[0]) == 2


def test_a_model_on_another_device_or_of_another_kind_runs_by_modules() -> None:
    assert tiny_model("modernbert").packed() is None
    assert tiny_model("bert", dtype=torch.float32).to("meta").packed() is None
    assert tiny_model("electra").packed() is not None
