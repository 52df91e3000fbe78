"""Sentences that arrive a few at a time, labelled by one tagger and filtered by its confidence alone.

The filter of `metacross adopt` judges every label within its class and by similar words of the same text. A few
sentences have too few of both. So each sentence is judged by itself, and it does not matter which arrive together.
One bound can hold for all bundles, since probabilities are at the temperature that calibrates the bundle's scores.

Shapes: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from metacross.adoption.agreement import unconfident_words
from metacross.adoption.marking import with_machine_labels, word_capitals, word_confidence, word_spans
from metacross.adoption.teacher import LabelledSentence, Teachers, with_likeliest_tags
from metacross.corpora.sentence import Sentence
from metacross.retrieval.pools import useful_sentences
from metacross.tagging.tag_sequences import SMALLEST
from metacross.tagging.tagger import AdaptiveTagger


def label_by_confidence(
    tagger: AdaptiveTagger, sentences: Sequence[Sentence], *, language: str, bound: float
) -> list[Sentence]:
    """Labels sentences plainly, by theta; returns those that may be support, with `machine` set.

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

    A sentence that may be support has a certain entity or, where `retrieval.candidates` is `all`, a certain word.

    Args:
        tagger: who tagged.
        sentences: without tags; none without words.
        probabilities: tag probabilities (W, C) of each sentence's words.
        language: ISO 639-1 code of all of them.
        bound: the least calibrated probability of a label that is trusted.
    """
    if not sentences:
        return []
    teachers = Teachers([tagger])
    labelled = [_calibrated(one, tagger) for one in with_likeliest_tags(teachers, sentences, probabilities)]
    tagged = [one.sentence for one in labelled]
    uncertain_W = unconfident_words(
        spans_W=word_spans(tagged),
        confidence_W=word_confidence(labelled),
        capitals_W=word_capitals(tagged),
        bound=bound,
    )
    marked = with_machine_labels(language, labelled, uncertain_W)
    return useful_sentences(marked, teachers.pieces, tagger.config.retrieval.candidates)


def _calibrated(labelled: LabelledSentence, tagger: AdaptiveTagger) -> LabelledSentence:
    """The same tags with their probabilities at the temperature of the bundle's scores."""
    logits_WC = labelled.probabilities_WC.clamp_min(SMALLEST).log() / tagger.bundle.score_temperature
    probabilities_WC = logits_WC.softmax(1)
    chosen_W = torch.tensor([tagger.tags.index(tag) for tag in labelled.sentence.tags or ()])
    confidence_W = probabilities_WC.gather(1, chosen_W[:, None])[:, 0]
    return replace(labelled, probabilities_WC=probabilities_WC, confidence_W=confidence_W)
