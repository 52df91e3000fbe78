"""Sentences' answers, put together from their tagged windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import Window
from metacross.retrieval.pools import Candidate, Neighbour
from metacross.tagging.answers import SupportSentence, TaggedSentence
from metacross.tagging.decoding import found_entities, labelled_entities, tagged_words
from metacross.tagging.tag_sequences import Segment, TagChains
from metacross.tagging.window_tagger import Settings, TaggedWindow


def tagged_sentences(
    sentences: Sequence[tuple[Sentence, Settings]],
    windows: Sequence[Sequence[TaggedWindow]],
    tags: Sequence[str],
    *,
    temperature: float,
) -> Iterator[TaggedSentence]:
    """The answers for sentences, whose tags are found for all of them together.

    Args:
        sentences: with what was asked for.
        windows: all windows of each sentence, in order, tagged.
        tags: the tags that columns of probabilities stand for.
        temperature: of the entities' scores, see `TagChains.segments`.
    """

    def found(parts: Iterable[Sequence[tuple[Window, Tensor]]]) -> Iterator[list[Segment]]:
        return iter(TagChains([tagged_words(own) for own in parts], tags).segments(temperature=temperature))

    chosen = found([(tagged.window, tagged.chosen_WC) for tagged in own] for own in windows)
    plain = found(
        [(tagged.window, tagged.plain_WC) for tagged in own if tagged.plain_WC is not None]
        for (_, settings), own in zip(sentences, windows, strict=True)
        if settings.explain
    )
    for (sentence, settings), own in zip(sentences, windows, strict=True):
        found_tags, entities = found_entities(sentence, next(chosen))
        adapted = any(tagged.neighbours for tagged in own)
        answer = TaggedSentence(sentence, found_tags, entities, len(own), adapted)
        yield _explained(answer, own, next(plain)) if settings.explain else answer


def _explained(
    answer: TaggedSentence, windows: Sequence[TaggedWindow], plain_segments: Sequence[Segment]
) -> TaggedSentence:
    """The answer with what was found without adaptation, and with the support sentences."""
    plain_tags, plain_entities = found_entities(answer.sentence, plain_segments)
    support = tuple(
        _support_sentence(answer.sentence, number, neighbour, candidate)
        for number, tagged in enumerate(windows)
        for neighbour, candidate in zip(tagged.neighbours, tagged.candidates, strict=True)
    )
    return replace(answer, support=support, plain_tags=plain_tags, plain_entities=plain_entities)


def _support_sentence(tagged: Sentence, window: int, found: Neighbour, candidate: Candidate) -> SupportSentence:
    labelled, machine = candidate.sentence, candidate.sentence.machine
    return SupportSentence(
        found.similarity,
        labelled.text,
        labelled_entities(labelled),
        start=0,
        end=len(tagged.text),
        window=window,
        place=labelled.place,
        number=found.number,
        confidence=machine.confidence if machine else None,
        language=machine.language if machine else labelled.example_of,
        uncertain=tuple(labelled.spans[word] for word in machine.uncertain) if machine else (),
    )
