"""The inner optimizer of the code that the paper's authors released, as described; no line of it is copied."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class BertAdam:
    """Adam as the first public BERT code for PyTorch had it: no bias correction, every tensor clipped by itself.

    Args:
        parameters: to be moved in place; those without a gradient are left alone.
        lr: constant here; its schedule takes no time.
        weight_decay: added to the update itself.
        max_grad_norm: each tensor's gradient is scaled down to this length.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.betas, self.eps = lr, betas, eps
        self.weight_decay, self.max_grad_norm = weight_decay, max_grad_norm
        self.moments: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter by its gradient."""
        for p in self.parameters:
            if p.grad is None:
                continue
            if p not in self.moments:
                self.moments[p] = torch.zeros_like(p), torch.zeros_like(p)
            first, second = self.moments[p]
            nn.utils.clip_grad_norm_(p, self.max_grad_norm)
            first.mul_(self.betas[0]).add_(p.grad, alpha=1 - self.betas[0])
            second.mul_(self.betas[1]).addcmul_(p.grad, p.grad, value=1 - self.betas[1])
            update = first / (second.sqrt() + self.eps)
            update += self.weight_decay * p
            p.add_(update, alpha=-self.lr)

    def zero_grad(self) -> None:
        """Sets all gradients to zero."""
        for p in self.parameters:
            if p.grad is not None:
                p.grad.zero_()
