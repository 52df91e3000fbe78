"""The optimizer, and the buffer that holds the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class FlatGradient:
    """The gradient of all of theta in one buffer, so that workers sum it in one call.

    Every parameter's `.grad` is a view of the buffer: backward writes into it, and nothing is copied.

    Args:
        theta: parameters, in fp32.
        extra: how many numbers follow the gradient, to be summed over the workers with it.

    Attributes:
        flat: the buffer: theta's gradient in order, then the extra numbers.
    """

    def __init__(self, theta: Sequence[nn.Parameter], *, extra: int) -> None:
        self.flat = theta[0].new_zeros(sum(p.numel() for p in theta) + extra).requires_grad_(False)
        offset = 0
        for p in theta:
            p.grad = self.flat[offset : (offset := offset + p.numel())].view_as(p)

    def clear(self) -> None:
        """Sets the buffer to zero; later backward calls add to it."""
        self.flat.zero_()


def make_optimizer(theta: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW; biases and LayerNorm, which have one dimension, are not decayed."""
    groups = [
        {"params": [p for p in theta if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in theta if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)
