"""From the tag probabilities of windows to those of sentences, and from their tags to the entities of a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from metacross.corpora.characters import can_be_seen, visible_part
from metacross.corpora.sentence import EntitySpan, Sentence, entities, tags_of
from metacross.encoder.windows import Window
from metacross.tagging.answers import TaggedEntity
from metacross.tagging.tag_sequences import Segment, TaggedWords


def tagged_words(windows: Sequence[tuple[Window, Tensor]]) -> TaggedWords:
    """The words of a sentence, from all of its windows in order, each with tag probabilities of its scored words."""
    shared = [flag for window, _ in windows for flag in shared_pieces(window)]
    parts = [probabilities_WC.numpy() for _, probabilities_WC in windows]
    return TaggedWords(np.concatenate(parts or [np.empty((0, 0))]), shared)


def shared_pieces(window: Window) -> list[bool]:
    """Whether each scored word has no word piece of its own: its tag is read where the word before it is."""
    first = window.scored[0] - window.start
    pieces = window.first_pieces
    return [i > 0 and pieces[i] == pieces[i - 1] for i in range(first, first + len(window.scored_pieces()))]


def found_entities(sentence: Sentence, segments: Iterable[Segment]) -> tuple[tuple[str, ...], tuple[TaggedEntity, ...]]:
    """The tags and entities, with scores, of a sentence in which `TagChains.segments` found these segments.

    The tags agree with the entities: neither count words that nobody sees at an entity's ends.
    """
    scored = [(EntitySpan(s.type, s.start, s.end), s.probability) for s in segments if s.type != "O"]
    seen = [(span, score) for entity, score in scored for span in _visible_words(entity, sentence.words)]
    tags = tags_of((span for span, _ in seen), len(sentence.words))
    return tuple(tags), tuple(_entity(sentence, span, score) for span, score in seen)


def labelled_entities(sentence: Sentence) -> tuple[TaggedEntity, ...]:
    """The entities that a labelled sentence's own tags mark."""
    return tuple(_entity(sentence, e, None) for e in visible_entities(sentence.tags or (), sentence.words))


def visible_entities(tags: Iterable[str], words: Sequence[str]) -> list[EntitySpan]:
    r"""The entities that IOB2 tags mark, without words at their ends in which nothing can be seen.

    Callers may give such words, and a mark without a letter is one. An entity of such words alone is left out.

    >>> visible_entities(["B-PER", "I-PER", "B-LOC"], ["\u200b", "Ana", "\xa0"])
    [EntitySpan(type='PER', start=1, end=2)]
    """
    return [span for entity in entities(tags) for span in _visible_words(entity, words)]


def _visible_words(entity: EntitySpan, words: Sequence[str]) -> Iterator[EntitySpan]:
    """The entity from its first to its last visible word; nothing if it has none."""
    seen = [w for w in range(entity.start, entity.end) if can_be_seen(words[w])]
    if seen:
        yield EntitySpan(entity.type, seen[0], seen[-1] + 1)


def _entity(sentence: Sentence, entity: EntitySpan, score: float | None) -> TaggedEntity:
    # A given word may have invisible characters at its ends, too.
    start, end = visible_part(sentence.text, sentence.spans[entity.start][0], sentence.spans[entity.end - 1][1])
    return TaggedEntity(start, end, sentence.text[start:end], entity.type, score)
