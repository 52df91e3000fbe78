"""Pseudo-NER tasks: in every pass over the data each source sentence is the query once; its nearest others are support.

A meta-batch is a pure function of (seed, step), so that any worker, and any resumed run, sees the same one.

Shapes: M source windows, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import Window

POOL = 16  # meta-batches that are formed together, from sentences sorted by length


@dataclass(frozen=True)
class Episode:
    """One pseudo-NER task.

    Attributes:
        query: number of the source window that is the query.
        support: numbers of the source windows that are adapted to.
        masked: words of the query that are hidden, by their position in its sentence.
    """

    query: int
    support: tuple[int, ...]
    masked: tuple[int, ...]


class EpisodeSource:
    """All episodes of a corpus.

    Args:
        windows: all windows of the source corpus.
        sentences: what the windows were cut from.
        neighbours_MK: each window's nearest others; with K = 0 columns, episodes have no support.
        seed: decides the order of the queries and the masks.
        meta_batch_size: episodes in a meta-batch, of all workers together.
        mask_ratio: probability that an entity word of the query is masked; drawn anew in every pass.
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
        """(query, pass over the data) of POOL meta-batches: sorted by length, cut into batches, the batches shuffled.

        Queries are counted through all passes: query i is number i % M of pass i // M. Each pass has its own order.
        """
        size, count = POOL * self.meta_batch_size, len(self.windows)
        first, last = pool * size, (pool + 1) * size - 1
        orders = {lap: self._rng(1, lap).permutation(count) for lap in range(first // count, last // count + 1)}
        drawn = [(int(orders[i // count][i % count]), i // count) for i in range(first, last + 1)]
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
        """Random numbers that depend on the seed and the key alone; the key's first number says what they are for."""
        return np.random.default_rng([self.seed, *key])


def cost(episode: Episode, windows: Sequence[Window]) -> int:
    """An estimate of an episode's compute, in word pieces: a support piece counts 2, a query piece 3."""
    return 2 * sum(len(windows[i]) for i in episode.support) + 3 * len(windows[episode.query])


def shares(episodes: Sequence[Episode], windows: Sequence[Window], workers: int) -> list[list[int]]:
    """Each worker's episodes, as indices into the meta-batch.

    They are balanced by `cost`: the costliest first, each to the worker with the least so far.
    """
    costs = [cost(e, windows) for e in episodes]
    load = [0] * workers
    parts: list[list[int]] = [[] for _ in range(workers)]
    for i in sorted(range(len(episodes)), key=lambda i: (-costs[i], i)):
        worker = min(range(workers), key=load.__getitem__)
        parts[worker].append(i)
        load[worker] += costs[i]
    return [sorted(part) for part in parts]
