"""Reading a corpus: from a file of any format, encoding and tagging scheme to sentences with IOB2 tags.

`read_corpus` is the only way into metacross for labelled sentences. It counts and reports everything unusual, and
raises an error with file and line for what it cannot understand.
"""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metacross.corpora.formats.recognise import read_raw
from metacross.corpora.layout import Row
from metacross.corpora.schemes import Converted, to_iob2, types_of
from metacross.corpora.sentence import Sentence, entities, sentence_from_words
from metacross.corpora.words import sentence_breaks
from metacross.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """A corpus, and what was noticed while reading it.

    Attributes:
        path: the path or `hf:` name that it was read from.
        format: conll-2003, conll-2002, universal-ner, numbered-columns, wikiann, characters, word-tab-tag, columns-tab,
            jsonl or huggingface.
        scheme: of the tags in the file: IOB1, IOB2, IOBES, BILOU, IO, or none where there are no entities.
        encoding: utf-8, utf-8-sig, utf-16 or latin-1, with "+gzip" if the file was compressed.
        language: the language that the caller gave, else the one the file marks its words with (WikiANN), else None.
        sentences: with IOB2 tags, none of them empty.
        counts: entities per type, most frequent first.
        dropped: entities per type that the tag map turned into O.
        oddities: one line for each kind of unusual thing, with counts.
    """

    path: str
    format: str
    scheme: str
    encoding: str
    language: str | None
    sentences: list[Sentence]
    counts: dict[str, int]
    dropped: dict[str, int]
    oddities: list[str]


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


def read_corpus(
    path: str | os.PathLike[str],
    *,
    tag_map: Mapping[str, str] | None = None,
    language: str | None = None,
    max_words: int = 120,
) -> Corpus:
    """Reads a tagged corpus; format, encoding and tagging scheme are recognised by the content.

    A file with columns that has no sentence breaks (a single block, or blocks of more than `max_words` words on
    average) is broken at sentence punctuation, see `corpora.words.sentence_breaks`. No other sentence is split.

    Args:
        path: a file, gzip-compressed or not, or `hf:NAME[/config][:split]`.
        tag_map: entity type -> its new name, or "O" or "" to drop its entities; other types stay as they are.
        language: ISO 639-1 code; decides where the rebuilt text has spaces.
        max_words: the most words of a sentence if sentence breaks have to be found; at least 1.

    Raises:
        UserError: the file is missing, empty, unreadable or breaks its format or its tagging scheme; the message
            names file and line, what was found, and what was expected.
    """
    tag_map = _checked(tag_map or {})
    if max_words < 1:
        raise UserError(f"max_words={max_words}; expected at least 1.")
    raw = read_raw(os.fspath(path))
    oddities = list(raw.oddities)
    if language and raw.language and raw.language != language:
        oddities.append(f"words are marked {raw.language}:, but the language was given as {language}")
    language = language or raw.language
    converted = to_iob2([[row.tag for row in block] for block in raw.blocks], raw.place)
    oddities += _odd_tags(converted)
    blocks = _without_empty_words(raw.blocks, converted.tags, oddities)
    if not raw.breaks_given:
        blocks = _break_up(blocks, max_words, oddities)
    # Only now: renamed or dropped types would change where the scheme lets entities begin.
    blocks, dropped = _mapped(blocks, tag_map)
    sentences = [_sentence(block, raw.path, language) for block in blocks]
    if not sentences:
        raise UserError(f"{raw.path}: found no words, only empty ones; expected at least one sentence.")
    oddities += _odd_sentences(sentences)
    counts = Counter(entity.type for sentence in sentences for entity in entities(sentence.tags or ()))
    return Corpus(
        path=raw.path,
        format=raw.format,
        scheme=converted.scheme,
        encoding=raw.encoding,
        language=language,
        sentences=sentences,
        counts=dict(counts.most_common()),
        dropped=dropped,
        oddities=oddities,
    )


def require_entities(corpus: Corpus) -> None:
    """Refuses a corpus without any entity, since nothing can be learned from it or measured on it.

    Raises:
        UserError: there is none; the message says whether the file has none or the tag map dropped them all.
    """
    if corpus.counts:
        return
    problem = f"{corpus.path}: found {len(corpus.sentences)} sentences, but no entities"
    if corpus.dropped:
        types = ", ".join(corpus.dropped)
        raise UserError(f"{problem} but those that the tag map drops ({types}); keep at least one of them in tag_map.")
    raise UserError(f"{problem}: every tag is O; expected tags such as B-PER. Give a corpus that has been annotated.")


def refuse_unknown_types(corpus: Corpus, tags: Iterable[str], *, tag_map: Mapping[str, str]) -> None:
    """Refuses a corpus with entity types that a tagger was not trained on.

    Args:
        corpus: the corpus, read with `tag_map`.
        tags: the tags that the tagger knows.
        tag_map: the tag map; the message shows it with the additions that make the corpus fit.

    Raises:
        UserError: there are such types; the message names them, the first place, and the setting that drops them.
    """
    known = types_of(tags)
    unknown = [kind for kind in corpus.counts if kind not in known]
    if not unknown:
        return
    first = next(s.place for s in corpus.sentences if any(e.type in unknown for e in entities(s.tags or ())))
    raise UserError(
        f"{first}: entity type {', '.join(unknown)}, which the tagger does not know; it knows {', '.join(known)}. Drop "
        f"what it cannot find, or give it a name that it knows: {override({**tag_map, **dict.fromkeys(unknown, 'O')})}"
    )


def override(tag_map: Mapping[str, str]) -> str:
    """Writes a tag map as it is given on a command line.

    >>> override({"OTH": "O", "PERSON": "PER"})
    "'data.tag_map={OTH: O, PERSON: PER}'"
    """
    pairs = ", ".join(f"{old}: {new or 'O'}" for old, new in tag_map.items())
    return f"'data.tag_map={{{pairs}}}'"


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


def _odd_tags(converted: Converted) -> list[str]:
    """Describes the tags that mean nothing, and those that broke their scheme."""
    oddities = [f"{count} tags {tag} read as O" for tag, count in sorted(converted.stray.items())]
    if converted.repaired:
        oddities.append(
            f"{converted.repaired} tags repaired that broke {converted.scheme} (first at {converted.first_repair})"
        )
    return oddities


def _without_empty_words(
    blocks: Iterable[Sequence[Row]], tags: Iterable[list[str]], oddities: list[str]
) -> list[list[Row]]:
    """Puts the IOB2 tags into the rows and leaves out rows without a visible word.

    An entity that begins with such a row begins at its next word instead. Adds to `oddities`.
    """
    visible = []
    empty = 0
    for rows, block_tags in zip(blocks, tags, strict=True):
        block: list[Row] = []
        begin = False  # whether the word just left out began an entity
        for row, tag in zip(rows, block_tags, strict=True):
            if not row.word.strip():
                empty += 1
                begin = tag.startswith("B-") or (begin and tag != "O")
                continue
            if begin and tag.startswith("I-"):
                tag = "B-" + tag[2:]
            begin = False
            block.append(row._replace(tag=tag))
        visible.append(block)
    if empty:
        oddities.append(f"{empty} empty words (nothing or only white space) left out")
    return [block for block in visible if block]


def _break_up(blocks: list[list[Row]], max_words: int, oddities: list[str]) -> list[list[Row]]:
    """Finds sentences in a file that has no sentence breaks; other files stay as they are. Adds to `oddities`."""
    words = sum(map(len, blocks))
    if len(blocks) > 1 and words <= max_words * len(blocks):
        return blocks
    sentences = []
    cut = 0
    for block in blocks:
        ends = sentence_breaks([row.word for row in block], [row.tag for row in block], max_words)
        for start, end in zip([0, *ends], ends, strict=False):
            sentence = block[start:end]
            if sentence[0].tag.startswith("I-"):  # the break cuts an entity: its rest becomes one of its own
                sentence[0] = sentence[0]._replace(tag="B-" + sentence[0].tag[2:])
                cut += 1
            sentences.append(sentence)
    if len(sentences) > len(blocks):
        oddities.append(f"no sentence breaks: found {len(sentences)} sentences by their punctuation")
    if cut:
        oddities.append(f"{cut} cuts through entities of more than {max_words} words")
    return sentences


def _mapped(blocks: list[list[Row]], tag_map: Mapping[str, str]) -> tuple[list[list[Row]], dict[str, int]]:
    """Renames and drops entity types; returns the rows, and the number of entities dropped of each type."""
    dropped: Counter[str] = Counter()
    mapped = []
    for block in blocks:
        rows = []
        for row in block:
            letter, _, kind = row.tag.partition("-")
            new = tag_map.get(kind, kind)
            if kind and new in ("O", ""):
                dropped[kind] += letter == "B"
                rows.append(row._replace(tag="O"))
            else:
                rows.append(row._replace(tag=f"{letter}-{new}") if kind else row)
        mapped.append(rows)
    return mapped, dict(dropped.most_common())


def _sentence(block: Sequence[Row], path: str, language: str | None) -> Sentence:
    words, tags, lines = zip(*block, strict=True)
    return sentence_from_words(words, tags, language=language, place=f"{path}:{lines[0]}")


def _odd_sentences(sentences: Sequence[Sentence]) -> list[str]:
    """Describes words with characters that were hardly meant, and duplicate sentences."""
    count: Counter[str] = Counter()
    for word in itertools.chain.from_iterable(sentence.words for sentence in sentences):
        if word.isalnum():  # as most words are: none of these characters is a letter or digit
            continue
        kinds = {unicodedata.category(character) for character in word}
        count["words with control characters or lone surrogates"] += bool(kinds & {"Cc", "Cs"})
        count["words with white space inside"] += any(map(str.isspace, word))
        count["words with U+FFFD, the mark of an earlier wrong decoding"] += "\ufffd" in word
    count["duplicate sentences (the words of an earlier one)"] = duplicates(sentences)
    return [f"{number} {what}" for what, number in count.items() if number]
