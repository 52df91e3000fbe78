"""`metacross tag --server`: a service's results as `metacross.bulk.lines` writes them, with the same keys as at home.

Two things differ, since the contract does not tell them: support has no `window`, and words get their tags by offsets.
An entity that covers a part of a word marks the word; of two entities in one word the first counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from metacross.bulk.items import Item
from metacross.bulk.lines import TaggedItem, TaggedWords
from metacross.client import Client, Entity, Result, ServiceUnavailable, Support
from metacross.corpora.sentence import sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.tagging.answers import SupportSentence, TaggedEntity

Span = tuple[int, int]


def tag_items(client: Client, items: Sequence[Item], *, adapt: bool, explain: bool) -> list[TaggedItem]:
    """Tags raw and given sentences together, in their order; what has no words is not sent.

    Raises:
        UserError: the service refuses an item, or the address is wrong.
        ServiceUnavailable: no answer of use.
    """
    sent = [item for item in items if _has_words(item)]
    texts = [item.text for item in sent if item.sentence is None]
    words = [item.sentence.words for item in sent if item.sentence is not None]
    raw = client.stream(texts, adapt=adapt, explain=explain)
    given = client.stream(words, adapt=adapt, explain=explain)
    return [
        answer(item, next(raw if item.sentence is None else given) if _has_words(item) else Result(item.text, ()))
        for item in items
    ]


def answer(item: Item, result: Result) -> TaggedItem:
    """A result with the keys of local tagging, and its sentences' tags.

    Raises:
        ServiceUnavailable: the words sent are not those of the result's text.
    """
    entities = [_entity(entity) for entity in result.entities]
    plain = [_entity(entity) for entity in result.plain or ()]
    support = [_support(support) for support in result.support or ()]
    if item.sentence is None:
        sentences = [_raw(result, start, end) for start, end in split_sentences(result.text)]
    else:
        words = item.sentence.words
        spans = item.sentence.spans if result.text == item.text else word_spans(words, result.text)
        tags = word_tags(spans, result.entities)
        sentences = [TaggedWords(0, len(result.text), words, tags)]
    return TaggedItem(result.text, entities, plain, support, sentences)


def word_spans(words: Sequence[str], text: str) -> list[Span]:
    """Where words stand in a text that holds them one after the other, with white space between them or none.

    Raises:
        ServiceUnavailable: they are not the words of this text.

    >>> word_spans(["New", "York", "。"], "New York。")
    [(0, 3), (4, 8), (8, 9)]
    """
    spans = []
    at = 0
    for word in words:
        while not text.startswith(word, at) and text[at : at + 1].isspace():
            at += 1
        if not text.startswith(word, at):
            raise ServiceUnavailable(f"the service's text {text[:80]!r} does not go on with the word {word!r} at {at}")
        spans.append((at, at + len(word)))
        at += len(word)
    return spans


def word_tags(spans: Sequence[Span], entities: Sequence[Entity]) -> tuple[str, ...]:
    """The IOB2 tags of words, from the offsets of entities.

    >>> word_tags([(0, 3), (4, 8), (8, 9)], [Entity(0, 8, "New York", "LOC")])
    ('B-LOC', 'I-LOC', 'O')
    """
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    tags = ["O"] * len(spans)
    for entity in entities:
        first, behind = bisect_right(ends, entity.start), bisect_left(starts, entity.end)
        if first < behind and all(tag == "O" for tag in tags[first:behind]):
            tags[first:behind] = [f"B-{entity.label}"] + [f"I-{entity.label}"] * (behind - first - 1)
    return tuple(tags)


def _has_words(item: Item) -> bool:
    return bool(item.text.strip() if item.sentence is None else item.sentence.words)


def _raw(result: Result, start: int, end: int) -> TaggedWords:
    """A sentence of raw text, its words found as the tagger finds them."""
    sentence = sentence_from_text(result.text[start:end])
    spans = [(start + first, start + behind) for first, behind in sentence.spans]
    return TaggedWords(start, end, sentence.words, word_tags(spans, result.entities))


def _entity(entity: Entity) -> TaggedEntity:
    return TaggedEntity(entity.start, entity.end, entity.text, entity.label, entity.score)


def _support(support: Support) -> SupportSentence:
    entities = tuple(_entity(entity) for entity in support.entities)
    return SupportSentence(
        support.similarity,
        support.text,
        entities,
        support.start,
        support.end,
        confidence=support.confidence,
        language=support.language or "",
        uncertain=tuple((stretch.start, stretch.end) for stretch in support.uncertain or ()),
        voted=bool(support.voted),
    )
