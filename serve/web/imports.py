"""Examples from a file: whatever `metacross data` reads as text, as the body of one request."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import replace

from metacross.corpora.languages import main_language
from metacross.corpora.reader import read_corpus
from metacross.corpora.sentence import Sentence, entities, tags_of
from metacross.corpora.types import named_type, unknown_type
from metacross.errors import UserError
from metacross.wording import counted
from serve.annotations import refuse_unstorable
from serve.web.limits import Limits
from serve.web.problems import ProblemError

MOST_SENTENCES = 1000


def read_examples(
    body: bytes, *, labels: Collection[str], language: str, limits: Limits
) -> tuple[list[Sentence], list[str]]:
    """The labelled sentences of a file, and what was odd in it.

    Args:
        body: the file. It has to be UTF-8 text: what is compressed could be of any size, once it is unpacked.
        labels: the labels that an entity may have; another spelling of one stands for it.
        language: a BCP 47 tag, "" if it is not known.
        limits: what a request may ask for.

    Raises:
        ProblemError: 422 where the file cannot be read, or has other labels, no entity, too many or too long sentences.
    """
    decoded(body)
    try:
        corpus = read_corpus("body", stream=io.BytesIO(body), language=main_language(language) or None)
        sentences = [_fitting(one, labels, limits) for one in corpus.sentences if one.tags is not None]
    except UserError as error:
        raise ProblemError(422, str(error)) from None
    if len(corpus.sentences) > MOST_SENTENCES:
        raise ProblemError(
            422, f"{len(corpus.sentences)} sentences, at most {MOST_SENTENCES} a call. Send several files."
        )
    if not sentences:
        raise ProblemError(422, "Nobody has annotated this file. Text without labels goes to /v1/texts.")
    left_out = len(corpus.sentences) - len(sentences)
    oddities = [counted(left_out, "sentences that nobody has annotated, left out")] if left_out else []
    return sentences, [*corpus.oddities, *oddities]


def decoded(body: bytes) -> str:
    """A file's text. ProblemError 422 where it is not UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ProblemError(
            422,
            f"The file is not UTF-8 text (byte {error.start}). Send it unpacked, or convert it to JSON lines first.",
        ) from None


def _fitting(sentence: Sentence, labels: Collection[str], limits: Limits) -> Sentence:
    """The sentence with the labels that are meant. UserError where it cannot be an example."""
    refuse_unstorable(sentence.place, sentence.text)
    if len(sentence.text) > limits.characters:
        raise UserError(
            f"{sentence.place}: {len(sentence.text)} characters, at most {limits.characters}; cut the text."
        )
    spans = []
    for entity in entities(sentence.tags or ()):
        known = named_type(entity.type, labels)
        if known is None:
            raise UserError(f"{sentence.place}: {unknown_type(entity.type, labels)}")
        spans.append(entity._replace(type=known))
    return replace(sentence, tags=tuple(tags_of(spans, len(sentence.words))))
