"""Texts that nobody labelled, as their sentences: those of a request's list, or of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metacross.corpora.sentence import Sentence, sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.errors import UserError
from serve.annotations import refuse_unstorable
from serve.examples.tables import key_of
from serve.web.imports import MOST_SENTENCES, decoded
from serve.web.limits import Limits, refuse_too_much
from serve.web.problems import ProblemError


@dataclass(frozen=True)
class FoundSentences:
    """The sentences of texts.

    Attributes:
        found: how many there are.
        sentences: those that are different.
    """

    found: int
    sentences: Sequence[Sentence]


def read_texts(texts: Sequence[str], limits: Limits) -> FoundSentences:
    """The sentences of a request's texts.

    Raises:
        ProblemError: 422 where there are too many or too long texts, too many sentences, or characters that cannot be
            stored.
    """
    refuse_too_much("texts", texts, limits)
    sentences: list[Sentence] = []
    for i, text in enumerate(texts):
        try:
            refuse_unstorable("the text", text)
        except UserError as error:
            raise ProblemError(422, str(error), field=f"texts.{i}") from None
        sentences += _sentences(text)
    return _different(sentences)


def read_file(body: bytes, limits: Limits) -> FoundSentences:
    """The sentences of a file of text.

    Args:
        body: the file, in UTF-8.
        limits: what a request may ask for; a sentence may be as long as a text.

    Raises:
        ProblemError: 422 where it is not UTF-8, holds characters that cannot be stored, or has no, too many or too
            long sentences.
    """
    text = decoded(body)
    try:
        refuse_unstorable("the file", text)
    except UserError as error:
        raise ProblemError(422, str(error)) from None
    sentences = _sentences(text)
    if not sentences:
        raise ProblemError(422, "The file has no sentence; expected text.")
    longest = max(len(sentence.text) for sentence in sentences)
    if longest > limits.characters:
        raise ProblemError(422, f"A sentence of {longest} characters, at most {limits.characters}; cut the text.")
    return _different(sentences)


def _sentences(text: str) -> list[Sentence]:
    found = [sentence_from_text(text[start:end]) for start, end in split_sentences(text)]
    return [sentence for sentence in found if sentence.words]


def _different(sentences: Sequence[Sentence]) -> FoundSentences:
    if len(sentences) > MOST_SENTENCES:
        raise ProblemError(422, f"{len(sentences)} sentences, at most {MOST_SENTENCES} a call. Send less at once.")
    first: dict[str, Sentence] = {}
    for sentence in sentences:
        first.setdefault(key_of(sentence.words), sentence)
    return FoundSentences(len(sentences), list(first.values()))
