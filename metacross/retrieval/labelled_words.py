"""Labelled words that vote on the tags of similar words: nearest neighbours among words, with the tagger as one voter.

A word's vector is made from its states in the last layers (`tagging.adaptation.word_vectors`). A labelled word of
similarity s to a word that is being tagged counts exp((s - similarity) / scale) times the tagger's own opinion, on the
tag that it has:

    p'(tag) = (p(tag) + sum of the counts of the neighbours that have the tag) / (1 + sum of all counts)

This is a kernel estimate with the tagger as its prior. kNN-NER (Wang et al., 2022) mixes with a fixed share instead; a
fixed share of one half lets a single unrelated example decide, and one of a tenth leaves hundreds of examples unheard.

Shapes: W words, M labelled words, K neighbours, H vector size, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metacross.retrieval.index import Ids, VectorIndex, Vectors


class EncodedWords(NamedTuple):
    """Labelled words, ready to vote.

    Attributes:
        vectors_MH: their unit vectors.
        tag_ids_M: their tags.
    """

    vectors_MH: Vectors
    tag_ids_M: Ids


class LabelledWords:
    """Words with tags, kept in memory and searched exactly. Not thread-safe.

    Args:
        size: length of a vector, H.
        neighbours: labelled words that vote on a word, K; 0: none do.
        similarity: cosine at which a labelled word counts as much as the tagger's own opinion.
        scale: of similarities; one that is higher by this counts 2.7 times as much.
    """

    def __init__(self, size: int, *, neighbours: int, similarity: float, scale: float) -> None:
        self._index = VectorIndex(np.empty((0, size), dtype=np.float32), use_gpu=False)
        self._tag_ids: dict[int, int] = {}
        self._next = 0
        self._neighbours, self._similarity, self._scale = neighbours, similarity, scale

    def __len__(self) -> int:
        return len(self._index)

    def add(self, words: EncodedWords) -> list[int]:
        """Adds words; returns their numbers, which are not used again."""
        numbers = list(range(self._next, self._next + len(words.tag_ids_M)))
        self._next += len(numbers)
        self._index.add(words.vectors_MH, np.array(numbers, dtype=np.int64))
        self._tag_ids.update(zip(numbers, words.tag_ids_M.tolist(), strict=True))
        return numbers

    def remove(self, numbers: Sequence[int]) -> None:
        """Removes words."""
        self._index.remove(np.array(numbers, dtype=np.int64))
        for number in numbers:
            del self._tag_ids[number]

    def blended(self, probabilities_WC: Tensor, vectors_WH: Vectors) -> Tensor:
        """Tag probabilities (W, C) of words after the votes of the labelled words, see the top of this module.

        Args:
            probabilities_WC: before, by the tagger.
            vectors_WH: unit vectors of the words.
        """
        k = min(self._neighbours, len(self))
        if not k:
            return probabilities_WC
        similarity_WK, number_WK = self._index.search(vectors_WH, k)
        tag_ids_WK = torch.tensor([[self._tag_ids[n] for n in row] for row in number_WK.tolist()])
        counts_WK = torch.exp((torch.from_numpy(similarity_WK) - self._similarity) / self._scale)
        votes_WC = torch.zeros_like(probabilities_WC).scatter_add_(1, tag_ids_WK, counts_WK)
        return (probabilities_WC + votes_WC) / (1 + counts_WK.sum(1, keepdim=True))
