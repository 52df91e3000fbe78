"""From tag probabilities to tags, and from tags to the entities of a text.

Shapes: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from metacross.corpora.characters import visible, visible_part
from metacross.corpora.sentence import EntitySpan, Sentence, entities, tags_of
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


def visible_entities(tags: Iterable[str], words: Sequence[str]) -> list[EntitySpan]:
    r"""The entities that IOB2 tags mark, without words at their ends in which nothing can be seen.

    Raw text has no such words, but callers may give them. An entity of such words alone is left out.

    >>> visible_entities(["B-PER", "I-PER", "B-LOC"], ["\u200b", "Ana", "\xa0"])
    [EntitySpan(type='PER', start=1, end=2)]
    """
    found = []
    for kind, start, end in entities(tags):
        seen = [w for w in range(start, end) if visible(words[w])]
        if seen:
            found.append(EntitySpan(kind, seen[0], seen[-1] + 1))
    return found


def found_entities(sentence: Sentence, decoded: Decoded) -> tuple[TaggedEntity, ...]:
    """The entities that decoded tags mark in their sentence, with scores."""
    return tuple(
        _entity(sentence, e, float(decoded.probabilities_W[e.start : e.end].mean()))
        for e in visible_entities(decoded.tags, sentence.words)
    )


def labelled_entities(sentence: Sentence) -> tuple[TaggedEntity, ...]:
    """The entities that a labelled sentence's own tags mark."""
    return tuple(_entity(sentence, e, None) for e in visible_entities(sentence.tags or (), sentence.words))


def _entity(sentence: Sentence, entity: EntitySpan, score: float | None) -> TaggedEntity:
    # A given word may have invisible characters at its ends, too.
    start, end = visible_part(sentence.text, sentence.spans[entity.start][0], sentence.spans[entity.end - 1][1])
    return TaggedEntity(entity.type, start, end, sentence.text[start:end], score)
