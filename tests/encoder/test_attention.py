"""Attention written out is attention."""

from __future__ import annotations

import torch
from torch.nn import functional

from metacross.encoder.attention import NAME, attention, written_out_attention
from tests.helpers.tiny import tiny_model


def inputs(dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(3, 11, 4, 8, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2).requires_grad_()
        for _ in range(3)
    ]
    segments = torch.randint(0, 3, (3, 11), generator=generator)
    return tensors, (segments[:, :, None] == segments[:, None, :])[:, None]


def fused(tensors: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(*tensors, attn_mask=mask).transpose(1, 2)


def test_written_out_equals_the_fused_kernel_forward_and_backward() -> None:
    tensors, mask = inputs(torch.float64)
    ours = written_out_attention(*tensors, mask, 8**-0.5)
    theirs = fused(tensors, mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)  # the softmax is taken in fp32
    weights = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), tensors),
        torch.autograd.grad((theirs * weights).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_bf16_on_a_cpu_is_as_near_to_exact_as_the_fused_kernel_in_bf16() -> None:
    exact = fused(*inputs(torch.float64)).detach()
    tensors, mask = inputs(torch.bfloat16)
    ours, _ = attention(torch.nn.Module(), *tensors, mask, scaling=8**-0.5)
    assert ours.dtype == torch.bfloat16
    error, errors_of_fused = (ours.double() - exact).norm(), (fused(tensors, mask).double() - exact).norm()
    assert 0 < error < 2 * errors_of_fused


def test_a_whole_model_does_not_look_at_padding() -> None:
    model = tiny_model("bert").classifier
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    model.set_attn_implementation(NAME)
    padded = model(input_ids=ids, attention_mask=mask).logits[1, :5]
    torch.testing.assert_close(padded, model(input_ids=ids[1:, :5]).logits[0])


def test_fp32_takes_the_fused_kernel() -> None:
    tensors, mask = inputs(torch.float32)
    module = torch.nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    ours, _ = attention(module, *tensors, mask, scaling=8**-0.5)
    assert torch.equal(ours, fused(tensors, mask))
