"""From tag probabilities to tags, and from tags to the entities of a text.

Shapes: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from metacross.corpora.sentence import Sentence, entities, tags_of
from metacross.tagging.answers import TaggedEntity


class Decoded(NamedTuple):
    """A sentence's tags, IOB2, and the probability (W,) of each."""

    tags: list[str]
    probabilities_W: Tensor


def decode(probabilities_WC: Tensor, tags: Sequence[str], shared: Sequence[bool]) -> Decoded:
    """The likeliest tag of every word, made valid IOB2: an I- tag that continues no entity of its type begins one.

    Args:
        probabilities_WC: each word's tag probabilities.
        tags: the tags that the columns stand for.
        shared: whether a word shares its piece with the word before it, and so continues that word's entity.
    """
    if not len(probabilities_WC):
        return Decoded([], probabilities_WC.new_empty(0))
    best_W, ids_W = probabilities_WC.max(1)
    found = [tags[i] for i in ids_W.tolist()]
    for w in range(1, len(found)):
        if shared[w] and found[w] != "O":
            found[w] = "I-" + found[w][2:]
    return Decoded(tags_of(entities(found), len(found)), best_W)


def found_entities(sentence: Sentence, decoded: Decoded) -> tuple[TaggedEntity, ...]:
    """The entities that decoded tags mark in their sentence, with scores."""
    return tuple(
        _entity(sentence, e.type, e.start, e.end, float(decoded.probabilities_W[e.start : e.end].mean()))
        for e in entities(decoded.tags)
    )


def labelled_entities(sentence: Sentence) -> tuple[TaggedEntity, ...]:
    """The entities that a labelled sentence's own tags mark."""
    return tuple(_entity(sentence, e.type, e.start, e.end, None) for e in entities(sentence.tags or ()))


def _entity(sentence: Sentence, kind: str, first: int, behind: int, score: float | None) -> TaggedEntity:
    start, end = sentence.spans[first][0], sentence.spans[behind - 1][1]
    return TaggedEntity(kind, start, end, sentence.text[start:end], score)
