"""The optimizer, its learning rate, and the buffer that holds the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class FlatGradient:
    """The gradient of all of theta in one buffer, of which every parameter's `.grad` is a part: nothing is copied.

    Args:
        theta: parameters, in fp32.
        extra: numbers behind the gradient, which are summed over the workers with it.

    Attributes:
        flat: the buffer.
    """

    def __init__(self, theta: Sequence[nn.Parameter], *, extra: int) -> None:
        self.flat = theta[0].new_zeros(sum(p.numel() for p in theta) + extra).requires_grad_(False)
        at = 0
        for p in theta:
            p.grad = self.flat[at : (at := at + p.numel())].view_as(p)

    def clear(self) -> None:
        """Sets it to zero, for backwards to add to."""
        self.flat.zero_()


def learning_rate(step: int, peak: float, steps: int, warmup: float) -> float:
    """Linear rise over the first `warmup` share of the steps, then linear fall to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (steps - step) / max(1, steps - rise)


def make_optimizer(theta: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW; biases and LayerNorm are not decayed."""
    groups = [
        {"params": [p for p in theta if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in theta if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)
