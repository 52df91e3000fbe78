"""A text labelled by teachers, in parts so that an interrupted call goes on, and divided for its two uses.

Some sentences are for theta to be trained on, the others to shape answers. No sentence is for both: support that theta
was trained on has nothing left to say.

Shapes: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metacross.adoption.marking import certain_sentences
from metacross.adoption.teacher import LabelledSentence, Teachers, label_text
from metacross.adoption.text import TargetText
from metacross.adoption.work import Work
from metacross.corpora.sentence import Sentence
from metacross.events import Show
from metacross.indexing.build import Clock

PART = 512  # sentences whose results are kept together


@dataclass(frozen=True)
class DividedText:
    """A labelled text.

    Attributes:
        text: as it was read.
        for_theta: the sentences that theta is to be trained on.
        for_support: the sentences that may shape answers, with `machine` set.
    """

    text: TargetText
    for_theta: Sequence[LabelledSentence]
    for_support: Sequence[Sentence]


def label_and_divide(
    text: TargetText,
    teachers: Teachers,
    *,
    share_distilled: float,
    seed: int,
    bound: float,
    work: Work,
    show: Show,
) -> DividedText:
    """Labels a text, divides it at random, and finds what is uncertain in the part that may shape answers.

    Args:
        text: the text.
        teachers: who labels.
        share_distilled: share of the sentences that theta is to be trained on.
        seed: decides which.
        bound: the least probability of a tag that is trusted.
        work: keeps the parts.
        show: gets `Preparation` events.
    """
    labelled = _labelled(text, teachers, work, show)
    order = np.random.default_rng([seed, len(labelled)]).permutation(len(labelled))
    cut = round(share_distilled * len(labelled))
    for_theta, for_support = sorted(order[:cut].tolist()), sorted(order[cut:].tolist())
    # Words are given from now on: source.jsonl does not say whether they were found in raw text.
    certain = certain_sentences(text.language, [labelled[i] for i in for_support], bound)
    marked = [replace(sentence, presplit=True) for sentence in certain]
    return DividedText(text, [labelled[i] for i in for_theta], marked)


def _labelled(text: TargetText, teachers: Teachers, work: Work, show: Show) -> list[LabelledSentence]:
    labelled: list[LabelledSentence] = []
    tag_index = {tag: i for i, tag in enumerate(teachers.tags)}

    def compute(part: Sequence[int]) -> dict[str, Tensor]:
        found = label_text(teachers, [text.sentences[i] for i in part])
        return {
            "probabilities": torch.cat([one.probabilities_WC for one in found]),
            "confidence": torch.cat([one.confidence_W for one in found]),
            "tags": torch.tensor([tag_index[tag] for one in found for tag in one.sentence.tags or ()]),
        }

    numbers = range(len(text.sentences))
    for part, found in _in_parts(f"labelling {text.language}", numbers, compute, work, show):
        words = [len(text.sentences[i].words) for i in part]
        columns = (torch.split(found[name], words) for name in ("probabilities", "confidence", "tags"))
        for i, probabilities_WC, confidence_W, tags_W in zip(part, *columns, strict=True):
            sentence = replace(text.sentences[i], tags=tuple(teachers.tags[tag] for tag in tags_W.tolist()))
            labelled.append(LabelledSentence(sentence, probabilities_WC, confidence_W))
    return labelled


def _in_parts(
    what: str, numbers: Sequence[int], compute: Callable[[Sequence[int]], dict[str, Tensor]], work: Work, show: Show
) -> Iterator[tuple[Sequence[int], dict[str, Tensor]]]:
    """Parts of a text's sentences with their results, which are kept; shows how far the work has come."""
    parts = [numbers[start : start + PART] for start in range(0, len(numbers), PART)]
    names = [f"{what.replace(' ', '-')}-{number:06d}" for number in range(len(parts))]
    before = sum(len(part) for part, name in zip(parts, names, strict=True) if work.has(name))
    clock = Clock(what, len(numbers), show, before=before)
    done = 0
    for part, name in zip(parts, names, strict=True):
        yield part, work.kept(name, partial(compute, part))
        done += len(part)
        if done > before:
            clock(done)
