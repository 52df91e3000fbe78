"""Pseudo-NER tasks: every source sentence is once the query, its nearest others are its support set.

A meta-batch is a pure function of (seed, step), so that any worker, and any resumed run, sees the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import Window

POOL = 16  # meta-batches that are formed together, out of sentences sorted by length


@dataclass(frozen=True)
class Episode:
    """One pseudo-NER task, by indices of source windows."""

    query: int
    support: tuple[int, ...]
    masked: tuple[int, ...]  # words of the query (counted in its sentence) that are hidden


class EpisodeSource:
    """All episodes of a corpus.

    Args:
        windows: of the source corpus.
        sentences: what the windows were cut from.
        neighbours_MK: each window's nearest others; K = 0 columns make episodes without support.
        seed: of the order and of the masks.
        meta_batch_size: episodes of a meta-batch, over all workers together.
        mask_ratio: probability of an entity word of the query to be masked, drawn anew every pass.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        sentences: Sequence[Sentence],
        neighbours_MK: NDArray[np.int64],
        *,
        seed: int,
        meta_batch_size: int,
        mask_ratio: float,
    ) -> None:
        self.windows = windows
        self.sentences = sentences
        self.neighbours_MK = neighbours_MK
        self.seed = seed
        self.meta_batch_size = meta_batch_size
        self.mask_ratio = mask_ratio
        self._support_pieces = [sum(len(windows[i]) for i in row) for row in neighbours_MK]

    def meta_batch(self, step: int) -> list[Episode]:
        """The episodes of a step (0, 1, ...). Batches hold sentences of like length, so that little is padding."""
        pool, batch = divmod(step, POOL)
        queries = self._pool(pool)
        chosen = queries[batch * self.meta_batch_size : (batch + 1) * self.meta_batch_size]
        return [self._episode(query, lap) for query, lap in chosen]

    def _pool(self, pool: int) -> list[tuple[int, int]]:
        """(query, pass over the data) of POOL meta-batches: sorted by length, cut, the batches shuffled."""
        size = POOL * self.meta_batch_size
        at = range(pool * size, (pool + 1) * size)
        laps = {i // len(self.windows) for i in (at[0], at[-1])}
        orders = {lap: self._rng(1, lap).permutation(len(self.windows)) for lap in range(min(laps), max(laps) + 1)}
        drawn = [(int(orders[i // len(self.windows)][i % len(self.windows)]), i // len(self.windows)) for i in at]
        drawn.sort(key=lambda q: (self._support_pieces[q[0]] + len(self.windows[q[0]]), q))
        batches = self._rng(2, pool).permutation(POOL)
        return [q for b in batches for q in drawn[b * self.meta_batch_size : (b + 1) * self.meta_batch_size]]

    def _episode(self, query: int, lap: int) -> Episode:
        window = self.windows[query]
        tags = self.sentences[window.sentence].tags or ()
        words = [w for w in range(*window.scored) if tags[w] != "O"]
        draws = self._rng(3, lap, query).random(len(words))
        masked = tuple(w for w, draw in zip(words, draws, strict=True) if draw < self.mask_ratio)
        return Episode(query, tuple(int(i) for i in self.neighbours_MK[query]), masked)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


def cost(episode: Episode, windows: Sequence[Window]) -> int:
    """What an episode takes, in word pieces: a support piece counts 2, a query piece 3."""
    return 2 * sum(len(windows[i]) for i in episode.support) + 3 * len(windows[episode.query])


def shares(episodes: Sequence[Episode], windows: Sequence[Window], workers: int) -> list[list[int]]:
    """Each worker's episodes (indices into the meta-batch), balanced by `cost`: largest first, to the least loaded."""
    pieces = [cost(e, windows) for e in episodes]
    load = [0] * workers
    out: list[list[int]] = [[] for _ in range(workers)]
    for i in sorted(range(len(episodes)), key=lambda i: (-pieces[i], i)):
        worker = min(range(workers), key=load.__getitem__)
        out[worker].append(i)
        load[worker] += pieces[i]
    return [sorted(part) for part in out]
