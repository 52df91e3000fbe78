"""Adaptation as the released code does it: weights copied, moved by a fresh BertAdam, and put back. Literal and slow.

Only the inner optimizer is theirs. The loss, the neighbours (the nearest is not dropped) and the missing dropout are
ours, so that a comparison with ours shows what the optimizer does and nothing else.

Shapes: W words, C tags.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from metacross.algorithm import episode_losses, tag
from metacross.bundle import Bundle
from metacross.corpora.sentence import Sentence
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.rows import pack, trunk_states
from metacross.encoder.windows import PieceEncoder, Window
from metacross.reproduction.bert_adam import BertAdam
from metacross.retrieval.pools import ExamplePool, Neighbour, SourcePool
from metacross.retrieval.support import SupportLookup


class ReleasedOptimizerTagger:
    """Tags sentence by sentence, window by window, with weights that BertAdam has moved.

    Args:
        bundle: a loaded bundle, with its source sentences.
        neighbours: K.
        lr: of BertAdam; the released code has 1e-5.
    """

    def __init__(self, bundle: Bundle, *, neighbours: int, lr: float) -> None:
        config = bundle.config
        self._model, self._encoder = bundle.model, bundle.sentence_encoder
        self._batch_pieces, self._steps = config.train.batch_pieces, config.inner.steps
        self._neighbours, self._lr, self._tags = neighbours, lr, len(bundle.tags)
        self._pieces = PieceEncoder(bundle.tokenizer, max_pieces=config.model.max_pieces)
        pool = SourcePool(
            bundle.sentences,
            bundle.index,
            pieces=self._pieces,
            which=config.retrieval.candidates,
            place=bundle.path,
        )
        self._support = SupportLookup(
            pool,
            ExamplePool(self._encoder.size),
            tags=bundle.tags,
            trunk=lambda windows: trunk_states(self._model, windows, batch_pieces=self._batch_pieces)[0],
            budget_mb=config.train.trunk_cache_mb,
        )

    def probabilities(self, sentence: Sentence) -> tuple[Tensor, list[Neighbour]]:
        """Tag probabilities (W, C) of a sentence's words, and the neighbours of all its windows."""
        found = [torch.empty(0, self._tags)]
        neighbours: list[Neighbour] = []
        for window in self._pieces.windows([sentence]):
            probabilities_WC, row = self._adapted(window)
            found.append(probabilities_WC)
            neighbours += row
        return torch.cat(found), neighbours

    def _adapted(self, window: Window) -> tuple[Tensor, Sequence[Neighbour]]:
        states, vectors_BH = trunk_states(
            self._model, [window], batch_pieces=self._batch_pieces, sentence_encoder=self._encoder
        )
        assert vectors_BH is not None
        (row,) = self._support.search(vectors_BH.float().cpu().numpy(), self._neighbours)
        support = pack(self._support.support([[neighbour.number for neighbour in row]]))
        query = pack([[(states[0], torch.empty(len(window), dtype=torch.long))]])
        before = copy.deepcopy([p.detach() for p in self._model.theta()])
        take_steps(self._model, support, steps=self._steps, lr=self._lr)
        probabilities_TC = tag(self._model, query)[0].cpu()
        with torch.no_grad():
            for p, value in zip(self._model.theta(), before, strict=True):
                p.copy_(value)
        return probabilities_TC[list(window.scored_pieces())], row


def take_steps(model: TagModel, support: Rows, *, steps: int, lr: float) -> None:
    """Moves theta itself by a fresh BertAdam on the support set's loss."""
    optimizer = BertAdam(model.theta(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = episode_losses(model.logits(support), support, max_weight=0).sum()
        torch.autograd.backward(loss)
        optimizer.step()
    for p in model.theta():
        p.grad = None
