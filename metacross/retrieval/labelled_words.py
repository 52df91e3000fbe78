"""Labelled words that vote on the tags of similar words: nearest neighbours among words, with the tagger as one voter.

A word's vector is made from its states in the last layers (`tagging.word_encoding`). A labelled word of similarity s to
a word that is being tagged counts exp((s - similarity) / scale) times the tagger's own opinion, on the tag that it has:

    p'(tag) = (p(tag) + sum of the counts of the neighbours that have the tag) / (1 + sum of all counts)

This is a kernel estimate with the tagger as its prior. The neighbours of one word together count at most
most * M / (M + HALF): M labelled words are a sample of the language, and what is nearest in a small one may be far off.
Where they would count more, all are scaled down. kNN-NER (Wang et al., 2022) mixes with a fixed share instead.

Shapes: W words, M labelled words, K neighbours, H vector size, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metacross.retrieval.index import Ids, Vectors

PRODUCTS = 1 << 24  # similarities that are held at a time: 64 MiB
HEARD = 0.02  # a labelled word that counts less, in units of the tagger's own opinion, decides nothing
HALF = 1600  # labelled words, of about 50 sentences, that may count half of what endlessly many may


class EncodedWords(NamedTuple):
    """Labelled words, ready to vote.

    Attributes:
        vectors_MH: their unit vectors.
        tag_ids_M: their tags.
        windows_M: the numbers of the windows that they stand in, see `retrieval.pools`.
    """

    vectors_MH: Vectors
    tag_ids_M: Ids
    windows_M: Ids


@dataclass(frozen=True)
class Votes:
    """The nearest labelled words of some words, most similar first.

    Attributes:
        similarity_WK: cosines.
        counts_WK: what each counts, in units of the tagger's own opinion.
        tag_ids_WK: on which tag.
        windows_WK: the windows that they stand in.
    """

    similarity_WK: Tensor
    counts_WK: Tensor
    tag_ids_WK: Tensor
    windows_WK: Tensor

    def blended(self, probabilities_WC: Tensor) -> Tensor:
        """Tag probabilities (W, C) after the votes, of those before, see the top of this module."""
        votes_WC = torch.zeros_like(probabilities_WC).scatter_add_(1, self.tag_ids_WK, self.counts_WK)
        return (probabilities_WC + votes_WC) / (1 + self.counts_WK.sum(1, keepdim=True))

    def heard(self, which_W: Tensor, *, most: int) -> list[int]:
        """The windows of the labelled words that counted on some of the words, by number.

        Args:
            which_W: true for each of these words.
            most: of how many labelled words for each, the most similar ones.
        """
        counted_WK = self.counts_WK[which_W, :most] >= HEARD
        return sorted(set(self.windows_WK[which_W, :most][counted_WK].tolist()))

    def split(self, words: Sequence[int]) -> list[Votes]:
        """The same in parts of so many words."""
        columns = (self.similarity_WK, self.counts_WK, self.tag_ids_WK, self.windows_WK)
        return [Votes(*part) for part in zip(*(torch.split(column, list(words)) for column in columns), strict=True)]


class LabelledWords:
    """Words with tags, kept in memory and searched exactly, on the CPU. Not thread-safe.

    A product with all vectors and a selection of the largest take a fifth of the time of FAISS's flat index
    (docs/decisions.md).

    Args:
        size: length of a vector, H.
        neighbours: labelled words that vote on a word, K; 0: none do.
        similarity: cosine at which a labelled word counts as much as the tagger's own opinion.
        scale: of similarities; one that is higher by this counts 2.7 times as much.
        most: what all of them together count at most.
    """

    def __init__(self, size: int, *, neighbours: int, similarity: float, scale: float, most: float) -> None:
        self._vectors_MH = torch.empty(0, size)
        # Of each word its number, its tag id and its window.
        self._known_M3 = torch.empty(0, 3, dtype=torch.long)
        self._next = 0
        self._neighbours, self._similarity, self._scale, self._most = neighbours, similarity, scale, most

    def __len__(self) -> int:
        return len(self._known_M3)

    @property
    def vote(self) -> bool:
        """Whether there are words that vote."""
        return self._neighbours > 0 and len(self) > 0

    def add(self, words: EncodedWords) -> list[int]:
        """Adds words; returns their numbers, which are not used again."""
        numbers = np.arange(self._next, self._next + len(words.tag_ids_M))
        self._next += len(numbers)
        known_M3 = np.stack([numbers, words.tag_ids_M, words.windows_M], axis=1)
        self._vectors_MH = torch.cat([self._vectors_MH, torch.from_numpy(words.vectors_MH)])
        self._known_M3 = torch.cat([self._known_M3, torch.from_numpy(known_M3)])
        return [int(number) for number in numbers]

    def remove(self, numbers: Sequence[int]) -> None:
        """Removes words."""
        stay_M = ~torch.isin(self._known_M3[:, 0], torch.tensor(numbers, dtype=torch.long))
        self._vectors_MH, self._known_M3 = self._vectors_MH[stay_M], self._known_M3[stay_M]

    def votes(self, vectors_WH: Vectors) -> Votes:
        """The votes on words with these unit vectors; only where there are words that vote."""
        similarity_WK, at_WK = self._nearest(torch.from_numpy(vectors_WH), min(self._neighbours, len(self)))
        counts_WK = torch.exp((similarity_WK - self._similarity) / self._scale)
        most = self._most * len(self) / (len(self) + HALF)
        counts_WK *= (most / counts_WK.sum(1, keepdim=True)).clamp(max=1)
        return Votes(similarity_WK, counts_WK, self._known_M3[at_WK, 1], self._known_M3[at_WK, 2])

    def _nearest(self, vectors_WH: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Similarities and places (W, K) of the nearest labelled words."""
        found = []
        # In bf16 a similarity would be off by 0.004, and a count by 7 percent.
        with torch.autocast("cpu", enabled=False):
            for part_WH in torch.split(vectors_WH, max(1, PRODUCTS // len(self))):
                found.append((part_WH @ self._vectors_MH.T).topk(k, dim=1))
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])
