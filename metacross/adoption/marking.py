"""What a machine labelled as sentences that say how sure it was, and of which words it was not.

Every sentence is judged by itself, so it does not matter which are labelled together. There is no bound for each class,
and words are not compared with similar ones of the text: that was tried (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metacross.adoption.teacher import LabelledSentence
from metacross.corpora.sentence import MachineLabels, Sentence, entities


def certain_sentences(language: str, labelled: Sequence[LabelledSentence], bound: float) -> list[Sentence]:
    """The sentences that have a word of whose tag the machine was sure, with what is known of their tags.

    Args:
        language: ISO 639-1 code of all of them.
        labelled: the sentences.
        bound: the least probability of a tag that is trusted. An entity has the mean of its words: it is trusted as a
            whole or not at all.
    """
    marked = [replace(one.sentence, machine=_machine_labels(language, one, bound)) for one in labelled]
    return [sentence for sentence in marked if len(sentence.uncertain) < len(sentence.words)]


def _machine_labels(language: str, labelled: LabelledSentence, bound: float) -> MachineLabels:
    confidence = labelled.confidence_W.tolist()
    inside: list[float] = []
    for _, start, end in entities(labelled.sentence.tags or ()):
        inside += confidence[start:end]
        confidence[start:end] = [sum(confidence[start:end]) / (end - start)] * (end - start)
    uncertain = tuple(word for word, sure in enumerate(confidence) if sure < bound)
    told = inside or confidence
    return MachineLabels(language, round(sum(told) / max(len(told), 1), 4), uncertain)
