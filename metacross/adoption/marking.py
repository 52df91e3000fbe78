"""What a machine labelled, as arrays over words for the filter, and as sentences that say how sure it was.

Shapes: W words of all sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from metacross.adoption.agreement import O_TYPE, Flags, Floats, Types
from metacross.adoption.teacher import LabelledSentence
from metacross.corpora.schemes import types_of
from metacross.corpora.sentence import MachineLabels, Sentence, entities


def word_types(sentences: Sequence[Sentence], tags: Sequence[str]) -> Types:
    """The number of every word's entity type (W,), among those of a tag set."""
    numbers = {kind: number for number, kind in enumerate(types_of(tags), O_TYPE + 1)}
    number_of = {tag: O_TYPE if tag == "O" else numbers[tag[2:]] for tag in tags}
    return np.array([number_of[tag] for sentence in sentences for tag in sentence.tags or ()], dtype=np.int64)


def word_spans(sentences: Sequence[Sentence]) -> Types:
    """The number of every word's entity (W,); -1 for O."""
    spans: list[int] = []
    number = 0
    for sentence in sentences:
        of_words = [-1] * len(sentence.words)
        for entity in entities(sentence.tags or ()):
            of_words[entity.start : entity.end] = [number] * (entity.end - entity.start)
            number += 1
        spans += of_words
    return np.array(spans, dtype=np.int64)


def word_confidence(labelled: Sequence[LabelledSentence]) -> Floats:
    """The probability of every word's tag (W,)."""
    return np.asarray(torch.cat([one.confidence_W for one in labelled]).double().numpy())


def word_capitals(sentences: Sequence[Sentence]) -> Flags:
    """Whether words begin with a capital letter (W,)."""
    return np.array([word[0].isupper() for sentence in sentences for word in sentence.words])


def with_machine_labels(language: str, labelled: Sequence[LabelledSentence], uncertain_W: Flags) -> list[Sentence]:
    """The sentences with what is known of their labels.

    Args:
        language: ISO 639-1 code of all of them.
        labelled: at least one sentence.
        uncertain_W: which words' labels are too uncertain to learn from.
    """
    borders = np.cumsum([len(one.sentence.words) for one in labelled])[:-1]
    return [
        replace(one.sentence, machine=MachineLabels(language, _confidence(one), tuple(np.flatnonzero(flags).tolist())))
        for one, flags in zip(labelled, np.split(uncertain_W, borders), strict=True)
    ]


def _confidence(labelled: LabelledSentence) -> float:
    """The mean probability of the entities' tags; of all tags where there are none."""
    inside = torch.tensor([tag != "O" for tag in labelled.sentence.tags or ()])
    return round(float((labelled.confidence_W[inside] if inside.any() else labelled.confidence_W).mean()), 4)
