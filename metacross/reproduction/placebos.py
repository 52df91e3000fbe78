"""Controls that adaptation has to be better than: support drawn at random, support with wrong labels, a bias on O.

Each looks like adaptation in everything but what the paper says adaptation works by. None belongs into a tagger that is
used; they are put around one.

Shapes: B windows looked up, H vector size, K neighbours, W words, C tags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from metacross.corpora.sentence import EntitySpan, Sentence, entities, tags_of
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import Candidate, Neighbour, SourcePool, may_be_support


class RandomSupport:
    """A pool in which a search finds windows at random instead of the most similar ones.

    What is drawn depends on the seed and on the nearest window alone, so an answer does not depend on the rest of its
    batch.

    Args:
        pool: where the windows are.
        which: `retrieval.candidates`.
        seed: of the draws.
    """

    def __init__(self, pool: SourcePool, *, which: str, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._numbers = [i for i, w in enumerate(pool.windows) if may_be_support(w, pool.sentences[w.sentence], which)]

    def __len__(self) -> int:
        return len(self._pool)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """For each vector K windows at random; their similarity is not known (0)."""
        found = []
        for nearest, *_ in self._pool.search(vectors_BH, 1):
            draw = np.random.default_rng([self._seed, nearest.number]).choice(self._numbers, size=k, replace=False)
            found.append([Neighbour(int(i), 0.0, len(self._pool.windows[i])) for i in draw])
        return found

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `Pool`."""
        return self._pool.candidates(numbers)

    def missing(self) -> tuple[int, ...]:
        """See `Pool`."""
        return ()


class ShuffledLabels:
    """A pool in which every sentence has the tags of another one.

    Sentences that may be support pass their tags on in a circle, each to one of the same length or the next longer one,
    so that all tags stay in use and hardly any entity has to be cut.

    Args:
        pool: where the windows are.
        which: `retrieval.candidates`.
        seed: decides who passes tags to whom.
    """

    def __init__(self, pool: SourcePool, *, which: str, seed: int) -> None:
        self._pool = pool
        fit = sorted({w.sentence for w in pool.windows if may_be_support(w, pool.sentences[w.sentence], which)})
        draws = np.random.default_rng(seed).random(len(fit))
        circle = [
            s for _, s in sorted(zip(draws, fit, strict=True), key=lambda d: (len(pool.sentences[d[1]].words), d))
        ]
        self._giver = dict(zip(circle, [*circle[-1:], *circle[:-1]], strict=True))

    def __len__(self) -> int:
        return len(self._pool)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `Pool`."""
        return self._pool.search(vectors_BH, k)

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """The windows with these numbers, their sentences with the tags of others."""
        return [Candidate(c.window, self._relabelled(c)) for c in self._pool.candidates(numbers)]

    def missing(self) -> tuple[int, ...]:
        """See `Pool`."""
        return ()

    def _relabelled(self, candidate: Candidate) -> Sentence:
        giver = self._pool.sentences[self._giver[candidate.window.sentence]]
        return replace(candidate.sentence, tags=resized(giver.tags or (), len(candidate.sentence.words)))


def resized(tags: Sequence[str], words: int) -> tuple[str, ...]:
    """IOB2 tags laid over a sentence of another length: all entities in their order, at about the same places.

    Entities become shorter where there is no room, and the last ones are left out where there are more than words.

    >>> resized(["B-PER", "I-PER", "O", "O", "B-LOC"], 3)
    ('B-PER', 'I-PER', 'B-LOC')
    """
    found = entities(tags)[:words]
    laid: list[EntitySpan] = []
    free = 0
    for i, entity in enumerate(found):
        later = len(found) - i - 1  # entities that need a word each
        start = min(max(free, entity.start * words // len(tags)), words - later - 1)
        free = min(start + entity.end - entity.start, words - later)
        laid.append(EntitySpan(entity.type, start, free))
    return tuple(tags_of(laid, words))


def without_bias(probabilities_WC: Tensor, tags: Sequence[str], bias: float) -> Tensor:
    """Tag probabilities (W, C) after a constant is taken from O's logit.

    Args:
        probabilities_WC: each word's.
        tags: the tags that the columns stand for.
        bias: the constant; positive values find more entities.
    """
    out_WC = probabilities_WC.clone()
    out_WC[:, list(tags).index("O")] *= math.exp(-bias)
    return out_WC / out_WC.sum(1, keepdim=True)
