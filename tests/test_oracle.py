"""The fast weights against something slower and dumber: SGD on a literal copy of the weights, one episode at a time.

The oracle knows nothing of trunks, factors or rows: it runs the Hugging Face model itself, sentence by sentence, on
its own input ids, with a dictionary of weights that it updates by hand.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.models.modernbert import modeling_modernbert
from transformers.models.modernbert.modeling_modernbert import rotate_half

from metacross.algorithm import InnerLoop, adapt, query_losses
from metacross.encoder.model import TagModel
from metacross.encoder.windows import IGNORED
from tests.helpers.tiny import CONFIGS, pack, random_sentence, tiny_model

Sentences = list[tuple[Tensor, Tensor]]
SUPPORT_LENGTHS = [(7, 12), (9, 4), (14, 5)]
QUERY_LENGTHS = [8, 13, 6]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def episodes(dtype: torch.dtype = torch.float64) -> tuple[list[Sentences], list[Sentences]]:
    generator = torch.Generator().manual_seed(5)
    support = [[random_sentence(n, generator) for n in lengths] for lengths in SUPPORT_LENGTHS]
    query = [[random_sentence(n, generator)] for n in QUERY_LENGTHS]
    return support, query


@pytest.fixture(autouse=True)
def attention_that_differentiates_twice() -> Iterator[None]:
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.fixture(autouse=True)
def rotary_embedding_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers rotates ModernBERT's queries and keys in fp32 whatever the model's own precision is."""

    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin

    monkeypatch.setattr(modeling_modernbert, "apply_rotary_pos_emb", rotate)


def literal_logits(model: TagModel, weights: dict[str, Tensor], piece_ids_T: Tensor) -> Tensor:
    """The Hugging Face model's own forward of one sentence, (T, C)."""
    inputs = {"input_ids": piece_ids_T[None], "attention_mask": torch.ones_like(piece_ids_T)[None]}
    return functional_call(model.classifier, weights, kwargs=inputs).logits[0]


def literal_loss(model: TagModel, weights: dict[str, Tensor], sentences: Sentences, max_weight: float) -> Tensor:
    """Mean over all words of the sentences + max_weight * mean over sentences of the largest word loss."""
    losses = []
    for piece_ids_T, tag_ids_T in sentences:
        logits_TC = literal_logits(model, weights, piece_ids_T)
        losses.append(-logits_TC.log_softmax(1)[tag_ids_T != IGNORED].gather(1, tag_ids_T[tag_ids_T != IGNORED, None]))
    return torch.cat(losses).mean() + max_weight * torch.stack([part.max() for part in losses]).mean()


def literal_adapt(model: TagModel, theta: dict[str, Tensor], support: Sentences, inner: InnerLoop) -> dict[str, Tensor]:
    weights = dict(theta)
    for _ in range(inner.steps):
        loss = literal_loss(model, weights, support, inner.max_weight)
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=inner.second_order)
        size = torch.sqrt(sum((g**2).sum() for g in grads)) if inner.normalized else 1.0  # type: ignore[arg-type]
        weights = {name: w - inner.lr * g / size for (name, w), g in zip(weights.items(), grads, strict=True)}
        if not inner.second_order:
            weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
    return weights


def adapted_names(model: TagModel) -> dict[str, Tensor]:
    ids = {id(p) for p in model.theta()}
    return {name: p for name, p in model.classifier.named_parameters() if id(p) in ids}


def literal_meta_gradient(
    model: TagModel, support: list[Sentences], query: list[Sentences], inner: InnerLoop, max_weight: float
) -> dict[str, Tensor]:
    """Mean over episodes of the gradient of the query loss: at theta' (first order) or through it (second order)."""
    names = adapted_names(model)
    total = {name: torch.zeros_like(p) for name, p in names.items()}
    for s, q in zip(support, query, strict=True):
        theta = {name: p.detach().clone().requires_grad_() for name, p in names.items()}
        weights = literal_adapt(model, theta, s, inner)
        loss = literal_loss(model, weights, q, max_weight)
        by = theta if inner.second_order else weights
        for name, grad in zip(names, torch.autograd.grad(loss, list(by.values())), strict=True):
            total[name] += grad / len(support)
    return total


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


LOOPS = [
    pytest.param(InnerLoop(steps, lr, normalized, max_weight, second), id=f"{steps}-{kind}-{lam}-{order}")
    for steps in (1, 2, 3)
    for normalized, lr, kind in ((False, 0.05, "sgd"), (True, 0.3, "normalized"))
    for max_weight, lam in ((0.0, "mean"), (2.0, "max"))
    for second, order in ((False, "first"), (True, "second"))
]


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("inner", LOOPS)
def test_logits_and_meta_gradient_equal_copied_weights(family: str, inner: InnerLoop) -> None:
    model = tiny_model(family)
    support, query = episodes()
    before = {name: p.detach().clone() for name, p in model.classifier.named_parameters()}
    query_rows = pack(model, query, padding=3)

    fast_weights = adapt(model, pack(model, support, padding=2), inner)
    with torch.no_grad(), model.fast_layers.running(fast_weights):
        logits_ETC = model.logits(query_rows)
    theta = {name: p.detach().clone().requires_grad_() for name, p in adapted_names(model).items()}
    plain_ETC = model.logits(query_rows)
    for e, ((piece_ids_T, _),) in enumerate(query):
        expected = literal_logits(model, literal_adapt(model, theta, support[e], inner), piece_ids_T)
        assert relative(logits_ETC[e, : len(piece_ids_T)], expected) < 1e-9
        assert relative(plain_ETC[e, : len(piece_ids_T)], expected) > 1e-4  # the steps did something

    query_losses(model, pack(model, support, padding=2), query_rows, inner, max_weight=2.0).mean().backward()
    expected_grads = literal_meta_gradient(model, support, query, inner, 2.0)
    scale = torch.cat([g.flatten() for g in expected_grads.values()]).norm()
    for name, p in adapted_names(model).items():
        assert p.grad is not None
        assert float((p.grad - expected_grads[name]).norm() / scale) < 1e-9, name
    for name, p in model.classifier.named_parameters():
        assert torch.equal(p, before[name]), f"theta moved: {name}"


@pytest.mark.parametrize("family", CONFIGS)
def test_single_precision(family: str) -> None:
    inner = InnerLoop(2, 0.1, True, 2.0)
    model = tiny_model(family, dtype=torch.float32)
    support, query = episodes()
    theta = {name: p.detach().clone().requires_grad_() for name, p in adapted_names(model).items()}
    fast_weights = adapt(model, pack(model, support), inner)
    with torch.no_grad(), model.fast_layers.running(fast_weights):
        logits_ETC = model.logits(pack(model, query))
    for e, ((piece_ids_T, _),) in enumerate(query):
        expected = literal_logits(model, literal_adapt(model, theta, support[e], inner), piece_ids_T)
        assert relative(logits_ETC[e, : len(piece_ids_T)], expected) < 1e-5
    query_losses(model, pack(model, support), pack(model, query), inner, max_weight=2.0).mean().backward()
    expected_grads = literal_meta_gradient(model, support, query, inner, 2.0)
    found = torch.cat([p.grad.flatten() for p in adapted_names(model).values() if p.grad is not None])
    assert relative(found, torch.cat([g.flatten() for g in expected_grads.values()])) < 1e-5


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("second_order", [False, True])
def test_a_batch_of_episodes_equals_one_by_one(family: str, second_order: bool) -> None:
    inner = InnerLoop(2, 0.2, True, 2.0, second_order)
    model = tiny_model(family)
    support, query = episodes()
    together = query_losses(model, pack(model, support), pack(model, query), inner, max_weight=2.0)
    alone = [
        query_losses(model, pack(model, [s]), pack(model, [q]), inner, max_weight=2.0)
        for s, q in zip(support, query, strict=True)
    ]
    assert relative(together, torch.cat(alone)) < 1e-12


def test_no_inner_step_is_plain_fine_tuning() -> None:
    model = tiny_model("bert")
    support, query = episodes()
    inner = InnerLoop(0, 0.2, True, 2.0)
    query_losses(model, pack(model, support), pack(model, query), inner, max_weight=0.0).mean().backward()
    names = adapted_names(model)
    theta = {name: p.detach().clone().requires_grad_() for name, p in names.items()}
    loss = torch.stack([literal_loss(model, theta, q, 0.0) for q in query]).mean()
    for (name, p), grad in zip(names.items(), torch.autograd.grad(loss, list(theta.values())), strict=True):
        assert p.grad is not None
        assert torch.allclose(p.grad, grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("frozen_layers", [0, 2])
def test_frozen_layers(frozen_layers: int) -> None:
    inner = InnerLoop(1, 0.2, True, 0.0)
    model = tiny_model("bert", frozen_layers=frozen_layers)
    support, query = episodes()
    fast_weights = adapt(model, pack(model, support), inner)
    with torch.no_grad(), model.fast_layers.running(fast_weights):
        logits_ETC = model.logits(pack(model, query))
    theta = {name: p.detach().clone().requires_grad_() for name, p in adapted_names(model).items()}
    expected = literal_logits(model, literal_adapt(model, theta, support[0], inner), query[0][0][0])
    assert relative(logits_ETC[0, : QUERY_LENGTHS[0]], expected) < 1e-9
