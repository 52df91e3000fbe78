"""A few labelled sentences of target languages, the examples: read from files, and joined with what a bundle has.

People's work is kept: examples that a bundle has stay when others are added. Where two sentences are the same, the new
labels count, and people's labels before a machine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from metacross.adoption.text import TargetText
from metacross.config import DataConfig
from metacross.corpora.from_config import read_configured
from metacross.corpora.refusals import refuse_unknown_types, require_entities
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.events import Note, Show
from metacross.wording import counted

ENOUGH = 10  # sentences of which some should be without an entity


class BundleSentences(NamedTuple):
    """A bundle's sentences, in the order in which it has them.

    Attributes:
        source: the labelled source sentences.
        examples: of adopted languages, labelled by people.
        machine: of adopted languages, labelled by taggers.
    """

    source: Sequence[Sentence]
    examples: Sequence[Sentence]
    machine: Sequence[Sentence]

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> Self:
        """A bundle's sentences by kind."""
        return cls(
            [s for s in sentences if not s.machine and not s.example_of],
            [s for s in sentences if s.example_of],
            [s for s in sentences if s.machine],
        )

    def with_examples(self, new: Mapping[str, Sequence[Sentence]], show: Show) -> Self:
        """The sentences with further examples; a sentence that is there already has the new labels from now on.

        Args:
            new: examples by language.
            show: gets a `Note` for each language.
        """
        examples, machine = list(self.examples), list(self.machine)
        for language, sentences in new.items():
            known = {_key(sentence) for sentence in sentences}
            before = [s for s in examples if s.example_of == language]
            kept = [s for s in before if _key(s) not in known]
            others = [s for s in examples if s.example_of != language]
            examples = [*others, *kept, *sentences]
            machine = [s for s in machine if not (s.machine and s.machine.language == language and _key(s) in known)]
            show(Note(_what_becomes_of(language, sentences, before, kept)))
        return type(self)(self.source, examples, machine)


def read_examples(
    files: Mapping[str, str], data: DataConfig, tags: Sequence[str], show: Show
) -> dict[str, list[Sentence]]:
    """Reads a file of labelled sentences for each language.

    Args:
        files: file by language; anything that `metacross data` reads.
        data: how corpora are read.
        tags: the tags that the bundle knows.
        show: gets a `Note` about everything that was odd or left out.

    Returns:
        The sentences by language, those without entities too; all different, and none without words.

    Raises:
        UserError: a file cannot be read, has no entities, or has types that the bundle does not know.
    """
    return {language: _read(language, file, data, tags, show) for language, file in files.items()}


def without_examples(text: TargetText, examples: Sequence[Sentence], show: Show) -> TargetText:
    """A text without the sentences that are among its language's examples, since people labelled these.

    Args:
        text: the text.
        examples: of all languages.
        show: gets a `Note` if there are such sentences.

    Raises:
        UserError: nothing else is in the text.
    """
    known = {_key(sentence) for sentence in examples if sentence.example_of == text.language}
    others = [sentence for sentence in text.sentences if _key(sentence) not in known]
    if not others:
        raise UserError(
            f"{text.file}: all its sentences are among the examples of {text.language}, so nothing is left to be "
            f"labelled. Give other text, or leave out --text {text.language}={text.file}."
        )
    if left_out := len(text.sentences) - len(others):
        show(
            Note(
                f"{text.file}: {counted(left_out, 'sentences')} left out for being among the examples of "
                f"{text.language}"
            )
        )
    return replace(text, sentences=others)


def _read(language: str, file: str, data: DataConfig, tags: Sequence[str], show: Show) -> list[Sentence]:
    corpus = read_configured(file, data, language=language)
    require_entities(corpus)
    refuse_unknown_types(corpus, tags, tag_map=data.tag_map)
    for oddity in corpus.oddities:
        show(Note(f"{file}: {oddity}"))
    found = [sentence for sentence in corpus.sentences if sentence.words]
    different: dict[str, Sentence] = {}
    for sentence in found:
        # Words are given from now on: source.jsonl does not say whether they were found in raw text.
        different.setdefault(_key(sentence), replace(sentence, presplit=True, example_of=language))
    if repeated := len(found) - len(different):
        show(Note(f"{file}: {counted(repeated, 'sentences')} left out for repeating an earlier one"))
    if len(different) >= ENOUGH and all(map(_has_entity, different.values())):
        show(
            Note(
                f"{file}: every sentence has an entity. Give sentences as they come, those without an entity too: from "
                "such a choice theta may learn to find too many"
            )
        )
    return list(different.values())


def _what_becomes_of(
    language: str, sentences: Sequence[Sentence], before: Sequence[Sentence], kept: Sequence[Sentence]
) -> str:
    text = (
        f"{language}: {counted(len(sentences), 'examples')}, {sum(map(_has_entity, sentences))} of them with an entity"
    )
    if before:
        text += f"; of {len(before)} that the bundle had, {len(kept)} stay and {len(before) - len(kept)} are replaced"
    return text


def _has_entity(sentence: Sentence) -> bool:
    return any(tag != "O" for tag in sentence.tags or ())


def _key(sentence: Sentence) -> str:
    """Equal for the same sentence, even if its words were found in other places."""
    return "".join("".join(sentence.words).split())
