"""Pools of labelled windows that a tagger's support is searched in: a bundle's source sentences, and added examples.

Windows are known by number: a source window by its index among all of them, an example by a number from FIRST_EXAMPLE
on. A number is never given to another window, so values that are cached under it never go stale.

Shapes: B windows looked up, K neighbours, H vector size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import PieceEncoder, Window
from metacross.errors import UserError
from metacross.retrieval.index import VectorIndex, Vectors
from metacross.retrieval.near_duplicates import compared_words, near_duplicates
from metacross.wording import counted

FIRST_EXAMPLE = 1 << 40  # more than there are source windows


class Neighbour(NamedTuple):
    """A window that may be support, as a search finds it.

    Attributes:
        number: the window's.
        similarity: cosine of its vector and that of the window looked up.
        pieces: its length in word pieces.
    """

    number: int
    similarity: float
    pieces: int


@dataclass(frozen=True)
class Candidate:
    """A window that may be support, with its labelled sentence."""

    window: Window
    sentence: Sentence


class Pool(Protocol):
    """Labelled windows that can be searched, in this process or behind a connection."""

    def __len__(self) -> int:
        """How many windows may be support."""

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """For each vector the K most similar windows, best first; an IVF index may find fewer than K."""

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """The windows with these numbers, in the same order."""

    def missing(self) -> tuple[int, ...]:
        """Numbers of the shards that did not answer the last search; a pool that is whole has none."""


class SourcePool:
    """A bundle's source sentences, searched through the bundle's index.

    Args:
        sentences: the bundle's.
        index: the bundle's, over the windows that may be support.
        pieces: cuts sentences into windows as in training.
        which: `retrieval.candidates` of training: `all`, or `with_entities`.
        place: the bundle's path, for messages.

    Raises:
        UserError: the index does not belong to these sentences.
    """

    def __init__(
        self, sentences: Sequence[Sentence], index: VectorIndex, *, pieces: PieceEncoder, which: str, place: object
    ) -> None:
        self.sentences, self.windows, self._index = sentences, pieces.windows(sentences), index
        count = sum(may_be_support(w, sentences[w.sentence], which) for w in self.windows)
        if count != len(index):
            raise UserError(
                f"{place}: the index holds {counted(len(index), 'vectors')} but the source sentences make "
                f"{counted(count, 'windows')} that may be support; the bundle was written by another version. Train it "
                "again."
            )
        of_window = [sentences[window.sentence] for window in self.windows]
        adopted = [i for i, sentence in enumerate(of_window) if sentence.example_of]
        self._words = {i: compared_words(self.windows[i], of_window[i]) for i in adopted}

    def __len__(self) -> int:
        return len(self._index)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `Pool`. Of adopted examples that say nearly the same only the most similar one is found."""
        return _distinct_neighbours(self._index, vectors_BH, k, lambda n: len(self.windows[n]), self._words)

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `Pool`."""
        return [Candidate(self.windows[i], self.sentences[self.windows[i].sentence]) for i in numbers]

    def missing(self) -> tuple[int, ...]:
        """See `Pool`."""
        return ()


class ExamplePool:
    """Examples that were added to a tagger: kept in memory and searched exactly.

    Args:
        size: length of a vector, H.
    """

    def __init__(self, size: int) -> None:
        self._index = VectorIndex(np.empty((0, size), dtype=np.float32), use_gpu=False)
        self._examples: dict[int, Candidate] = {}
        self._words: dict[int, frozenset[str]] = {}
        self._next = FIRST_EXAMPLE

    def __len__(self) -> int:
        return len(self._index)

    def add(self, candidates: Sequence[Candidate], vectors_BH: Vectors, which: str = "all") -> list[int]:
        """Adds windows with their unit vectors; those that may not be support are not found by `search`.

        Args:
            candidates: the windows.
            vectors_BH: their vectors.
            which: see `may_be_support`.

        Returns:
            Their numbers.
        """
        numbers = list(range(self._next, self._next + len(candidates)))
        self._next += len(candidates)
        found = [i for i, one in enumerate(candidates) if may_be_support(one.window, one.sentence, which)]
        self._index.add(vectors_BH[found], np.array(numbers, dtype=np.int64)[found])
        self._examples.update(zip(numbers, candidates, strict=True))
        self._words.update((n, compared_words(c.window, c.sentence)) for n, c in zip(numbers, candidates, strict=True))
        return numbers

    def remove(self, numbers: Sequence[int]) -> None:
        """Removes windows; their numbers are not used again."""
        self._index.remove(np.array(numbers, dtype=np.int64))
        for number in numbers:
            del self._examples[number], self._words[number]

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `Pool`. Of windows that say nearly the same only the most similar one is found, so there may be fewer."""
        return _distinct_neighbours(self._index, vectors_BH, k, lambda n: len(self._examples[n].window), self._words)

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `Pool`."""
        return [self._examples[number] for number in numbers]

    def missing(self) -> tuple[int, ...]:
        """See `Pool`."""
        return ()


def may_be_support(window: Window, sentence: Sentence, which: str) -> bool:
    """Whether a window may be support: `which` is `all`, or `with_entities` among the window's scored words.

    Uncertain words do not count: nothing would be learnt from them.
    """
    uncertain, tags = sentence.uncertain, sentence.tags or ()
    certain = [w for w in range(*window.scored) if w not in uncertain]
    return any(tags[w] != "O" for w in certain) if which == "with_entities" else bool(certain) or not uncertain


def _neighbours(index: VectorIndex, vectors_BH: Vectors, k: int, pieces: Callable[[int], int]) -> list[list[Neighbour]]:
    similarity_BK, number_BK = index.search(vectors_BH, k)
    return [
        [Neighbour(n, s, pieces(n)) for s, n in zip(similar, numbers, strict=True) if n >= 0]
        for similar, numbers in zip(similarity_BK.tolist(), number_BK.tolist(), strict=True)
    ]


def _distinct_neighbours(
    index: VectorIndex,
    vectors_BH: Vectors,
    k: int,
    pieces: Callable[[int], int],
    words: Mapping[int, frozenset[str]],
) -> list[list[Neighbour]]:
    """The nearest K windows, and of near duplicates the nearest one alone; there may be fewer than K.

    Args:
        index: is searched.
        vectors_BH: of the windows looked up.
        k: how many, at most as many as are in the index.
        pieces: the length of a window in word pieces, by its number.
        words: compared words of the windows that may be near duplicates, by number; the others all count.
    """
    found: list[list[Neighbour]] = [[] for _ in vectors_BH]
    open_rows = list(range(len(found)))
    fetch = k
    while open_rows:
        rows = dict(zip(open_rows, _neighbours(index, vectors_BH[open_rows], fetch, pieces), strict=True))
        for row, neighbours in rows.items():
            found[row] = _distinct(neighbours, words, k)
        # Where there were fewer than asked for, there are no more.
        open_rows = [row for row, some in rows.items() if len(found[row]) < k and len(some) == fetch < len(index)]
        fetch = min(4 * fetch, len(index))
    return found


def _distinct(neighbours: Sequence[Neighbour], words: Mapping[int, frozenset[str]], k: int) -> list[Neighbour]:
    """The first K windows that are no near duplicates of one before them."""
    kept: list[Neighbour] = []
    compared: list[frozenset[str]] = []  # words of those among them that may be near duplicates
    for neighbour in neighbours:
        if len(kept) == k:
            break
        own = words.get(neighbour.number)
        if own is not None:
            if any(near_duplicates(own, others) for others in compared):
                continue
            compared.append(own)
        kept.append(neighbour)
    return kept
