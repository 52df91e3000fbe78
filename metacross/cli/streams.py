"""What `metacross tag` reads and writes: raw text, JSON lines and columns, an item at a time.

Who tags, a tagger here or a service (`metacross.cli.remote`), makes no difference to what is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, Literal

from metacross.corpora.schemes import is_tag
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.errors import UserError
from metacross.sequences import groups
from metacross.tagging.answers import SupportSentence, TaggedEntity, TaggedText
from metacross.tagging.huggingface import entity_keys, support_keys

if TYPE_CHECKING:
    from metacross.tagging.tagger import AdaptiveTagger

Format = Literal["text", "jsonl", "conll"]

# Items are tagged and written in groups, so that a file of any length needs little memory.
GROUP_ITEMS = 128
GROUP_CHARACTERS = 1 << 16

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Item:
    """One thing to be tagged: raw text, or a sentence whose words were given.

    Attributes:
        text: what is tagged.
        sentence: its words, if they were given.
        record: the JSON object it came from, whose keys are kept.
        words_key: where that has the words.
    """

    text: str
    sentence: Sentence | None = None
    record: dict[str, Any] = field(default_factory=dict)
    words_key: str = "tokens"


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
    """The format that a file's name stands for; text where it says nothing."""
    ending = PurePath(name).suffix.lower()
    if ending in {".jsonl", ".json", ".ndjson"}:
        return "jsonl"
    return "conll" if ending in {".conll", ".bio", ".iob", ".iob2", ".tsv"} else "text"


def read_items(stream: IO[bytes], name: str, form: Format) -> Iterator[Item]:
    """The items of a stream, one by one.

    Args:
        stream: UTF-8.
        name: the file's name, for messages.
        form: text: a text a line. jsonl: an object a line, with "text", or with "tokens" or "words" (they win). conll:
            a word a line, in the first column (the second, where the first counts the words); other columns are
            passed over; sentences end at an empty line.

    Raises:
        UserError: a line that breaks the format; names file and line.
    """
    lines = _lines(stream, name)
    if form == "text":
        return (Item(line) for _, line in lines)
    return _json_items(lines, name) if form == "jsonl" else _column_items(lines, name)


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
        record |= {item.words_key: item.sentence.words, "ner_tags": answer.sentences[0].tags}
    record["entities"] = [entity_keys(entity) for entity in answer.entities]
    if explain:
        record["plain_entities"] = [entity_keys(entity) for entity in answer.plain]
        record["support"] = [{**support_keys(s), "start": s.start, "end": s.end} for s in answer.support]
    line = json.dumps(record, ensure_ascii=False)
    # UTF-8 has no lone surrogates, JSON has.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", line).encode() + b"\n"


def as_columns(item: Item, answer: TaggedItem, *, explain: bool) -> bytes:
    """An item's words and tags, separated by tabs; every sentence ends with an empty line.

    Raises:
        UserError: a word with a tab or a line break in it.
    """
    lines = []
    for sentence in answer.sentences:
        if explain:
            support = [s for s in answer.support if sentence.start <= s.start < sentence.end]
            lines += [f"# support {s.similarity:.4f} {' '.join(s.text.split())}" for s in support]
            found = [f"{e.type}={e.text}" for e in answer.plain if sentence.start <= e.start < sentence.end]
            lines.append(f"# plain {' '.join('; '.join(found).split()) or 'nothing'}")
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            if any(character in word for character in "\t\n\r"):
                raise UserError(f"the word {word!r} cannot stand in a column; take --output jsonl")
            lines.append(f"{word}\t{tag}")
        if sentence.tags:
            lines.append("")
    return "".join(line + "\n" for line in lines).encode("utf-8", "replace")


def _answer(tagged: TaggedText) -> TaggedItem:
    sentences = [
        TaggedWords(start, start + len(s.sentence.text), s.sentence.words, s.tags)
        for s, start in zip(tagged.sentences, tagged.offsets, strict=True)
    ]
    return TaggedItem(tagged.text, tagged.entities(), tagged.plain_entities(), tagged.support(), sentences)


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{name}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from None


def _json_items(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Item]:
    expected = 'expected an object such as {"text": "..."} or {"tokens": ["...", "..."]}'
    for number, line in lines:
        place = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not JSON ({error}); {expected}") from None
        if not isinstance(record, dict):
            raise UserError(f"{place}: found {line[:40]}; {expected}")
        key = next((key for key in ("tokens", "words", "text") if key in record), None)
        if key is None:
            raise UserError(f"{place}: found the keys {', '.join(record) or '(none)'}; {expected}")
        value = record[key]
        if key == "text" and isinstance(value, str):
            yield Item(value, record=record)
        elif key != "text" and isinstance(value, list) and all(isinstance(word, str) for word in value):
            yield _given(value, place, record, key)
        else:
            raise UserError(f"{place}: {key} is {json.dumps(value)[:40]}; {expected}")


def _column_items(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Item]:
    block: list[list[str]] = []
    first = 0
    for number, line in lines:
        if not line.strip() or line.startswith("-DOCSTART-"):
            if block:
                yield _block(block, f"{name}:{first}")
            block = []
        else:
            fields = line.split("\t") if "\t" in line else line.split(" ")
            # A comment stands before its sentence; elsewhere, and with a tag behind it, # is a word.
            if line.startswith("# ") and not block and not is_tag(fields[-1]):
                continue
            if not fields[0].strip():
                raise UserError(f"{name}:{number}: found {line[:40]!r}; expected a word in the first column")
            first = first if block else number
            block.append(fields)
    if block:
        yield _block(block, f"{name}:{first}")


def _block(block: Sequence[Sequence[str]], place: str) -> Item:
    numbered = all(len(fields) > 1 and fields[0] == str(i) for i, fields in enumerate(block, 1))
    return _given([fields[numbered] for fields in block], place, {}, "tokens")


def _given(words: Sequence[str], place: str, record: dict[str, Any], key: str) -> Item:
    sentence = sentence_from_words(words, place=place)
    return Item(sentence.text, sentence, record, key)
