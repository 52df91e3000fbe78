"""Where a tagger's support comes from: the bundle's source sentences, here or elsewhere, and examples added since.

What is looked up are windows, by number: a source window's place among all of them, and for examples numbers of their
own, above all of those and never used again. So whatever is kept under a number stays true.

Shapes: B windows looked up, K neighbours, H vector size, T word pieces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import PieceEncoder, Window, tag_ids
from metacross.errors import UserError
from metacross.retrieval.index import VectorIndex, Vectors

FIRST_EXAMPLE = 1 << 40


class Neighbour(NamedTuple):
    """A window that may be support, as a search finds it."""

    number: int
    similarity: float  # cosine
    pieces: int


@dataclass(frozen=True)
class Candidate:
    """A window that may be support, with its labelled sentence."""

    window: Window
    sentence: Sentence


class Pool(Protocol):
    """Labelled windows that can be searched; in this process or behind a connection."""

    def __len__(self) -> int:
        """How many may be support."""

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """The at most K most similar to each, best first. An IVF index may find fewer."""

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """What stands under these numbers."""


class SourcePool:
    """A bundle's source sentences and its index over those that may be support.

    Args:
        sentences: of the bundle.
        index: over windows, by their numbers.
        pieces: cuts sentences into windows as in training.
        which: retrieval.candidates of training: all, or with_entities.
        place: the bundle's, for messages.

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
                f"{place}: the index holds {len(index)} vectors but the source sentences make {count} windows that may "
                "be support; the bundle was written by another version. Train it again."
            )

    def __len__(self) -> int:
        return len(self._index)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `Pool`."""
        return _found(self._index, vectors_BH, k, lambda number: len(self.windows[number]))

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `Pool`."""
        return [Candidate(self.windows[i], self.sentences[self.windows[i].sentence]) for i in numbers]


class ExamplePool:
    """Examples that were added to a tagger, in memory; searched exactly.

    Args:
        size: of a vector, H.
    """

    def __init__(self, size: int) -> None:
        self._index = VectorIndex(np.empty((0, size), dtype=np.float32), use_gpu=False)
        self._kept: dict[int, Candidate] = {}
        self._next = FIRST_EXAMPLE

    def __len__(self) -> int:
        return len(self._index)

    def add(self, candidates: Sequence[Candidate], vectors_BH: Vectors) -> list[int]:
        """Takes in windows with their unit vectors; returns their numbers."""
        numbers = list(range(self._next, self._next + len(candidates)))
        self._next += len(candidates)
        self._index.add(vectors_BH, np.array(numbers, dtype=np.int64))
        self._kept.update(zip(numbers, candidates, strict=True))
        return numbers

    def remove(self, numbers: Sequence[int]) -> None:
        """Forgets windows."""
        self._index.remove(np.array(numbers, dtype=np.int64))
        for number in numbers:
            del self._kept[number]

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `Pool`."""
        return _found(self._index, vectors_BH, k, lambda number: len(self._kept[number].window))

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `Pool`."""
        return [self._kept[number] for number in numbers]


class SupportLookup:
    """All that may be support of a tagger's answers, and the trunk states of what was used of late. Not for threads.

    Args:
        source: the bundle's sentences.
        examples: those added since.
        tags: the tag set, IOB2.
        trunk: runs windows through the frozen trunk: their states (T, H) each.
        budget_mb: memory for states that are kept.
    """

    def __init__(
        self,
        source: Pool,
        examples: ExamplePool,
        *,
        tags: Sequence[str],
        trunk: Callable[[Sequence[Window]], list[Tensor]],
        budget_mb: int,
    ) -> None:
        self.source, self.examples = source, examples
        self._tag_index = {tag: i for i, tag in enumerate(tags)}
        self._trunk, self._budget = trunk, budget_mb << 20
        self._states: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.source) + len(self.examples)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """The K most similar windows to each, best first; fewer where an IVF index finds fewer.

        Raises:
            UserError: there are fewer than K.
        """
        if k > len(self):
            raise UserError(
                f"support_size={k} but the index holds {len(self)} sentences. "
                "Lower episodes.support_size (or --neighbours), or index more sentences."
            )
        found = self.source.search(vectors_BH, min(k, len(self.source)))
        if not len(self.examples):
            return found
        others = self.examples.search(vectors_BH, min(k, len(self.examples)))
        both = ([*a, *b] for a, b in zip(found, others, strict=True))
        return [sorted(row, key=lambda n: (-n.similarity, n.number))[:k] for row in both]

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """What stands under these numbers."""
        ours = [number for number in numbers if number < FIRST_EXAMPLE]
        found = dict(zip(ours, self.source.candidates(ours), strict=True)) if ours else {}
        return [found[i] if i in found else self.examples.candidates([i])[0] for i in numbers]

    def support(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[Tensor, Tensor]]]:
        """Trunk states (T, H) and tag ids (T,) of each row's windows, as `rows.pack` takes them."""
        wanted = sorted({i for row in rows for i in row})
        found = {i: self._states[i] for i in wanted if i in self._states}
        for i in found:
            self._states.move_to_end(i)
        missing = [i for i in wanted if i not in found]
        if missing:
            candidates = self.candidates(missing)
            states = self._trunk([candidate.window for candidate in candidates])
            for i, candidate, state in zip(missing, candidates, states, strict=True):
                found[i] = state, tag_ids(candidate.window, candidate.sentence, self._tag_index)
                self._keep(i, found[i])
        return [[found[i] for i in row] for row in rows]

    def _keep(self, i: int, pair: tuple[Tensor, Tensor]) -> None:
        self._states[i] = pair
        self._bytes += pair[0].nbytes
        while self._bytes > self._budget:
            self._bytes -= self._states.popitem(last=False)[1][0].nbytes


def may_be_support(window: Window, sentence: Sentence, which: str) -> bool:
    """Whether a window may be support: `all` may, or those `with_entities` among their scored words."""
    tags = sentence.tags or ()
    return which == "all" or any(tags[w] != "O" for w in range(*window.scored))


def _found(index: VectorIndex, vectors_BH: Vectors, k: int, pieces: Callable[[int], int]) -> list[list[Neighbour]]:
    similarity_BK, number_BK = index.search(vectors_BH, k)
    return [
        [Neighbour(n, s, pieces(n)) for s, n in zip(similar, numbers, strict=True) if n >= 0]
        for similar, numbers in zip(similarity_BK.tolist(), number_BK.tolist(), strict=True)
    ]
