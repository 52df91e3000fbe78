"""Attention as the encoders' layers call it: torch's fused kernel, but for bf16 on a CPU.

There the fused kernel is slower in bf16 than in fp32, most of all its backward, while plain bf16 matrix products are
fast; at the lengths of sentences the scores are small enough to be written out (`python -m benchmarks.attention`).

Shapes: B rows, A heads, T word pieces, D a head's size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "metacross"  # as an encoder's `attn_implementation`


def attention(
    module: nn.Module,
    query_BATD: Tensor,
    key_BATD: Tensor,
    value_BATD: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Mixes values by softmaxed scores, (B, T, A, D), under Hugging Face's attention interface.

    Args:
        module: the layer that asks.
        query_BATD: queries.
        key_BATD: keys.
        value_BATD: values.
        attention_mask: true where a piece may look, broadcast to (B, A, T, T); no row of it may be all false.
        kwargs: the interface's others, such as `scaling`.
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
    """The same as two products and a softmax in fp32, (B, T, A, D)."""
    scores_BATT = (query_BATD * scaling) @ key_BATD.transpose(2, 3)
    weights_BATT = scores_BATT.float().masked_fill(~mask_BATT, -torch.inf).softmax(3)
    return (weights_BATT.to(value_BATD.dtype) @ value_BATD).transpose(1, 2).contiguous()


AttentionInterface.register(NAME, attention)
# Without this a whole model would run without any mask, and look at padding.
AttentionMaskInterface.register(NAME, sdpa_mask)
