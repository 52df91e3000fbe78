"""A sentence's answer, put together from its tagged windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metacross.corpora.sentence import Sentence, tags_of
from metacross.encoder.windows import Window
from metacross.retrieval.pools import Candidate, Neighbour
from metacross.tagging.answers import SupportSentence, TaggedEntity, TaggedSentence
from metacross.tagging.decoding import decode, found_entities, labelled_entities, visible_entities
from metacross.tagging.window_tagger import TaggedWindow


def tagged_sentence(
    sentence: Sentence, windows: Sequence[TaggedWindow], tags: Sequence[str], *, explain: bool
) -> TaggedSentence:
    """The answer for a sentence.

    Args:
        sentence: that was tagged.
        windows: all of its windows, in order, tagged.
        tags: the tags that columns of probabilities stand for.
        explain: add what was found without adaptation, and the support sentences.
    """
    shared = [flag for tagged in windows for flag in shared_pieces(tagged.window)]
    found_tags, found = _decoded(sentence, [tagged.chosen_WC for tagged in windows], tags, shared)
    adapted = any(tagged.neighbours for tagged in windows)
    answer = TaggedSentence(sentence, found_tags, found, len(windows), adapted)
    if not explain:
        return answer
    plain = [tagged.plain_WC for tagged in windows if tagged.plain_WC is not None]
    plain_tags, plain_found = _decoded(sentence, plain, tags, shared)
    support = tuple(
        _support_sentence(sentence, number, neighbour, candidate)
        for number, tagged in enumerate(windows)
        for neighbour, candidate in zip(tagged.neighbours, tagged.candidates, strict=True)
    )
    return replace(answer, support=support, plain_tags=plain_tags, plain_entities=plain_found)


def shared_pieces(window: Window) -> list[bool]:
    """Whether each scored word has no word piece of its own: its tag is read where the word before it is."""
    first = window.scored[0] - window.start
    pieces = window.first_pieces
    return [i > 0 and pieces[i] == pieces[i - 1] for i in range(first, first + len(window.scored_pieces()))]


def _decoded(
    sentence: Sentence, parts: Sequence[Tensor], tags: Sequence[str], shared: Sequence[bool]
) -> tuple[tuple[str, ...], tuple[TaggedEntity, ...]]:
    if not parts:
        return (), ()
    decoded = decode(torch.cat(list(parts)), tags, shared)
    # The tags agree with the entities: neither count words that nobody sees at an entity's ends.
    seen = tags_of(visible_entities(decoded.tags, sentence.words), len(sentence.words))
    return tuple(seen), found_entities(sentence, decoded)


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
        language=machine.language if machine else "",
        uncertain=tuple(labelled.spans[word] for word in machine.uncertain) if machine else (),
    )
