"""Labelled sentences of requests as the store takes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from metacross.errors import UserError
from serve.annotations import sentence_of, sentence_of_words, with_entities, with_tags
from serve.examples import Said, StoredExample
from serve.web.example_schemas import ExampleChange
from serve.web.limits import Limits
from serve.web.problems import ProblemError
from serve.web.schemas import NewEntity, NewExample


def said_in(example: NewExample, labels: Collection[str], limits: Limits, *, field: str = "") -> Said:
    """What a new example says.

    Args:
        example: from a request.
        labels: the labels that an entity may have.
        limits: what a request may ask for.
        field: name of the request's field that holds the example.

    Raises:
        ProblemError: 422 where it makes no sense.
    """
    try:
        if example.text is None:
            words, tags = example.words or [], example.tags or []
            sentence = sentence_of_words(words, tags, labels=labels, language=example.language)
        else:
            if len(example.text) > limits.characters:
                raise UserError(f"{len(example.text)} characters, at most {limits.characters}; cut the text.")
            sentence = sentence_of(example.text, _marked(example.text, example.entities or ()), labels=labels)
    except UserError as error:
        raise ProblemError(422, str(error), field=field) from None
    return Said(sentence, example.language)


def said_after(change: ExampleChange, old: StoredExample, labels: Collection[str]) -> Said:
    """What an example says once it is changed. UserError where that makes no sense."""
    sentence = replace(old.sentence, machine=None)
    if change.entities is not None:
        sentence = with_entities(sentence, _marked(sentence.text, change.entities), labels=labels)
    if change.tags is not None:
        sentence = with_tags(sentence, change.tags, labels=labels)
    return Said(sentence, old.language if change.language is None else change.language)


def _marked(text: str, entities: Collection[NewEntity]) -> list[tuple[int, int, str]]:
    """Entities as `serve.annotations` takes them. UserError where one names another text than its offsets do."""
    for number, entity in enumerate(entities, 1):
        found = text[entity.start : entity.end]
        if entity.text is not None and entity.text != found:
            raise UserError(
                f"entity {number} is {entity.text[:40]!r}, but from {entity.start} to {entity.end} the text is "
                f"{found[:40]!r}. Offsets count code points; correct them, or leave the entity's text out."
            )
    return [(entity.start, entity.end, entity.label) for entity in entities]
