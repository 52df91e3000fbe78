"""What `metacross tag` reads and writes: raw text, JSON lines and columns, an item at a time.

Who tags, a tagger here or a service (`metacross.cli.remote`), makes no difference to what is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from metacross.corpora.characters import visible
from metacross.corpora.formats.columns import read_columns
from metacross.corpora.formats.json_lines import read_json_lines
from metacross.corpora.formats.recognise import opened
from metacross.corpora.formats.records import WORD_KEYS
from metacross.corpora.names import names_corpus
from metacross.corpora.raw import Document, RawSentence, ReadOptions
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.source import Source
from metacross.corpora.utf8 import json_bytes
from metacross.errors import UserError
from metacross.sequences import groups
from metacross.tagging.answers import DIGITS, SupportSentence, TaggedEntity, TaggedText
from metacross.tagging.huggingface import entity_keys, support_keys

if TYPE_CHECKING:
    from metacross.tagging.tagger import AdaptiveTagger

Format = Literal["text", "jsonl", "conll", "corpus"]

# Items are tagged and written in groups, so that a file of any length needs little memory.
GROUP_ITEMS = 128
GROUP_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Item:
    """One thing to be tagged: raw text, or a sentence whose words were given.

    Attributes:
        text: what is tagged.
        sentence: its words, if they were given.
        record: the JSON object it came from, whose keys are kept.
        words_key: where that has the words.
        given: the words as they were given; `sentence` has what can be seen of them.
    """

    text: str
    sentence: Sentence | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    words_key: str = "tokens"
    given: tuple[str, ...] = ()


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


def guess_format(name: str) -> Format:
    """The format that a file's name stands for, compressed or not; text where it says nothing."""
    return "corpus" if names_corpus(name) else "text"


@contextmanager
def opened_items(name: str, form: Format) -> Iterator[tuple[Source, Iterator[Item]]]:
    """Opens what is to be tagged: it is read as corpora are, but needs no tags; those that it has are left out.

    Args:
        name: the file; - is standard input.
        form: text: a text a line. jsonl: an object a line, with "text", or with "tokens" or "words". conll: a word a
            line. corpus: any format that corpora are read from, recognised by its content.

    Yields:
        the file, whose oddities are complete when all of it was read, and its items, one by one.

    Raises:
        UserError: the file cannot be read, or a line breaks the format; names file and line.
    """
    stream = sys.stdin.buffer if name == "-" else None
    options = ReadOptions(labelled=False)
    if form == "corpus":
        with opened(name, options, stream) as (source, reading):
            yield source, (_item(item, source) for item in reading.items)
        return
    with Source(name, stream) as source:
        if form == "text":
            yield source, (Item(line) for line in source.lines())
        else:
            reading = (read_columns if form == "conll" else read_json_lines)(source, options)
            yield source, (_item(item, source) for item in reading.items)


def in_groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items in groups of bounded size. Those before an error are given before it is raised."""
    return groups(items, size=lambda item: len(item.text), most=GROUP_CHARACTERS, most_items=GROUP_ITEMS)


def tag_items(tagger: AdaptiveTagger, items: Sequence[Item], *, adapt: bool, explain: bool) -> list[TaggedItem]:
    """Tags raw and given sentences together, in their order."""
    raw = iter(tagger.tag_texts([i.text for i in items if i.sentence is None], adapt=adapt, explain=explain))
    given = iter(tagger.tag_sentences([i.sentence for i in items if i.sentence], adapt=adapt, explain=explain))
    return [
        _answer(next(raw) if item.sentence is None else TaggedText(item.text, (next(given),), (0,))) for item in items
    ]


def as_json(item: Item, answer: TaggedItem, *, explain: bool) -> bytes:
    """An item as a line of JSON: its own keys, `text` and `entities`; with given words also their `ner_tags`."""
    record = {**item.record, "text": answer.text}
    if item.sentence is not None:
        record |= {item.words_key: item.given, "ner_tags": _tags_of_given(item, answer.sentences[0].tags)}
    record["entities"] = _rounded([entity_keys(entity) for entity in answer.entities])
    if explain:
        record["plain_entities"] = _rounded([entity_keys(entity) for entity in answer.plain])
        record["support"] = _rounded([{**support_keys(s), "start": s.start, "end": s.end} for s in answer.support])
    return json_bytes(record) + b"\n"


def _rounded(value: Any) -> Any:
    """What is to be written, with numbers of as many digits as mean something."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value


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
            found = [f"{e.type}={e.text}" for e in answer.plain if sentence.start <= e.start < sentence.end]
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
    return TaggedItem(tagged.text, tagged.entities(), tagged.plain_entities(), tagged.support(), sentences)


def _item(item: RawSentence | Document, source: Source) -> Item:
    if isinstance(item, Document):
        if item.words == () and not item.text:  # a sentence without words stays one
            key = next((key for key in WORD_KEYS if key in item.record), WORD_KEYS[0])
            return Item("", sentence_from_words([]), item.record, key)
        return Item(item.text, record=item.record)
    given = [row.word for row in item.rows]
    words = [visible(word) for word in given]
    place = source.place(item.rows[0].line) if item.rows else source.path
    sentence = sentence_from_words([word for word in words if word], place=place)
    return Item(sentence.text, sentence, item.record, item.words_key, tuple(given))


def _tags_of_given(item: Item, tags: Sequence[str]) -> list[str]:
    """A tag for each given word, also for those that nobody sees: they are in an entity only if it goes on behind."""
    shown = iter(tags)
    found = [next(shown) if visible(word) else "" for word in item.given]
    after = "O"
    for i in reversed(range(len(found))):
        found[i] = found[i] or (after if after.startswith("I-") else "O")
        after = found[i]
    return found
