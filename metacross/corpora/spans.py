"""From a text with marked entities to sentences with words and tags, and back.

Annotation tools mark characters, the model tags words. What does not fit is cut or left out, and counted: an edge
inside a word cuts the word, a sentence never ends inside an entity, and of overlapping entities the longest is kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from metacross.corpora.characters import visible_part
from metacross.corpora.raw import Document, Marked, Oddities
from metacross.corpora.sentence import EntitySpan, Sentence, entities, tags_of
from metacross.corpora.words import split_sentences, split_words

Span = tuple[int, int]
"""Start and end of a stretch of text, in code points."""

_Stretch = TypeVar("_Stretch", Span, Marked)
_NO_TYPES = frozenset({"", "O", "-", "_"})  # as the type in a tag, these mean that nothing is marked


def sentences_of(document: Document, *, oddities: Oddities) -> list[Sentence]:
    """Finds the sentences and words of a document, and gives the words the tags of its entities.

    A sentence's text is an unchanged part of the document's; white space between sentences is in none. Words are those
    of the document, or found by `corpora.words.split_words`.

    Args:
        document: a text with its entities.
        oddities: gets what was cut or left out.

    Returns:
        The sentences, in order, none without words. `presplit` is True where the model must keep to the words' borders:
        the document gave the words, or an entity cut one.
    """
    text = document.text
    marked = _sound_entities(document, oddities)
    given = None if document.words is None else _sound_words(text, document.words, document.place, oddities)
    sentences = []
    for start, end in _sentence_spans(text, (marked, given or ())):
        inside = _between(marked, start, end)
        if given is None:
            words = [(start + first, start + last) for first, last in split_words(text[start:end])]
        else:
            words = _between(given, start, end)
            words = _covering(text, words, inside, document.place, oddities)
        cut = _cut(text, words, inside, document.place, oddities)
        if given is not None:
            _count_gaps(text, (start, end), cut, document.place, oddities)
        if cut:
            sentences.append(
                Sentence(
                    text=text[start:end],
                    words=tuple(text[first:last] for first, last in cut),
                    spans=tuple((first - start, last - start) for first, last in cut),
                    tags=None if document.marked is None else _tags(cut, inside),
                    presplit=given is not None or cut != words,
                    place=document.place,
                )
            )
    return sentences


def document_of(sentence: Sentence) -> Document:
    """A sentence as a document of its own, with its words: the inverse of `sentences_of`."""
    marked = None
    if sentence.tags is not None:
        marked = tuple(
            Marked(sentence.spans[start][0], sentence.spans[end - 1][1], kind)
            for kind, start, end in entities(sentence.tags)
        )
    return Document(sentence.text, marked, sentence.spans, sentence.place)


def type_name(kind: str) -> str:
    """An entity type as it stands in a tag, which ends at white space.

    >>> type_name("Public body")
    'Public_body'
    """
    return "_".join(kind.split())


def _at(document: Document, entity: Marked) -> str:
    """Where an entity is, for messages."""
    place = f"{document.place}, " if document.place else ""
    return f"{place}characters {entity.start} to {entity.end}"


def _sound_entities(document: Document, oddities: Oddities) -> list[Marked]:
    """The entities that tags can express, in order: visible at both ends, typed, none overlapping another."""
    sound: dict[Marked, None] = {}
    for entity in document.marked or ():
        if not 0 <= entity.start < entity.end <= len(document.text):
            oddities.count("entities left out for being empty or outside of the text", _at(document, entity))
            continue
        start, end = visible_part(document.text, entity.start, entity.end)
        kind = type_name(entity.type)
        if start == end:
            oddities.count("entities without visible text, left out", _at(document, entity))
            continue
        if (start, end) != entity[:2]:
            oddities.count("entities with invisible characters at an end, which were left out", _at(document, entity))
        if kind in _NO_TYPES:
            oddities.count("entities whose type means that there is none (O, - or _), left out", _at(document, entity))
            continue
        if kind != entity.type:
            oddities.count("entities whose type has white space, written _ in tags", _at(document, entity))
        if Marked(start, end, kind) in sound:
            oddities.count("entities marked twice, the second left out", _at(document, entity))
        sound[Marked(start, end, kind)] = None
    return _apart(document, sound, oddities)


def _apart(document: Document, marked: Iterable[Marked], oddities: Oddities) -> list[Marked]:
    """Of entities that overlap keeps the longest; of two on the same text, the first in the file."""
    apart: list[Marked] = []  # by their starts
    for entity in sorted(marked, key=lambda entity: (entity.start - entity.end, entity.start)):
        at = bisect_left(apart, entity.start, key=_start)
        if (at and apart[at - 1].end > entity.start) or (at < len(apart) and apart[at].start < entity.end):
            oddities.count("entities left out for overlapping one at least as long", _at(document, entity))
        else:
            apart.insert(at, entity)
    return apart


def _sound_words(text: str, words: Iterable[Span], place: str, oddities: Oddities) -> list[Span]:
    """A document's words without white space and without those that are impossible."""
    sound: list[Span] = []
    end = 0  # of the word before
    for word in words:
        if not end <= word[0] <= word[1] <= len(text):
            oddities.count("words left out for overlapping the one before or lying outside of the text", place)
            continue
        # Tokenizers make words of white space; it stays in the text, but is nothing to be tagged.
        start, end = visible_part(text, *word)
        if start < end:
            sound.append((start, end))
    return sound


def _sentence_spans(text: str, unbroken: Iterable[Sequence[Span | Marked]]) -> list[Span]:
    """The sentences of a text; two are joined if the border between them lies inside an entity or word.

    Args:
        text: the text.
        unbroken: the entities, and the words; each in order and without overlaps.
    """
    spans: list[Span] = []
    for start, end in split_sentences(text):
        if spans and any(_crosses(stretches, start) for stretches in unbroken):
            start = spans.pop()[0]
        spans.append((start, end))
    return spans


def _crosses(stretches: Sequence[Span | Marked], border: int) -> bool:
    """Whether one of these begins before a border and ends behind it."""
    before = bisect_left(stretches, border, key=_start) - 1
    return before >= 0 and stretches[before][1] > border


def _covering(text: str, words: list[Span], marked: Sequence[Marked], place: str, oddities: Oddities) -> list[Span]:
    """Adds words for those parts of entities that no word of the document covers."""
    added: list[Span] = []
    for entity in marked:
        begin, end, _ = entity
        first = bisect_right(words, begin, key=_end)
        inside = [edge for word in words[first : bisect_left(words, end, key=_start)] for edge in word]
        edges = [begin, *(min(max(edge, begin), end) for edge in inside), end]
        for gap in zip(edges[::2], edges[1::2], strict=True):
            start, stop = visible_part(text, *gap)
            added += [(start + first, start + last) for first, last in split_words(text[start:stop])]
    if added:
        oddities.count("words added where an entity has text that is in no word of the file", place, len(added))
    return sorted([*words, *added])


def _cut(text: str, words: Sequence[Span], marked: Sequence[Marked], place: str, oddities: Oddities) -> list[Span]:
    """Cuts the words inside of which an entity begins or ends."""
    edges = sorted({edge for entity in marked for edge in entity[:2]})
    parts: list[Span] = []
    inner: set[int] = set()  # the edges that cut
    for start, end in words:
        cuts = edges[bisect_right(edges, start) : bisect_left(edges, end)]
        if not cuts:
            parts.append((start, end))
            continue
        inner.update(cuts)
        visible = (visible_part(text, *part) for part in pairwise([start, *cuts, end]))
        parts += [(first, last) for first, last in visible if first < last]
    for entity in marked:
        if inner.intersection(entity[:2]):
            oddities.count(
                "entities with an end inside a word, which was cut there",
                f"{place}: {text[entity.start : entity.end]!r}",
            )
    return parts


def _count_gaps(text: str, sentence: Span, words: Sequence[Span], place: str, oddities: Oddities) -> None:
    """Counts what can be seen between the words of a sentence: nothing of it is tagged."""
    edges = [sentence[0], *(edge for word in words for edge in word), sentence[1]]
    gaps = [visible_part(text, start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    if number := sum(start < end for start, end in gaps):
        oddities.count("parts of texts in no word of the file, left without tags", place, number)


def _tags(words: Sequence[Span], marked: Iterable[Marked]) -> tuple[str, ...]:
    """The words' tags; every entity begins where a word begins and ends where one ends."""
    spans = [
        EntitySpan(kind, bisect_left(words, start, key=_start), bisect_left(words, end, key=_start))
        for start, end, kind in marked
    ]
    return tuple(tags_of(spans, len(words)))


def _between(stretches: Sequence[_Stretch], start: int, end: int) -> list[_Stretch]:
    """Those that begin in a part of the text."""
    return list(stretches[bisect_left(stretches, start, key=_start) : bisect_left(stretches, end, key=_start)])


def _start(stretch: Span | Marked) -> int:
    return stretch[0]


def _end(stretch: Span | Marked) -> int:
    return stretch[1]
