"""Labelled sentences as users send them: a text with its entities, or words with their tags.

Nothing is guessed: what does not fit exactly is refused, and the message says what would fit. An entity that was moved
silently would be stored, and would teach what nobody marked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from metacross.corpora.languages import main_language
from metacross.corpora.sentence import EntitySpan, Sentence, entities, sentence_from_text, sentence_from_words, tags_of
from metacross.corpora.types import named_type, unknown_type
from metacross.errors import UserError
from metacross.wording import counted

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def sentence_of(text: str, marked: Sequence[tuple[int, int, str]], *, labels: Collection[str]) -> Sentence:
    """Makes a sentence of raw text, whose words `metacross.corpora.words.split_words` finds.

    Args:
        text: the sentence's text, which is not changed.
        marked: (start, end, label) of each entity, offsets in code points, in any order.
        labels: the labels that an entity may have; another spelling of one stands for it.

    Raises:
        UserError: there are no words, or characters that cannot be stored; or an entity has another label, is outside
            the text, does not begin and end where words do, or overlaps another.

    >>> sentence_of("Ana lebt in Rom.", [(12, 15, "LOC"), (0, 3, "PER")], labels={"LOC", "PER"}).tags
    ('B-PER', 'O', 'O', 'B-LOC', 'O')
    """
    refuse_unstorable("the text", text)
    sentence = sentence_from_text(text)
    if not sentence.words:
        raise UserError("the text is empty; expected at least one word.")
    return with_entities(sentence, marked, labels=labels)


def with_entities(sentence: Sentence, marked: Sequence[tuple[int, int, str]], *, labels: Collection[str]) -> Sentence:
    """The sentence with these entities in place of those that it has; arguments and errors as for `sentence_of`."""
    text = sentence.text
    starts = {start: word for word, (start, _) in enumerate(sentence.spans)}
    ends = {end: word for word, (_, end) in enumerate(sentence.spans)}
    owners: dict[int, str] = {}  # word -> name of the entity that it belongs to
    spans = []
    for number, (start, end, label) in enumerate(marked, 1):
        name = f"entity {number} ({_shown(text, start, end)})"
        type_ = _known(name, label, labels)
        if not 0 <= start < end <= len(text):
            raise UserError(f"{name} is empty or reaches outside of the text's {len(text)} code points.")
        if start not in starts or end not in ends:
            nearest = _shown(text, *_nearest(sentence, start, end))
            raise UserError(f"{name} does not begin and end where words do; the nearest that does is {nearest}.")
        span = EntitySpan(type_, starts[start], ends[end] + 1)
        for word in range(span.start, span.end):
            if word in owners:
                raise UserError(f"{name} overlaps {owners[word]}; a word can be in one entity only.")
            owners[word] = name
        spans.append(span)
    return replace(sentence, tags=tuple(tags_of(spans, len(sentence.words))))


def sentence_of_words(
    words: Sequence[str], tags: Sequence[str], *, labels: Collection[str], language: str = ""
) -> Sentence:
    """Makes a sentence of words and their IOB2 tags.

    Args:
        words: the text is rebuilt from them, see `metacross.corpora.sentence.sentence_from_words`.
        tags: one for each word.
        labels: the labels that an entity may have; another spelling of one stands for it.
        language: a BCP 47 tag, "" where it is not known.

    Raises:
        UserError: there are no words, a word without a visible character, characters that cannot be stored, more or
            fewer tags than words, tags that are not IOB2, or another label.
    """
    if not words:
        raise UserError("there are no words; expected at least one.")
    for number, word in enumerate(words, 1):
        refuse_unstorable(f"word {number}", word)
        if not word.strip():
            raise UserError(f"word {number} is empty; leave it out, with its tag.")
    sentence = sentence_from_words(words, tags, language=main_language(language) or None)
    return with_tags(sentence, tags, labels=labels)


def with_tags(sentence: Sentence, tags: Sequence[str], *, labels: Collection[str]) -> Sentence:
    """The sentence with these tags in place of those that it has; arguments and errors as for `sentence_of_words`."""
    words = sentence.words
    if len(tags) != len(words):
        raise UserError(
            f"found {counted(len(words), 'words')} and {counted(len(tags), 'tags')}; expected as many of both."
        )
    for number, (tag, as_iob2) in enumerate(zip(tags, tags_of(entities(tags), len(words)), strict=True), 1):
        if tag != as_iob2:
            raise UserError(
                f"tag {number} ({tag!r}) is not IOB2; expected O outside of entities, B- and a label on an entity's "
                "first word, I- and the same label on its others."
            )
    found = [EntitySpan(_known(f"tag {start + 1}", label, labels), start, end) for label, start, end in entities(tags)]
    return replace(sentence, tags=tuple(tags_of(found, len(words))))


def refuse_unstorable(name: str, text: str) -> None:
    """Refuses characters that a database cannot hold: halves of surrogate pairs, and NUL.

    Raises:
        UserError: the text has one. The message begins with `name`, and says where.
    """
    match = _UNSTORABLE.search(text)
    if match:
        kind = "NUL" if match[0] == "\0" else "half of a surrogate pair"
        raise UserError(
            f"{name} holds U+{ord(match[0]):04X} ({kind}) at {match.start()}, which cannot be kept; leave it out."
        )


def _known(name: str, label: str, labels: Collection[str]) -> str:
    """The label that is meant. UserError where there is none; the message begins with `name`."""
    known = named_type(label, labels)
    if known is None:
        raise UserError(f"{name} has {unknown_type(label, labels)}")
    return known


def _shown(text: str, start: int, end: int) -> str:
    """Offsets, and the beginning of the text between them."""
    between = text[max(start, 0) : max(end, 0)]
    return f"{start}:{end} {(between if len(between) <= 40 else between[:39] + '…')!r}"


def _nearest(sentence: Sentence, start: int, end: int) -> tuple[int, int]:
    """Start and end of the words whose borders are nearest to these offsets."""
    first = min((s for s, _ in sentence.spans), key=lambda border: abs(border - start))
    return first, min((e for _, e in sentence.spans if e > first), key=lambda border: abs(border - end))
