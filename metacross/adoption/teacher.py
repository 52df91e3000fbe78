"""Teachers: one or several taggers that label sentences, and tell how sure they are of every word.

Shapes: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError
from metacross.retrieval.pools import ExamplePool
from metacross.sequences import groups
from metacross.tagging.decoding import shared_pieces
from metacross.tagging.tag_sequences import TagChains, TaggedWords
from metacross.tagging.tagger import AdaptiveTagger

GROUP = 512  # sentences that are labelled together


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence as the teachers label it.

    Attributes:
        sentence: with tags.
        probabilities_WC: the tag probabilities of its words, averaged over the teachers.
        confidence_W: the probability of each word's tag.
    """

    sentence: Sentence
    probabilities_WC: Tensor
    confidence_W: Tensor


class Teachers:
    """Taggers that label together. They tag plainly, each by its theta.

    Args:
        taggers: at least one.

    Attributes:
        tags: the tags that all of them know, in the order of probabilities.
        digests: their bundles'.
        taggers: as given.
        pieces: cuts sentences into the first one's windows.

    Raises:
        UserError: they do not know the same tags in the same order.
    """

    def __init__(self, taggers: Sequence[AdaptiveTagger]) -> None:
        first, *others = taggers
        self.taggers, self.tags = taggers, first.tags
        self.digests = tuple(tagger.bundle.digest for tagger in taggers)
        self.pieces = PieceEncoder(first.bundle.tokenizer, max_pieces=first.config.model.max_pieces)
        for other in others:
            refuse_other_tags(first.tags, other)

    @classmethod
    def open(cls, bundles: Sequence[str | Path], *, device: str) -> Self:
        """Loads bundles without their source sentences, which nobody needs who tags plainly.

        Raises:
            UserError: as `AdaptiveTagger.from_pretrained`, or they know different tags.
        """
        no_source = partial(AdaptiveTagger.from_pretrained, pool=lambda b: ExamplePool(b.sentence_encoder.size))
        return cls([no_source(bundle, device=device) for bundle in bundles])

    def probabilities(self, sentences: Sequence[Sentence]) -> list[Tensor]:
        """Tag probabilities (W, C) of each sentence's words, averaged over the teachers."""
        found = [tagger.probabilities(sentences, adapt=False) for tagger in self.taggers]
        return [torch.stack(of_one).mean(0) for of_one in zip(*found, strict=True)]


def refuse_other_tags(tags: Sequence[str], teacher: AdaptiveTagger) -> None:
    """Raises UserError where a teacher does not know these tags in this order."""
    if tuple(teacher.tags) != tuple(tags):
        raise UserError(
            f"{teacher.bundle.path}: its tags are {', '.join(teacher.tags)}, but {', '.join(tags)} are needed, in this "
            "order. Teachers must have been trained for the same entity types (data.tag_map can rename types)."
        )


def label_text(
    teachers: Teachers, sentences: Sequence[Sentence], *, tick: Callable[[int], None] = lambda count: None
) -> list[LabelledSentence]:
    """Labels sentences: the likeliest valid IOB2 tags by the average of the teachers' probabilities.

    Args:
        teachers: who labels.
        sentences: with or without tags, which are not looked at.
        tick: called with the number of sentences just labelled.
    """
    labelled: list[LabelledSentence] = []
    for group in groups(sentences, size=lambda sentence: 1, most=GROUP):
        labelled += with_likeliest_tags(teachers, group, teachers.probabilities(group))
        tick(len(group))
    return labelled


def with_likeliest_tags(
    teachers: Teachers, sentences: Sequence[Sentence], probabilities: Sequence[Tensor]
) -> list[LabelledSentence]:
    """Sentences with their likeliest valid IOB2 tags.

    Args:
        teachers: who labels.
        sentences: with or without tags, which are not looked at.
        probabilities: the teachers' (W, C) of each sentence, see `Teachers.probabilities`.
    """
    shared: list[list[bool]] = [[] for _ in sentences]
    for window in teachers.pieces.windows(sentences):
        shared[window.sentence] += shared_pieces(window)
    words = [TaggedWords(one_WC.numpy(), flags) for one_WC, flags in zip(probabilities, shared, strict=True)]
    likeliest = TagChains(words, teachers.tags).best_tags()
    labelled = []
    for sentence, tags, one_WC in zip(sentences, likeliest, probabilities, strict=True):
        chosen_W = torch.tensor([teachers.tags.index(tag) for tag in tags])
        confidence_W = one_WC.gather(1, chosen_W[:, None])[:, 0]
        labelled.append(LabelledSentence(replace(sentence, tags=tuple(tags)), one_WC, confidence_W))
    return labelled
