"""Teachers: what one says, the average of several, and who may not teach together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.adoption.teacher import Teachers, label_text
from metacross.corpora.sentence import sentence_from_text, sentence_from_words
from metacross.errors import UserError
from tests.helpers.adoption import other_theta

SENTENCES = [sentence_from_text("Anna Berg left Oslo."), sentence_from_words(["Jan", "spoke"], ["O", "O"])]


def test_one_teacher_labels_as_it_tags_plainly(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle)
    ticks: list[int] = []
    labelled = label_text(Teachers.open([tiny_bundle], device="cpu"), SENTENCES, tick=ticks.append)
    plain = tagger.tag_sentences(SENTENCES, adapt=False)
    assert [one.sentence.tags for one in labelled] == [tagged.tags for tagged in plain]
    for one, expected_WC in zip(labelled, tagger.probabilities(SENTENCES, adapt=False), strict=True):
        torch.testing.assert_close(one.probabilities_WC, expected_WC)
        chosen = [tagger.tags.index(tag) for tag in one.sentence.tags or ()]
        torch.testing.assert_close(one.confidence_W, expected_WC[range(len(chosen)), chosen])
    assert ticks == [2]


def test_several_teachers_are_averaged(tiny_bundle: Path, tmp_path: Path) -> None:
    other = other_theta(tiny_bundle, tmp_path / "other")
    alone = [Teachers.open([bundle], device="cpu").probabilities(SENTENCES) for bundle in (tiny_bundle, other)]
    together = Teachers.open([tiny_bundle, other], device="cpu")
    for a, b, both in zip(*alone, together.probabilities(SENTENCES), strict=True):
        assert not torch.equal(a, b)
        torch.testing.assert_close(both, (a + b) / 2)
    assert len(set(together.digests)) == 2


def test_teachers_of_other_tags_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    other = other_theta(tiny_bundle, tmp_path / "other", tags=("O", "B-ORG", "I-ORG", "B-PER", "I-PER"))
    with pytest.raises(UserError, match="its tags are O, B-ORG, I-ORG, B-PER, I-PER, but O, B-LOC"):
        Teachers.open([tiny_bundle, other], device="cpu")
