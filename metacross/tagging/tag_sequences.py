"""The likeliest valid tags of sentences, and how sure they are.

In IOB2 an I- tag continues an entity of its type: it follows a B- or I- tag of that type. The likeliest tags of single
words may break this rule. Here a sentence is a chain of words, of which only valid sequences of tags are possible, each
with the product of its words' tag probabilities (divided by the sum of these products over all valid sequences). The
Viterbi algorithm finds the likeliest sequence, the forward-backward algorithm the probability of each entity in it.
Both go through many sentences at a time, from word to word.

`metacross.bundle` copies this file into every bundle. Nothing of metacross may be imported here.

Shapes: B sentences, W words of a sentence, N words of all sentences, C tags, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# No probability is smaller (the smallest normal number of fp32): logarithms stay finite, and no sequence impossible.
SMALLEST = float(np.finfo(np.float32).tiny)

Floats = NDArray[np.floating[Any]]
Numbers = NDArray[np.intp]


class TaggedWords(NamedTuple):
    """What is known of a sentence's words one by one.

    Attributes:
        probabilities_WC: their tag probabilities; what is not a number counts as 0.
        shared: whether each word shares its word piece with the word before it. The piece's probabilities count once,
            for the first of its words; the others continue that word's entity, or are O after O.
    """

    probabilities_WC: Floats
    shared: Sequence[bool]


class Segment(NamedTuple):
    """The words of an entity, or neighbouring words outside of entities.

    Attributes:
        type: of the entity; O outside of entities.
        start: its first word.
        end: the word behind its last one.
        probability: that exactly this entity is there or, for O, that none of the words is in an entity.
    """

    type: str
    start: int
    end: int
    probability: float


class TagChains:
    """Sentences as chains of words, of which only valid sequences of tags are possible.

    Args:
        sentences: their words' tag probabilities.
        tags: the tags that the columns stand for, in any order; O is among them.
    """

    def __init__(self, sentences: Sequence[TaggedWords], tags: Sequence[str]) -> None:
        self._tags = list(tags)
        self._lengths_B = np.array([len(words.shared) for words in sentences], dtype=np.intp)
        self._starts_B = np.cumsum(self._lengths_B) - self._lengths_B
        # The words of all sentences lie one after the other: the word before that of row n is in row n - 1.
        with_words = [words.probabilities_WC for words in sentences if len(words.shared)]
        known_NC = np.concatenate([np.empty((0, len(tags))), *with_words])
        # 1 for a word that continues the word before it, as indices.
        self._shared_N = np.array([w > 0 and flag for words in sentences for w, flag in enumerate(words.shared)], int)
        self._probabilities_NC = np.maximum(np.nan_to_num(known_NC), SMALLEST)
        self._probabilities_NC[self._shared_N == 1] = 1.0
        self._final_N = np.zeros(len(known_NC), dtype=np.bool_)  # which words are the last of their sentence
        self._final_N[(self._starts_B + self._lengths_B - 1)[self._lengths_B > 0]] = True
        # The rows of all first words, of all second words, and so on.
        longest = int(self._lengths_B.max(initial=0))
        self._by_position = [self._starts_B[self._lengths_B > w] + w for w in range(longest)]
        self._inside_C = np.array([tag.startswith("I-") for tag in tags])
        self._allowed_2CC = _allowed(tags)

    def best_tags(self) -> list[list[str]]:
        """Each sentence's likeliest valid tags; of equally likely ones always the same.

        >>> words = TaggedWords(np.array([[0.5, 0.1, 0.4], [0.1, 0.2, 0.7]]), [False, False])
        >>> TagChains([words], ["O", "B-LOC", "I-LOC"]).best_tags()
        [['O', 'B-LOC']]
        """
        ids = self._best_N.tolist()
        places = zip(self._starts_B.tolist(), self._lengths_B.tolist(), strict=True)
        return [[self._tags[i] for i in ids[start : start + length]] for start, length in places]

    def segments(self, *, temperature: float = 1.0) -> list[list[Segment]]:
        """What the likeliest tags of each sentence mark, in order; every word is in one segment.

        Args:
            temperature: 1 leaves the words' probabilities p as they are; otherwise each is p ** (1 / temperature),
                divided by the sum over its word's tags. It changes the segments' probabilities and nothing else.
        """
        begins_S, ends_S = self._borders
        probabilities_S = self._segment_probabilities(temperature)
        types_S = [self._tags[i].split("-", 1)[-1] for i in self._best_N[begins_S]]
        sentences_S = np.searchsorted(self._starts_B + self._lengths_B, begins_S, side="right")
        places_S2 = np.stack([begins_S, ends_S], 1) - self._starts_B[sentences_S][:, None]
        found: list[list[Segment]] = [[] for _ in self._lengths_B]
        columns = (sentences_S.tolist(), types_S, places_S2.tolist(), probabilities_S.tolist())
        for b, kind, (start, end), probability in zip(*columns, strict=True):
            found[b].append(Segment(kind, start, end, probability))
        return found

    @cached_property
    def _best_N(self) -> Numbers:
        """The tag ids of the likeliest valid sequences, by the Viterbi algorithm."""
        best_NC: Floats = np.log(self._probabilities_NC)  # will be that of the best sequence up to a word, by its tag
        previous_NC = np.zeros(best_NC.shape, dtype=np.intp)  # the tag before, in that sequence
        forbidden_2CC = np.where(self._allowed_2CC, 0.0, -np.inf)
        for rows in self._by_position[:1]:
            best_NC[rows] += np.where(self._inside_C, -np.inf, 0.0)
        for rows in self._by_position[1:]:
            sums_BCC = best_NC[rows - 1][:, None] + forbidden_2CC[self._shared_N[rows]]
            previous_NC[rows] = sums_BCC.argmax(2)
            best_NC[rows] += sums_BCC.max(2)
        ids_N: Numbers = best_NC.argmax(1)  # right for last words; each decides the one before it
        for rows in reversed(self._by_position[1:]):
            ids_N[rows - 1] = previous_NC[rows, ids_N[rows]]
        return ids_N

    @cached_property
    def _borders(self) -> tuple[Numbers, Numbers]:
        """The rows of the segments' first words, and those behind their last ones."""
        outside_N = self._best_N == self._tags.index("O")
        continued_N = self._inside_C[self._best_N[1:]] | (outside_N[1:] & outside_N[:-1])
        ends_S = 1 + np.flatnonzero(self._final_N | ~np.append(continued_N, False))
        return np.append(0, ends_S)[: len(ends_S)], ends_S

    def _segment_probabilities(self, temperature: float) -> Floats:
        """The probability of every segment: of what leads to its first tag, of its own tags, of what follows them."""
        words_NC = _tempered(self._probabilities_NC, temperature)
        forward_NC, backward_NC, scales_N = self._forward_backward(words_NC)
        ids_N, (begins_S, ends_S) = self._best_N, self._borders
        lasts_S = ends_S - 1
        logs_N = np.log(words_NC[np.arange(len(ids_N)), ids_N] / scales_N)
        logs_N[begins_S] = 0.0
        own_S = np.exp(np.add.reduceat(logs_N, begins_S))  # a running sum would depend on the sentences before

        follows_S = backward_NC[lasts_S, ids_N[lasts_S]]
        # The part of this in which the next word continues the entity belongs to a longer entity.
        numbers = {tag: i for i, tag in enumerate(self._tags)}
        continuing_S = np.array([numbers.get("I-" + tag[2:], -1) for tag in self._tags])[ids_N[lasts_S]]
        longer = np.flatnonzero((continuing_S >= 0) & ~self._final_N[lasts_S])
        rows, tag_ids = ends_S[longer], continuing_S[longer]
        follows_S[longer] -= words_NC[rows, tag_ids] * backward_NC[rows, tag_ids] / scales_N[rows]
        probabilities_S: Floats = np.clip(forward_NC[begins_S, ids_N[begins_S]] * own_S * follows_S, 0.0, 1.0)
        return probabilities_S

    def _forward_backward(self, words_NC: Floats) -> tuple[Floats, Floats, Floats]:
        """Sums over all valid sequences up to each word (N, C) and behind it (N, C), by the word's tag.

        Both are divided, word by word, by the numbers (N,) that make the former add up to 1; these are returned, too.
        """
        forward_NC, scales_N = np.empty_like(words_NC), np.empty(len(words_NC))
        free_CC, sharing_CC = self._allowed_2CC.astype(np.float64)
        sharing_N1 = self._shared_N[:, None] == 1
        reached_BC: Floats = np.where(self._inside_C, 0.0, 1.0)
        for position, rows in enumerate(self._by_position):
            if position:
                before_BC = forward_NC[rows - 1]
                reached_BC = np.where(
                    sharing_N1[rows], _product(before_BC, sharing_CC.T), _product(before_BC, free_CC.T)
                )
            sums_BC = reached_BC * words_NC[rows]
            scales_N[rows] = sums_BC.sum(1)
            forward_NC[rows] = sums_BC / scales_N[rows, None]
        backward_NC = np.ones_like(words_NC)
        for rows in reversed(self._by_position[1:]):
            ahead_BC = words_NC[rows] * backward_NC[rows] / scales_N[rows, None]
            backward_NC[rows - 1] = np.where(
                sharing_N1[rows], _product(ahead_BC, sharing_CC), _product(ahead_BC, free_CC)
            )
        return forward_NC, backward_NC, scales_N


def _product(some_BC: Floats, allowed_CC: Floats) -> Floats:
    """A matrix product whose last bits do not depend on the number of rows, as those of BLAS do."""
    product_BC: Floats = np.einsum("bc,cd->bd", some_BC, allowed_CC)
    return product_BC


def _allowed(tags: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a tag (second axis) may follow another (last axis): at a word with a piece of its own, at one without."""
    letters_C = np.array([tag[:1] if tag[1:2] == "-" else "O" for tag in tags])
    types_C = np.array([tag[2:] for tag in tags])
    same_CC = types_C[:, None] == types_C
    return np.stack([same_CC | (letters_C != "I")[:, None], same_CC & (letters_C != "B")[:, None]])


def _tempered(probabilities_NC: Floats, temperature: float) -> Floats:
    """Probabilities at another temperature: those of the logits divided by it."""
    logs_NC = np.log(probabilities_NC) / temperature
    powers_NC = np.exp(logs_NC - logs_NC.max(1, keepdims=True))
    tempered_NC: Floats = np.maximum(powers_NC / powers_NC.sum(1, keepdims=True), SMALLEST)
    return tempered_NC
