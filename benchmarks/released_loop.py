"""The loop of the code that the paper's authors released (microsoft/vert-papers, Meta-Cross), as described.

Written from a description of what that code does, to be timed; no line of it is copied. It does not compute our
meta-gradient: its inner optimizer is a BertAdam made anew for every episode, its dropout is on, and it sums over
episodes. Everything is padded to 128 pieces, weights are deep-copied before and loaded back after every episode, and
each episode's gradient is stored until all are summed.

It is spared what its time had and ours has not: attention here is torch's own function, not separate products.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmarks.baselines import Implementation, padded
from benchmarks.inputs import MAX_PIECES, MetaBatch


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


class ReleasedLoop(Implementation):
    """One episode after the other, each on 128 pieces a sentence, with a new BertAdam and a copy of all weights."""

    name = "released loop"
    comparable = False
    one_shape = True

    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:  # noqa: D102
        self.model.train()
        stored: list[list[Tensor]] = []
        for support, query in zip(batch.support_EK, batch.query_E, strict=True):
            before = copy.deepcopy(self.model.state_dict())
            optimizer = BertAdam(self.adapted.values(), lr=self.inner.lr)
            inputs = padded(support, MAX_PIECES)
            for _ in range(self.inner.steps):
                optimizer.zero_grad()
                torch.autograd.backward(self.loss(inputs, precision))
                optimizer.step()
            optimizer.zero_grad()
            torch.autograd.backward(self.loss(padded([query], MAX_PIECES), precision))
            stored.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.adapted.values()])
            self.model.load_state_dict(before)
        return [torch.stack(grads).sum(0) for grads in zip(*stored, strict=True)]
