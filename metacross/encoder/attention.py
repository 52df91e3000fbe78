"""Attention for the encoders' layers: torch's fused kernel, except for bf16 on a CPU.

On a CPU the fused kernel is slower in bf16 than in fp32, most of all its backward, while plain bf16 matrix products are
fast. At the lengths of sentences the matrix of scores is small, so it is computed explicitly there
(`python -m benchmarks.attention` compares the two).

Shapes: B rows, A heads, T word pieces, D size of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "metacross"  # the value of an encoder's `attn_implementation` that selects this function


def attention(
    module: nn.Module,
    query_BATD: Tensor,
    key_BATD: Tensor,
    value_BATD: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention under Hugging Face's interface: values weighted by softmaxed scores, (B, T, A, D), and None.

    Args:
        module: the layer that calls.
        query_BATD: queries.
        key_BATD: keys.
        value_BATD: values.
        attention_mask: true where a piece may attend, broadcast to (B, A, T, T); no row may be all false.
        kwargs: further arguments of the interface, such as `scaling`.
    """
    written_out = query_BATD.device.type == "cpu" and query_BATD.dtype == torch.bfloat16
    if not written_out or attention_mask is None or attention_mask.dtype != torch.bool:
        mixed, _ = sdpa_attention_forward(module, query_BATD, key_BATD, value_BATD, attention_mask, **kwargs)
        return mixed, None
    scaling = kwargs.get("scaling") or query_BATD.shape[3] ** -0.5
    return written_out_attention(query_BATD, key_BATD, value_BATD, attention_mask, scaling), None


def written_out_attention(
    query_BATD: Tensor, key_BATD: Tensor, value_BATD: Tensor, mask_BATT: Tensor, scaling: float
) -> Tensor:
    """Attention as two matrix products with a softmax in fp32 between them, (B, T, A, D)."""
    scores_BATT = (query_BATD * scaling) @ key_BATD.transpose(2, 3)
    weights_BATT = scores_BATT.float().masked_fill(~mask_BATT, -torch.inf).softmax(3)
    return (weights_BATT.to(value_BATD.dtype) @ value_BATD).transpose(1, 2).contiguous()


AttentionInterface.register(NAME, attention)
# Without this a complete model would run without any mask, and attend to padding.
AttentionMaskInterface.register(NAME, sdpa_mask)
