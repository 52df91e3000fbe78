"""Labelled words that vote on the tags of similar words: nearest neighbours among words, with the tagger as one voter.

A word's vector is made from its states in the last layers (`tagging.word_encoding`). A labelled word of similarity s to
a word that is being tagged counts exp((s - similarity) / scale) times the tagger's own opinion, on the tag that it has:

    p'(tag) = (p(tag) + sum of the counts of the neighbours that have the tag) / (1 + sum of all counts)

This is a kernel estimate with the tagger as its prior. The neighbours of one word together count at most
most * M / (M + HALF): M labelled words are a sample of the language, and what is nearest in a small one may be far off.
Where they would count more, all are scaled down. kNN-NER (Wang et al., 2022) mixes with a fixed share instead.

Words that a machine labelled vote first, and then those that people labelled, in the same way on what came out. So
people have the last word, however many words of a text a machine labelled. A machine has no vote on words of which the
tagger is sure, nineteen in twenty: it would hardly ever change their tags. Of its O words, which are most of a text, a
tenth is kept and each of them counts ten times (`tagging.word_encoding`). Both change F1 by less than 0.1 and save most
of the time (docs/decisions.md).

Shapes: W words, M labelled words, K neighbours, H vector size, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metacross.retrieval.index import Ids, Vectors

PRODUCTS = 1 << 24  # similarities that are held at a time: 64 MiB
HEARD = 0.02  # a labelled word that counts less, in units of the tagger's own opinion, decides nothing
HALF = 1600  # labelled words, of about 50 sentences, that may count half of what endlessly many may
SURE = 0.8  # probability of its likeliest tag from which the tagger is sure of a word
O_ID = 0  # the tag id of O, see `retrieval.source.tag_set`
O_WORDS = 10  # of so many O words that a machine labelled one is kept, and counts for all


class EncodedWords(NamedTuple):
    """Labelled words, ready to vote.

    Attributes:
        vectors_MH: their unit vectors.
        tag_ids_M: their tags.
        windows_M: the numbers of the windows that they stand in, see `retrieval.pools`.
        machine_M: whether a machine gave the tags.
    """

    vectors_MH: Vectors
    tag_ids_M: Ids
    windows_M: Ids
    machine_M: NDArray[np.bool_]


@dataclass(frozen=True)
class Votes:
    """The votes of labelled words on some words; what counts most comes first.

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

    def before(self, later: Votes) -> Votes:
        """These votes and then others, as one vote: `later` votes on what comes out of this one.

        (p + v) / (1 + c) counts as one opinion there, so a later vote counts 1 + c times what it does alone.
        """
        later = replace(later, counts_WK=later.counts_WK * (1 + self.counts_WK.sum(1, keepdim=True)))
        joined = [torch.cat(pair, dim=1) for pair in zip(self._columns, later._columns, strict=True)]
        order_WK = torch.cat([self.counts_WK, later.counts_WK], dim=1).argsort(dim=1, descending=True, stable=True)
        return Votes(*(column.gather(1, order_WK) for column in joined))

    def heard(self, which_W: Tensor, *, most: int) -> list[int]:
        """The windows of the labelled words that counted on some of the words, by number.

        Args:
            which_W: true for each of these words.
            most: of how many labelled words for each, those that count most.
        """
        counted_WK = self.counts_WK[which_W, :most] >= HEARD
        return sorted(set(self.windows_WK[which_W, :most][counted_WK].tolist()))

    def split(self, words: Sequence[int]) -> list[Votes]:
        """The same in parts of so many words."""
        return [Votes(*part) for part in zip(*(torch.split(c, list(words)) for c in self._columns), strict=True)]

    @property
    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.similarity_WK, self.counts_WK, self.tag_ids_WK, self.windows_WK


class LabelledWords:
    """Words with tags, kept in memory and searched exactly, on the CPU. Not thread-safe.

    Args:
        size: length of a vector, H.
        neighbours: labelled words that vote on a word, K, of people's and of a machine's each; 0: none do.
        similarity: cosine at which a labelled word counts as much as the tagger's own opinion.
        scale: of similarities; one that is higher by this counts 2.7 times as much.
        most: what all of them together count at most.
    """

    def __init__(self, size: int, *, neighbours: int, similarity: float, scale: float, most: float) -> None:
        self._machine, self._people = _Store(size), _Store(size)
        self._next = 0
        self._neighbours, self._similarity, self._scale, self._most = neighbours, similarity, scale, most

    def __len__(self) -> int:
        return len(self._machine) + len(self._people)

    @property
    def vote(self) -> bool:
        """Whether there are words that vote."""
        return self._neighbours > 0 and len(self) > 0

    def add(self, words: EncodedWords) -> list[int]:
        """Adds words; returns their numbers, which are not used again."""
        numbers = np.arange(self._next, self._next + len(words.tag_ids_M))
        self._next += len(numbers)
        known_M3 = np.stack([numbers, words.tag_ids_M, words.windows_M], axis=1)
        for store, which_M in ((self._machine, words.machine_M), (self._people, ~words.machine_M)):
            store.add(words.vectors_MH[which_M], known_M3[which_M])
        return [int(number) for number in numbers]

    def remove(self, numbers: Sequence[int]) -> None:
        """Removes words."""
        for store in (self._machine, self._people):
            store.remove(numbers)

    def votes(self, vectors_WH: Vectors, probabilities_WC: Tensor) -> Votes:
        """The votes on some words; only where there are words that vote.

        Args:
            vectors_WH: the words' unit vectors.
            probabilities_WC: the tagger's, before the votes.
        """
        vectors, everywhere_W = torch.from_numpy(vectors_WH), torch.arange(len(vectors_WH))
        unsure_W = (probabilities_WC.max(1).values < SURE).nonzero()[:, 0].cpu()
        kinds = ((self._machine, unsure_W, O_WORDS), (self._people, everywhere_W, 1))
        first, *later = [self._votes(store, vectors, on, o_words) for store, on, o_words in kinds if len(store)]
        return first.before(later[0]) if later else first

    def _votes(self, store: _Store, vectors_WH: Tensor, on_N: Tensor, o_words: int) -> Votes:
        """The votes of a kind's words on some of the words; on the others they count nothing.

        Args:
            store: the kind's words.
            vectors_WH: of all words.
            on_N: the places of those that they vote on.
            o_words: how many O words each O word counts for.
        """
        similarity_NK, at_NK = store.nearest(vectors_WH[on_N], min(self._neighbours, len(store)))
        tag_ids_NK = store.tag_ids(at_NK)
        counts_NK = torch.exp((similarity_NK - self._similarity) / self._scale)
        counts_NK *= torch.where(tag_ids_NK == O_ID, o_words, 1)
        most = self._most * len(store) / (len(store) + HALF)
        counts_NK *= (most / counts_NK.sum(1, keepdim=True)).clamp(max=1)
        found = similarity_NK, counts_NK, tag_ids_NK, store.windows(at_NK)
        return Votes(*(one.new_zeros(len(vectors_WH), one.shape[1]).index_copy(0, on_N, one) for one in found))


class _Store:
    """Words of one kind.

    A product with all vectors and a selection of the largest take a fifth of the time of FAISS's flat index
    (docs/decisions.md).
    """

    def __init__(self, size: int) -> None:
        self._vectors_MH = torch.empty(0, size)
        # Of each word its number, its tag id and its window.
        self._known_M3 = torch.empty(0, 3, dtype=torch.long)

    def __len__(self) -> int:
        return len(self._known_M3)

    def add(self, vectors_MH: Vectors, known_M3: Ids) -> None:
        if len(known_M3):
            self._vectors_MH = torch.cat([self._vectors_MH, torch.from_numpy(vectors_MH)])
            self._known_M3 = torch.cat([self._known_M3, torch.from_numpy(known_M3)])

    def remove(self, numbers: Sequence[int]) -> None:
        stay_M = ~torch.isin(self._known_M3[:, 0], torch.tensor(numbers, dtype=torch.long))
        self._vectors_MH, self._known_M3 = self._vectors_MH[stay_M], self._known_M3[stay_M]

    def tag_ids(self, at_WK: Tensor) -> Tensor:
        return self._known_M3[at_WK, 1]

    def windows(self, at_WK: Tensor) -> Tensor:
        return self._known_M3[at_WK, 2]

    def nearest(self, vectors_WH: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Similarities and places (W, K) of the nearest words, most similar first."""
        found = []
        # In bf16 a similarity would be off by 0.004, and a count by 7 percent.
        with torch.autocast("cpu", enabled=False):
            for part_WH in torch.split(vectors_WH, max(1, PRODUCTS // len(self))):
                found.append((part_WH @ self._vectors_MH.T).topk(k, dim=1))
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])
