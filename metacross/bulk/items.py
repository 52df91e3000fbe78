"""What is to be tagged, read an item at a time: raw text, JSON lines and columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from metacross.corpora.characters import visible
from metacross.corpora.formats.columns import read_columns
from metacross.corpora.formats.json_lines import read_json_lines
from metacross.corpora.formats.recognise import opened
from metacross.corpora.formats.records import WORD_KEYS
from metacross.corpora.names import names_corpus
from metacross.corpora.raw import Document, RawSentence, ReadOptions
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.source import Source
from metacross.sequences import groups

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
