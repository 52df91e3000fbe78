"""What was found in an item, as a line of JSON or as columns.

Who tags, a tagger here or a service (`metacross.cli.remote`), makes no difference to what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metacross.bulk.items import Item
from metacross.corpora.characters import visible
from metacross.corpora.utf8 import json_bytes
from metacross.errors import UserError
from metacross.tagging.answers import DIGITS, SupportSentence, TaggedEntity, TaggedText

if TYPE_CHECKING:
    from metacross.tagging.tagger import AdaptiveTagger


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every item.

    Attributes:
        adapt: whether its sentences are adapted to.
        explain: whether the support, and what was found before adaptation, are told.
        output: how it is written.
    """

    adapt: bool = True
    explain: bool = False
    output: Literal["jsonl", "conll"] = "jsonl"


@dataclass(frozen=True)
class Lines:
    """What is written for a group of items.

    Attributes:
        content: its bytes.
        error: why the item behind them, and all after it, cannot be written; "" if the group is complete.
    """

    content: bytes
    error: str = ""


@dataclass(frozen=True)
class TaggedWords:
    """A sentence's words with their tags, for columns.

    Attributes:
        start: offset of the sentence in the item's text.
        end: offset behind it.
        words: its words.
        tags: their IOB2 tags.
    """

    start: int
    end: int
    words: Sequence[str]
    tags: Sequence[str]


@dataclass(frozen=True)
class TaggedItem:
    """What was found in an item.

    Attributes:
        text: the item's text; offsets count its code points.
        entities: in order.
        plain: those found without adaptation, where they were asked for.
        support: the labelled sentences adapted to.
        sentences: in order; exactly one where the words were given.
    """

    text: str
    entities: Sequence[TaggedEntity]
    plain: Sequence[TaggedEntity] = ()
    support: Sequence[SupportSentence] = ()
    sentences: Sequence[TaggedWords] = ()


def tag_items(tagger: AdaptiveTagger, items: Sequence[Item], *, adapt: bool, explain: bool) -> list[TaggedItem]:
    """Tags raw and given sentences together, in their order."""
    raw = iter(tagger.tag_texts([i.text for i in items if i.sentence is None], adapt=adapt, explain=explain))
    given = iter(tagger.tag_sentences([i.sentence for i in items if i.sentence], adapt=adapt, explain=explain))
    return [
        _answer(next(raw) if item.sentence is None else TaggedText(item.text, (next(given),), (0,))) for item in items
    ]


def tag_lines(tagger: AdaptiveTagger, items: Sequence[Item], wanted: Wanted) -> Lines:
    """Tags a group of items and gives what is to be written for them."""
    return lines_of(items, tag_items(tagger, items, adapt=wanted.adapt, explain=wanted.explain), wanted)


def lines_of(items: Sequence[Item], answers: Sequence[TaggedItem], wanted: Wanted) -> Lines:
    """What is to be written for items and what was found in them; up to the first that cannot be written."""
    write = as_columns if wanted.output == "conll" else as_json
    content = []
    for item, answer in zip(items, answers, strict=True):
        try:
            content.append(write(item, answer, explain=wanted.explain))
        except UserError as error:
            return Lines(b"".join(content), str(error))
    return Lines(b"".join(content))


def as_json(item: Item, answer: TaggedItem, *, explain: bool) -> bytes:
    """An item as a line of JSON: its own keys, `text` and `entities`; with given words also their `ner_tags`."""
    record = {**item.record, "text": answer.text}
    if item.sentence is not None:
        record |= {item.words_key: item.given, "ner_tags": _tags_of_given(item, answer.sentences[0].tags)}
    record["entities"] = [_entity(entity) for entity in answer.entities]
    if explain:
        record["plain"] = [_entity(entity) for entity in answer.plain]
        record["support"] = [_support(support) for support in answer.support]
    return json_bytes(record) + b"\n"


def _entity(entity: TaggedEntity) -> dict[str, Any]:
    """An entity with the keys of the HTTP interface."""
    score = {} if entity.score is None else {"score": round(entity.score, DIGITS)}
    return {"start": entity.start, "end": entity.end, "text": entity.text, "label": entity.label, **score}


def _support(support: SupportSentence) -> dict[str, Any]:
    """A labelled sentence with the keys of the HTTP interface, and with its window where that is known."""
    record: dict[str, Any] = {
        "similarity": round(support.similarity, DIGITS),
        "text": support.text,
        "entities": [_entity(entity) for entity in support.entities],
        "start": support.start,
        "end": support.end,
    }
    if support.window is not None:
        record["window"] = support.window
    if support.confidence is not None:
        record["confidence"] = round(support.confidence, DIGITS)
        record["uncertain"] = [{"start": start, "end": end} for start, end in support.uncertain]
    if support.language:
        record["language"] = support.language
    if support.voted:
        record["voted"] = True
    return record


def as_columns(item: Item, answer: TaggedItem, *, explain: bool) -> bytes:
    """An item's words and tags, separated by tabs; every sentence ends with an empty line.

    Raises:
        UserError: a word with a tab or a line break in it.
    """
    lines = []
    for sentence in answer.sentences:
        if explain:
            support = [s for s in answer.support if sentence.start <= s.start < sentence.end]
            lines += [
                f"# {'vote' if s.voted else 'support'} {s.similarity:.4f} {_labelled_by(s)}{' '.join(s.text.split())}"
                for s in support
            ]
            found = [f"{e.label}={e.text}" for e in answer.plain if sentence.start <= e.start < sentence.end]
            lines.append(f"# plain {' '.join('; '.join(found).split()) or 'nothing'}")
        words, tags = sentence.words, sentence.tags
        if item.sentence is not None:
            words, tags = item.given, _tags_of_given(item, tags)
        for word, tag in zip(words, tags, strict=True):
            if not word.strip():  # nothing of it could be seen in a column, even a tab
                word = " "
            if any(character in word for character in "\t\n\r"):
                raise UserError(f"the word {word!r} cannot stand in a column; take --output jsonl")
            lines.append(f"{word}\t{tag}")
        if words:
            lines.append("")
    return "".join(line + "\n" for line in lines).encode("utf-8", "replace")


def _labelled_by(support: SupportSentence) -> str:
    """Language of what stands in an adopted language, and the confidence where a machine labelled it."""
    machine = "" if support.confidence is None else f", machine {support.confidence:.2f}"
    return f"({support.language}{machine}) " if support.language else ""


def _answer(tagged: TaggedText) -> TaggedItem:
    sentences = [
        TaggedWords(start, start + len(s.sentence.text), s.sentence.words, s.tags)
        for s, start in zip(tagged.sentences, tagged.offsets, strict=True)
    ]
    return TaggedItem(tagged.text, tagged.entities(), tagged.plain(), tagged.support(), sentences)


def _tags_of_given(item: Item, tags: Sequence[str]) -> list[str]:
    """A tag for each given word, also for those that nobody sees: they are in an entity only if it goes on behind."""
    shown = iter(tags)
    found = [next(shown) if visible(word) else "" for word in item.given]
    after = "O"
    for i in reversed(range(len(found))):
        found[i] = found[i] or (after if after.startswith("I-") else "O")
        after = found[i]
    return found
