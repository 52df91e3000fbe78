"""A GPU need not wait for its host within a meta-step or a tagging forward, and no tensor is left on another device.

Torch's device "meta" has shapes and no values: whatever reads a value raises there, and so does whatever mixes it with
another device.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from metacross.algorithm import InnerLoop, adapt, query_losses, tag
from metacross.encoder.model import Rows
from metacross.encoder.rows import pack
from tests.helpers.tiny import CONFIGS, SIZES, tiny_model

META = torch.device("meta")


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know the device."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type=None: False)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


def rows(*lengths: int) -> Rows:
    """Three rows of sentences of these lengths; the tags are on the CPU, as those of the source are."""

    def sentence(length: int) -> tuple[Tensor, Tensor]:
        return torch.empty(length, SIZES["hidden_size"], device=META), torch.ones(length, dtype=torch.long)

    return pack([[sentence(length) for length in lengths] for _ in range(3)])


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_meta_step(family: str, second_order: bool) -> None:
    model = tiny_model(family, dtype=torch.float32).to(META)
    inner = InnerLoop(steps=2, lr=0.05, normalized=True, max_weight=2.0, second_order=second_order)
    query_losses(model, rows(5, 7), rows(6), inner, max_weight=2.0).sum().backward()
    assert all(parameter.grad is not None for parameter in model.theta())


@pytest.mark.parametrize("fused", [False, True])
def test_answers(fused: bool) -> None:
    model = tiny_model("bert", dtype=torch.float32).to(META)
    if fused:
        model.fuse()
    inner = InnerLoop(steps=1, lr=0.05, normalized=True, max_weight=2.0)
    assert tag(model, rows(6), adapt(model, rows(5, 7), inner)).device == META
    assert tag(model, rows(6)).device == META
