"""Text of a target language that nobody labelled, as sentences with words; tags that a file may have are not read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from metacross.corpora.characters import visible
from metacross.corpora.formats.hub import PREFIX
from metacross.corpora.formats.recognise import opened
from metacross.corpora.names import names_corpus
from metacross.corpora.raw import Document, ReadOptions
from metacross.corpora.schemes import is_tag
from metacross.corpora.sentence import Sentence, sentence_from_text, sentence_from_words
from metacross.corpora.source import Source
from metacross.corpora.spans import sentences_of
from metacross.corpora.words import sentence_breaks, split_sentences
from metacross.errors import UserError
from metacross.events import Note, Show
from metacross.sequences import spread
from metacross.wording import counted

HEAD = 1000  # lines that tell whether a file has a word and its tag a line


@dataclass(frozen=True)
class TargetText:
    """The sentences of a file.

    Attributes:
        language: ISO 639-1 code.
        file: the file's name.
        sentences: without tags; all different, and none without words.
    """

    language: str
    file: str
    sentences: Sequence[Sentence]


def files_by_language(options: Sequence[str], name: str) -> dict[str, str]:
    """LANGUAGE=FILE ... -> language -> file.

    Args:
        options: what was given.
        name: of the option, for messages.

    Raises:
        UserError: it is not of this form, or a language comes twice.
    """
    files: dict[str, str] = {}
    for option in options:
        language, _, file = option.partition("=")
        if not file or not re.fullmatch("[a-z]{2,3}", language):
            raise UserError(f"{name} {option}: expected a language code and a file, such as {name} es=FILE")
        if language in files:
            raise UserError(f"{name} {option}: {language} was given before, as {files[language]}; join the two files")
        files[language] = file
    return files


def read_texts(files: Mapping[str, str], *, max_words: int, show: Show, most: int = 0) -> list[TargetText]:
    """Reads the files of some languages.

    Args:
        files: a file for each language: raw text, or a corpus of any format that `metacross data` reads. A file is a
            corpus if its name says so, or if most of its lines end in a tag.
        max_words: the most words of a sentence where a corpus has no sentence breaks.
        show: gets a `Note` about everything that was odd or left out.
        most: sentences of a file, at most, spread evenly over it; 0: all.

    Raises:
        UserError: a file cannot be read or has no words.
    """
    texts = [_read(language, file, max_words, show) for language, file in files.items()]
    return [_at_most(most, text, show) if most else text for text in texts]


def _at_most(most: int, text: TargetText, show: Show) -> TargetText:
    every = len(text.sentences)
    if most >= every:
        return text
    show(Note(f"{text.file}: takes {most} of its {every} sentences, spread evenly (adopt.sentences)"))
    return replace(text, sentences=[text.sentences[i] for i in spread(every, most)])


def _read(language: str, file: str, max_words: int, show: Show) -> TargetText:
    if names_corpus(file) or file.startswith(PREFIX) or Path(file).is_dir() or _has_tagged_lines(file):
        show(Note(f"{file}: read for its words; tags, if it has any, are ignored"))
        found, oddities = _of_corpus(file, language, max_words)
    else:
        found, oddities = _of_raw_text(file)
    for oddity in oddities:
        show(Note(f"{file}: {oddity}"))
    different = {sentence.words: sentence for sentence in reversed(found) if sentence.words}
    sentences = [sentence for sentence in found if different.get(sentence.words) is sentence]
    if not sentences:
        raise UserError(f"{file}: found no sentence to adopt {language} from; expected text.")
    if repeated := sum(bool(sentence.words) for sentence in found) - len(sentences):
        show(Note(f"{file}: {counted(repeated, 'sentences')} left out for repeating an earlier one"))
    return TargetText(language, file, sentences)


def _has_tagged_lines(file: str) -> bool:
    """Whether most lines at a file's beginning are words with a tag, which raw text never has."""
    with Source(file) as source:
        lines = [line.split() for line in islice(source.lines(), HEAD) if visible(line)]
    return 2 * sum(len(fields) > 1 and is_tag(fields[-1]) for fields in lines) > len(lines)


def _of_raw_text(file: str) -> tuple[list[Sentence], list[str]]:
    with Source(file) as source:
        lines = list(source.lines())
        text = "\n".join(lines)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    sentences = [
        replace(sentence_from_text(text[start:end]), place=source.place(bisect_right(starts, start)))
        for start, end in split_sentences(text)
    ]
    return sentences, source.oddities.lines()


def _of_corpus(file: str, language: str, max_words: int) -> tuple[list[Sentence], list[str]]:
    sentences: list[Sentence] = []
    blocks: list[tuple[list[str], str]] = []  # words, and the place of the first
    with opened(file, ReadOptions(labelled=False)) as (source, reading):
        for item in reading.items:
            if isinstance(item, Document):
                sentences += sentences_of(replace(item, marked=None), oddities=source.oddities)
            elif words := [word for row in item.rows if (word := visible(row.word))]:
                blocks.append((words, source.place(item.rows[0].line)))
    # As in `read_corpus`: only a file without sentence breaks is broken up.
    if not reading.breaks_given and (len(blocks) == 1 or sum(len(b) for b, _ in blocks) > max_words * len(blocks)):
        blocks = [(part, place) for words, place in blocks for part in _broken(words, max_words)]
    sentences += [sentence_from_words(words, language=language, place=place) for words, place in blocks]
    return sentences, source.oddities.lines()


def _broken(words: list[str], max_words: int) -> list[list[str]]:
    ends = sentence_breaks(words, ["O"] * len(words), max_words)
    return [words[start:end] for start, end in zip([0, *ends], ends, strict=False)]
