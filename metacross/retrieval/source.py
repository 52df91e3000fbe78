"""The labelled source sentences, ready to be support: as windows, tag ids, trunk states and vectors.

Shapes: M source windows, K neighbours, H vector size, T word pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metacross.corpora.sentence import Sentence, entities
from metacross.encoder.model import TagModel
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.trunk_cache import TrunkCache
from metacross.encoder.windows import PieceEncoder, tag_ids
from metacross.retrieval.index import VectorIndex
from metacross.retrieval.pools import may_be_support


class Source:
    """The source sentences of a run, from which support sets are made.

    Args:
        sentences: the labelled sentences.
        tags: the tag set, IOB2.
        pieces: cuts sentences into windows.
        model: its trunk computes the windows' states.
        budget_mb: memory for cached states, in MiB.
        batch_pieces: word pieces of one forward.

    Attributes:
        windows: of all sentences. A support "sentence" is a window; most sentences have one.
        owner_M: an id per window that windows of one sentence and of its exact duplicates share.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        tags: Sequence[str],
        *,
        pieces: PieceEncoder,
        model: TagModel,
        budget_mb: int,
        batch_pieces: int,
    ) -> None:
        self.sentences = list(sentences)
        self.tag_index = {tag: i for i, tag in enumerate(tags)}
        self.windows = pieces.windows(sentences)
        self.states = TrunkCache(model, self.windows, budget_mb=budget_mb, batch_pieces=batch_pieces)
        owners: dict[str, int] = {}
        self.owner_M: NDArray[np.int64] = np.array(
            [owners.setdefault(sentences[w.sentence].text, len(owners)) for w in self.windows], dtype=np.int64
        )

    def vectors(self, encoder: SentenceEncoder, *, tick: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Unit vectors (M, H) of all windows."""
        return np.asarray(self.states.vectors(encoder, tick=tick).float().cpu().numpy(), dtype=np.float32)

    def candidates(self, which: str) -> NDArray[np.int64]:
        """Numbers of the windows that may be support: `all`, or those `with_entities` among their scored words."""
        fit = (may_be_support(window, self.sentences[window.sentence], which) for window in self.windows)
        return np.flatnonzero(np.fromiter(fit, dtype=bool, count=len(self.windows)))

    def support(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[Tensor, Tensor]]]:
        """Trunk states and tag ids of each row's windows, as `rows.pack` takes them."""
        states = self.states.states([i for row in rows for i in row])
        return [[(states[i], self.tag_ids(i)) for i in row] for row in rows]

    def tag_ids(self, i: int) -> Tensor:
        """Window i's tag ids (T,)."""
        window = self.windows[i]
        return tag_ids(window, self.sentences[window.sentence], self.tag_index)

    def pieces(self, row: Sequence[int]) -> int:
        """The number of word pieces in a support set."""
        return sum(len(self.windows[i]) for i in row)


def tag_set(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """The IOB2 tags of all types that occur: O, then B- and I- of each type in alphabetical order."""
    types = sorted({entity.type for sentence in sentences if sentence.tags for entity in entities(sentence.tags)})
    return ("O", *(f"{mark}-{kind}" for kind in types for mark in "BI"))


def neighbours_of_itself(
    source: Source, index: VectorIndex, vectors_MH: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """Each source window's K nearest windows (M, K) of the index that belong neither to its sentence nor a duplicate.

    Args:
        source: the source sentences.
        index: over those of their windows that may be support.
        vectors_MH: unit vectors of all windows.
        k: number of neighbours of each.
    """
    return np.asarray(index.neighbours(vectors_MH, k, own_B=source.owner_M, owner_M=source.owner_M), dtype=np.int64)
