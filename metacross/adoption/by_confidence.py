"""Sentences that arrive a few at a time, labelled by one tagger.

One bound can hold for all bundles, since probabilities are at the temperature that calibrates the bundle's scores.

Shapes: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metacross.adoption.marking import certain_sentences
from metacross.adoption.teacher import LabelledSentence, Teachers, with_likeliest_tags
from metacross.corpora.sentence import Sentence
from metacross.tagging.tag_sequences import SMALLEST
from metacross.tagging.tagger import AdaptiveTagger


def label_by_confidence(
    tagger: AdaptiveTagger, sentences: Sequence[Sentence], *, language: str, bound: float
) -> list[Sentence]:
    """Labels sentences plainly, by theta; returns those with a certain word, with `machine` set.

    Args:
        tagger: who labels.
        sentences: without tags; none without words.
        language: ISO 639-1 code of all of them.
        bound: the least calibrated probability of a label that is trusted.
    """
    probabilities = tagger.probabilities(sentences, adapt=False)
    return confident_labels(tagger, sentences, probabilities, language=language, bound=bound)


def confident_labels(
    tagger: AdaptiveTagger,
    sentences: Sequence[Sentence],
    probabilities: Sequence[Tensor],
    *,
    language: str,
    bound: float,
) -> list[Sentence]:
    """`label_by_confidence` for sentences that the tagger has tagged plainly.

    Args:
        tagger: who tagged.
        sentences: without tags; none without words.
        probabilities: tag probabilities (W, C) of each sentence's words.
        language: ISO 639-1 code of all of them.
        bound: the least calibrated probability of a label that is trusted.
    """
    if not sentences:
        return []
    labelled = with_likeliest_tags(Teachers([tagger]), sentences, probabilities)
    return certain_sentences(language, [_calibrated(one, tagger) for one in labelled], bound)


def _calibrated(labelled: LabelledSentence, tagger: AdaptiveTagger) -> LabelledSentence:
    """The same tags with their probabilities at the temperature of the bundle's scores."""
    logits_WC = labelled.probabilities_WC.clamp_min(SMALLEST).log() / tagger.bundle.score_temperature
    probabilities_WC = logits_WC.softmax(1)
    chosen_W = torch.tensor([tagger.tags.index(tag) for tag in labelled.sentence.tags or ()])
    confidence_W = probabilities_WC.gather(1, chosen_W[:, None])[:, 0]
    return replace(labelled, probabilities_WC=probabilities_WC, confidence_W=confidence_W)
