"""Trunk states of unmasked windows, computed once and kept where memory allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metacross.encoder.model import TagModel
from metacross.encoder.rows import trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import Window

BLOCK = 1024  # windows that run through the trunk before any of them is dropped again


class TrunkCache:
    """The frozen trunk's states of a list of windows: the least recently used make room beyond `budget_mb`.

    They stay valid for as long as the model lives, since the trunk never changes.
    """

    def __init__(self, model: TagModel, windows: Sequence[Window], *, budget_mb: int, batch_pieces: int) -> None:
        self.model = model
        self.windows = windows
        self.batch_pieces = batch_pieces
        self._budget = budget_mb << 20
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._bytes = 0

    def vectors(self, sentence_encoder: SentenceEncoder, *, tick: Callable[[int], None] | None = None) -> Tensor:
        """Unit vectors (M, H) of all windows; their trunk states are kept on the way."""
        parts = []
        for start in range(0, len(self.windows), BLOCK):
            block = range(start, min(start + BLOCK, len(self.windows)))
            states, vectors_BH = trunk_states(
                self.model,
                [self.windows[i] for i in block],
                batch_pieces=self.batch_pieces,
                sentence_encoder=sentence_encoder,
                tick=tick,
            )
            assert vectors_BH is not None
            parts.append(vectors_BH)
            for i, state in zip(block, states, strict=True):
                if self._bytes + state.nbytes <= self._budget:
                    self._keep(i, state)
        return torch.cat(parts)

    def states(self, indices: Sequence[int]) -> dict[int, Tensor]:
        """The states (T, H) of some windows, by index; those not kept are computed together."""
        found = {i: self._kept[i] for i in indices if i in self._kept}
        for i in found:
            self._kept.move_to_end(i)
        missing = sorted(set(indices) - found.keys())
        if missing:
            states, _ = trunk_states(self.model, [self.windows[i] for i in missing], batch_pieces=self.batch_pieces)
            found |= dict(zip(missing, states, strict=True))
            for i, state in zip(missing, states, strict=True):
                self._keep(i, state)
        return found

    def _keep(self, i: int, state: Tensor) -> None:
        self._kept[i] = state
        self._bytes += state.nbytes
        while self._bytes > self._budget:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
