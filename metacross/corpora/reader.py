"""Reading a corpus: from a file of any format, encoding and tagging scheme to sentences with IOB2 tags.

`read_corpus` is the only way into metacross for labelled sentences. It counts and reports everything unusual, and
raises an error with file and line for what it cannot understand.
"""

from __future__ import annotations

import gc
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import IO, NamedTuple

from metacross.corpora.characters import INVISIBLE, visible
from metacross.corpora.formats.recognise import opened
from metacross.corpora.raw import Document, Oddities, Reading, ReadOptions
from metacross.corpora.schemes import Converted, to_iob2
from metacross.corpora.sentence import Sentence, entities, sentence_from_words
from metacross.corpora.source import Source
from metacross.corpora.spans import document_of, sentences_of, type_name
from metacross.corpora.words import sentence_breaks
from metacross.errors import UserError
from metacross.wording import counted

_MOST_KINDS = 10  # of odd tags that are reported one by one
_EMPTY = "empty words (nothing that can be seen) left out"


class _Block(NamedTuple):
    """A sentence, or a longer stretch of text: the words, their tags, and their lines or records."""

    words: Sequence[str]
    tags: Sequence[str]
    lines: Sequence[int]


@dataclass(frozen=True)
class Corpus:
    """A corpus, and what was noticed while reading it.

    Attributes:
        path: the path or `hf:` name that it was read from.
        format: conll-2003, conll-2002, universal-ner, numbered-columns, wikiann, characters, word-tab-tag, columns-tab;
            csv, jsonl, json, parquet, arrow, huggingface, label-studio, brat or spacy.
        scheme: of the tags in the file: IOB1, IOB2, IOBES, BILOU, IO, or none where there are no entities; spans if
            the file has no tags, but marks entities in texts.
        encoding: utf-8, utf-8-sig, utf-16 (-le, -be) or latin-1, with "+gzip" or the like if the file was compressed.
        language: the language that the caller gave, else the one the file marks its words with (WikiANN), else None.
        sentences: with IOB2 tags, none of them empty.
        documents: the texts that they come from, if the file has texts with marked entities, else None. Sentences whose
            words the file gives are documents of their own then, so that the documents hold all of the file.
        counts: entities per type, most frequent first.
        dropped: entities per type that the tag map turned into O.
        oddities: one line for each kind of unusual thing, with counts.
        sentence_oddities: those of them that the sentences have and the documents have not, such as overlapping
            entities that were left out and words that were cut.
    """

    path: str
    format: str
    scheme: str
    encoding: str
    language: str | None
    sentences: list[Sentence]
    documents: list[Document] | None
    counts: dict[str, int]
    dropped: dict[str, int]
    oddities: list[str]
    sentence_oddities: list[str]


@dataclass(frozen=True)
class Summary:
    """What `metacross data FILE` prints; fields that `Corpus` has too mean the same.

    Attributes:
        words: of all sentences.
        longest: words of the longest sentence.
        entities: number of entities per type, most frequent first.
        untagged: share of sentences without entities, 0 to 1.
        duplicates: sentences that have the words of an earlier one.
    """

    format: str
    scheme: str
    encoding: str
    language: str | None
    sentences: int
    words: int
    longest: int
    entities: dict[str, int]
    untagged: float
    duplicates: int
    oddities: list[str]


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Pauses Python's collector of cyclic garbage, which is one for all threads.

    Reading makes millions of objects that are kept and form no cycles. The collector would look through them again and
    again and find nothing: that took a quarter of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_paused_collector()
def read_corpus(
    path: str | os.PathLike[str],
    *,
    tag_map: Mapping[str, str] | None = None,
    language: str | None = None,
    max_words: int = 120,
    tag_column: int | str = "auto",
    stream: IO[bytes] | None = None,
) -> Corpus:
    """Reads a tagged corpus; format, encoding and tagging scheme are recognised by the content.

    A file with columns that has no sentence breaks (a single block, or blocks of more than `max_words` words on
    average) is broken at sentence punctuation, see `corpora.words.sentence_breaks`. No other sentence is split.

    Args:
        path: a file, compressed or not, or `hf:NAME[/config][:split]`.
        tag_map: entity type -> its new name, or "O" or "" to drop its entities; other types stay as they are.
        language: ISO 639-1 code; decides where the rebuilt text has spaces.
        max_words: the most words of a sentence if sentence breaks have to be found; at least 1.
        tag_column: where the tags are, see `raw.ReadOptions`; auto: where the reader finds them.
        stream: the file's bytes; `path` is its name in messages then, and no file is opened.

    Raises:
        UserError: the file is missing, empty, unreadable or breaks its format or its tagging scheme; the message
            names file and line, what was found, and what was expected.
    """
    tag_map = _checked(tag_map or {})
    if max_words < 1:
        raise UserError(f"max_words={max_words}; expected at least 1.")
    options = ReadOptions(None if tag_column == "auto" else tag_column)
    with opened(os.fspath(path), options, stream) as (source, reading):
        blocks, texts = _items(reading)
    oddities, sentence_oddities = source.oddities, Oddities()
    language = _language(language, reading.language, oddities)
    scheme, blocks, dropped = _understood(blocks, tag_map, source)
    if not reading.breaks_given:
        blocks = _break_up(blocks, max_words, oddities)
    sentences = [_sentence(block, source.path, language) for block in blocks]
    texts = [_mapped_document(text, tag_map, dropped) for text in texts]
    sentences, documents = _with_texts(sentences, texts, sentence_oddities)
    if not sentences:
        raise UserError(f"{source.path}: found no words; expected at least one sentence.")
    _count_odd_sentences(sentences, oddities)
    tags = Counter(chain.from_iterable(sentence.tags or () for sentence in sentences))
    return Corpus(
        path=source.path,
        format=reading.format,
        scheme=scheme if blocks else "spans",
        encoding="+".join(filter(None, [source.encoding, source.compression])),
        language=language,
        sentences=sentences,
        documents=documents,
        # By now every entity begins with B-.
        counts={tag[2:]: number for tag, number in tags.most_common() if tag.startswith("B-")},
        dropped=dict(dropped.most_common()),
        oddities=oddities.lines() + sentence_oddities.lines(),
        sentence_oddities=sentence_oddities.lines(),
    )


def _language(given: str | None, marked: str | None, oddities: Oddities) -> str | None:
    """The language that the caller gave, else the one that words are marked with. Notes it if they differ."""
    if given and marked and marked != given:
        oddities.note(f"words are marked {marked}:, but the language was given as {given}")
    return given or marked


def _items(reading: Reading) -> tuple[list[_Block], list[Document]]:
    """The sentences and the documents of a file."""
    blocks: list[_Block] = []
    documents: list[Document] = []
    for item in reading.items:
        if isinstance(item, Document):
            documents.append(item)
        elif item.rows:
            blocks.append(_Block(*zip(*item.rows, strict=True)))
    return blocks, documents


def _with_texts(
    sentences: list[Sentence], texts: Sequence[Document], oddities: Oddities
) -> tuple[list[Sentence], list[Document] | None]:
    """Adds the sentences of texts to those of words; also returns all of it as documents, if there are texts.

    Sentences of texts that nobody has annotated are added only if there are no other texts.
    """
    if not texts:
        return sentences, None
    annotated = [text for text in texts if text.marked is not None]
    if annotated and len(annotated) < len(texts):
        oddities.count("texts that nobody has annotated, left out", number=len(texts) - len(annotated))
    documents = [*map(document_of, sentences), *texts]
    found = list(chain.from_iterable(sentences_of(text, oddities=oddities) for text in annotated or texts))
    if not sentences:
        return found, documents
    # Of the file's records some have words and some texts.
    return sorted([*sentences, *found], key=_record), sorted(documents, key=_record)


def _record(item: Sentence | Document) -> int:
    """The number of the record that a sentence or a document comes from."""
    return int(item.place.rpartition(":")[2])


def _understood(
    blocks: list[_Block], tag_map: Mapping[str, str], source: Source
) -> tuple[str, list[_Block], Counter[str]]:
    """The tagging scheme, the words that can be seen with their IOB2 tags, and the number of entities dropped by type.

    Adds to the oddities.
    """
    converted = to_iob2(
        [block.tags for block in blocks],
        lambda block, word: source.place(blocks[block].lines[word]),
        named=tag_map,
    )
    _count_odd_tags(converted, source.oddities)
    blocks = _visible_words(blocks, converted.tags, source)
    # Only now: renamed or dropped types would change where the scheme lets entities begin.
    return converted.scheme, *_mapped(blocks, tag_map)


def duplicates(sentences: Iterable[Sentence]) -> int:
    """Counts the sentences that have the words of an earlier one."""
    repeats = Counter(sentence.words for sentence in sentences)
    return sum(repeats.values()) - len(repeats)


def summarise(corpus: Corpus) -> Summary:
    """Describes a corpus in figures."""
    lengths = [len(sentence.words) for sentence in corpus.sentences]
    untagged = sum(not entities(sentence.tags or ()) for sentence in corpus.sentences)
    return Summary(
        format=corpus.format,
        scheme=corpus.scheme,
        encoding=corpus.encoding,
        language=corpus.language,
        sentences=len(lengths),
        words=sum(lengths),
        longest=max(lengths, default=0),
        entities=corpus.counts,
        untagged=untagged / max(len(lengths), 1),
        duplicates=duplicates(corpus.sentences),
        oddities=corpus.oddities,
    )


def _checked(tag_map: Mapping[str, str]) -> Mapping[str, str]:
    for name in [*tag_map, *tag_map.values()]:
        if name[:2] in ("B-", "I-") or name.split() != [name] * bool(name):
            raise UserError(f"tag_map: found {name!r}; expected an entity type such as PER, without B- or spaces.")
    return tag_map


def _count_odd_tags(converted: Converted, oddities: Oddities) -> None:
    """Counts the tags that are not written as usual, and those that broke their scheme."""
    shown = sorted(converted.read_as.items())
    for what, number in shown[:_MOST_KINDS]:
        oddities.count(what, number=number)
    if rest := sum(number for _, number in shown[_MOST_KINDS:]):
        oddities.count("other tags not written as usual", number=rest)
    if converted.repaired:
        what = f"tags repaired that broke {converted.scheme}"
        oddities.count(what, converted.first_repair, converted.repaired)


def _visible_words(blocks: Iterable[_Block], tags: Iterable[Sequence[str]], source: Source) -> list[_Block]:
    """The words with their IOB2 tags, without what nobody sees: complete words, or characters at the ends of words.

    Adds to the oddities.
    """
    shown = []
    visible_part = cache(visible)  # also gives equal words of the corpus one string, which saves memory
    for (words, _, lines), block_tags in zip(blocks, tags, strict=True):
        parts = tuple(map(visible_part, words))
        block = _Block(parts, block_tags, lines)
        if parts != words or "" in words:
            block = _without_invisible(words, block, source)
        if block.words:
            shown.append(block)
    return shown


def _without_invisible(words: Sequence[str], block: _Block, source: Source) -> _Block:
    """The block without empty words. An entity that begins with such a word begins at its next word instead.

    Args:
        words: the words as the file has them.
        block: their visible parts, tags and lines.
        source: gets the oddities.
    """
    left: list[tuple[str, str, int]] = []
    begin = False  # whether the word just left out began an entity
    for word, part, tag, line in zip(words, *block, strict=True):
        if part != word and part:
            codes = sorted({f"U+{ord(c):04X}" for c in word if c in INVISIBLE and c not in part})
            what = f"words with {', '.join(codes)} at an end, which was left out"
            source.oddities.count(what, source.place(line))
        if not part:
            source.oddities.count(_EMPTY)
            begin = tag[0] == "B" or (begin and tag != "O")
            continue
        if begin and tag[0] == "I":
            tag = "B-" + tag[2:]
        begin = False
        left.append((part, tag, line))
    return _Block(*zip(*left, strict=True)) if left else _Block((), (), ())


def _break_up(blocks: list[_Block], max_words: int, oddities: Oddities) -> list[_Block]:
    """Finds sentences in a file that has no sentence breaks; other files stay as they are. Adds to `oddities`."""
    number = sum(len(block.words) for block in blocks)
    if len(blocks) > 1 and number <= max_words * len(blocks):
        return blocks
    sentences = []
    cut = 0
    for words, tags, lines in blocks:
        ends = sentence_breaks(words, tags, max_words)
        for start, end in zip([0, *ends], ends, strict=False):
            first, *others = tags[start:end]
            if first.startswith("I-"):  # the break cuts an entity: its rest becomes one of its own
                first = "B-" + first[2:]
                cut += 1
            sentences.append(_Block(words[start:end], [first, *others], lines[start:end]))
    if len(sentences) > len(blocks):
        oddities.note(f"no sentence breaks: found {counted(len(sentences), 'sentences')} by punctuation")
    if cut:
        oddities.count(f"cuts through entities of more than {max_words} words", number=cut)
    return sentences


def _mapped(blocks: list[_Block], tag_map: Mapping[str, str]) -> tuple[list[_Block], Counter[str]]:
    """Renames and drops entity types; also returns the number of entities dropped by type."""
    dropped: Counter[str] = Counter()
    if not tag_map:
        return blocks, dropped
    new_tags = {}
    for tag, number in Counter(chain.from_iterable(block.tags for block in blocks)).items():
        letter, _, kind = tag.partition("-")
        new = tag_map.get(kind, kind)
        new_tags[tag] = "O" if new in ("O", "") else f"{letter}-{new}"
        if kind and new_tags[tag] == "O":
            dropped[kind] += number * (letter == "B")
    return [block._replace(tags=[new_tags[tag] for tag in block.tags]) for block in blocks], dropped


def _mapped_document(document: Document, tag_map: Mapping[str, str], dropped: Counter[str]) -> Document:
    """Renames and drops the types of a document's entities; adds to `dropped`."""
    if not tag_map or document.marked is None:
        return document
    marked = []
    for entity in document.marked:
        kind = type_name(entity.type)
        new = tag_map.get(kind, entity.type)
        if kind in tag_map and new in ("O", ""):
            dropped[kind] += 1
        else:
            marked.append(entity._replace(type=new))
    return replace(document, marked=tuple(marked))


def _sentence(block: _Block, path: str, language: str | None) -> Sentence:
    return sentence_from_words(block.words, block.tags, language=language, place=f"{path}:{block.lines[0]}")


def _count_odd_sentences(sentences: Sequence[Sentence], oddities: Oddities) -> None:
    """Counts words with characters that were hardly meant, and duplicate sentences."""
    number: Counter[str] = Counter()
    for word, times in Counter(chain.from_iterable(sentence.words for sentence in sentences)).items():
        if word.isalnum():  # as most words are: none of these characters is a letter or digit
            continue
        kinds = {unicodedata.category(character) for character in word}
        number["words with control characters or lone surrogates"] += times * bool(kinds & {"Cc", "Cs"})
        number["words with white space inside"] += times * any(map(str.isspace, word))
        number["words with U+FFFD, the mark of an earlier wrong decoding"] += times * ("\ufffd" in word)
    number["duplicate sentences (the words of an earlier one)"] = duplicates(sentences)
    for what, times in number.items():
        if times:
            oddities.count(what, number=times)
