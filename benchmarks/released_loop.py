"""The loop of the code that the paper's authors released (microsoft/vert-papers, Meta-Cross), as described.

Written from a description of what that code does, to be timed; no line of it is copied. It does not compute our
meta-gradient: its inner optimizer is a BertAdam made anew for every episode, its dropout is on, and it sums over
episodes. Everything is padded to 128 pieces, weights are deep-copied before and loaded back after every episode, and
each episode's gradient is stored until all are summed.

It is spared what its time had and ours has not: attention here is torch's own function, not separate products.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from benchmarks.baselines import Implementation, padded
from benchmarks.inputs import MAX_PIECES, MetaBatch
from metacross.reproduction.bert_adam import BertAdam


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
