"""Trunk states of unmasked windows, computed once and cached as far as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from cachetools import LRUCache
from torch import Tensor

from metacross.encoder.model import TagModel
from metacross.encoder.rows import trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import Window

BLOCK = 1024  # windows whose states are held at once while all vectors are computed


class TrunkCache:
    """The frozen trunk's states of a list of windows, cached; the least recently used are dropped first.

    Cached states stay valid as long as the model lives, since the trunk never changes. A state that was dropped is
    computed again in a batch with other windows, where float rounding may differ: a run that was resumed equals an
    undisturbed one to the bit only if the cache holds all windows.

    Args:
        model: its trunk computes the states.
        windows: known by their index in this list.
        budget_mb: memory for the cache, in MiB.
        batch_pieces: word pieces of one forward.
    """

    def __init__(self, model: TagModel, windows: Sequence[Window], *, budget_mb: int, batch_pieces: int) -> None:
        self.model = model
        self.windows = windows
        self.batch_pieces = batch_pieces
        self._cache: LRUCache[int, Tensor] = LRUCache(budget_mb << 20, lambda state: state.nbytes)

    def vectors(self, sentence_encoder: SentenceEncoder, *, tick: Callable[[int], None] | None = None) -> Tensor:
        """Unit vectors (M, H) of all windows. The trunk states computed for them fill the cache, but drop nothing."""
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
                if self._cache.currsize + state.nbytes <= self._cache.maxsize:
                    self._cache[i] = state
        return torch.cat(parts)

    def states(self, indices: Sequence[int]) -> dict[int, Tensor]:
        """The states (T, H) of some windows, by index; those that are not cached are computed together."""
        found = {i: self._cache[i] for i in indices if i in self._cache}
        missing = sorted(set(indices) - found.keys())
        if missing:
            states, _ = trunk_states(self.model, [self.windows[i] for i in missing], batch_pieces=self.batch_pieces)
            found |= dict(zip(missing, states, strict=True))
            for i, state in zip(missing, states, strict=True):
                with suppress(ValueError):  # larger than the whole cache
                    self._cache[i] = state
        return found
