"""Sentences that arrive a few at a time, labelled by one tagger and filtered by its confidence alone.

The filter of `metacross adopt` judges every label within its class and by similar words of the same text. A few
sentences have too few of both. So each sentence is judged by itself, and it does not matter which arrive together.
"""

from __future__ import annotations

from collections.abc import Sequence

from metacross.adoption.agreement import unconfident_words
from metacross.adoption.marking import with_machine_labels, word_capitals, word_confidence, word_spans
from metacross.adoption.teacher import Teachers, label_text
from metacross.corpora.sentence import Sentence
from metacross.retrieval.pools import useful_sentences
from metacross.tagging.tagger import AdaptiveTagger


def label_by_confidence(
    tagger: AdaptiveTagger, sentences: Sequence[Sentence], *, language: str, bound: float
) -> list[Sentence]:
    """Labels sentences plainly, by theta; returns those that may be support, with `machine` set.

    A sentence that may be support has a certain entity or, where `retrieval.candidates` is `all`, a certain word.

    Args:
        tagger: who labels.
        sentences: without tags; none without words.
        language: ISO 639-1 code of all of them.
        bound: the least probability of a label that is trusted.
    """
    if not sentences:
        return []
    teachers = Teachers([tagger])
    labelled = label_text(teachers, sentences)
    tagged = [one.sentence for one in labelled]
    uncertain_W = unconfident_words(
        spans_W=word_spans(tagged),
        confidence_W=word_confidence(labelled),
        capitals_W=word_capitals(tagged),
        bound=bound,
    )
    marked = with_machine_labels(language, labelled, uncertain_W)
    return useful_sentences(marked, teachers.pieces, tagger.config.retrieval.candidates)
