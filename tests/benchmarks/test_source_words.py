"""Votes of the source's words: which words they are, and what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.source_words import Gain, biased, gain, measure, source_voters
from metacross import AdaptiveTagger
from metacross.corpora.sentence import MachineLabels, Sentence
from metacross.encoder.windows import PieceEncoder
from metacross.retrieval.labelled_words import O_ID


def test_only_words_of_the_source_vote_and_only_with_the_votes_answers_differ(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu", overrides=["words.similarity=-1"])
    bundle, pieces = tagger.bundle, PieceEncoder(tagger.bundle.tokenizer, max_pieces=64)
    voters = source_voters(bundle, pieces)
    others = [replace(sentence, machine=MachineLabels("de", 0.9)) for sentence in bundle.sentences]
    adopted = source_voters(replace(bundle, sentences=[*bundle.sentences, *others]), pieces)
    assert voters is not None and adopted is not None and voters.machine_M.all()
    assert adopted.windows_M.tolist() == voters.windows_M.tolist()
    entity_words = sum(tag != "O" for sentence in bundle.sentences for tag in sentence.tags or ())
    assert (voters.tag_ids_M != O_ID).sum() == entity_words
    voting = AdaptiveTagger(replace(bundle, words=voters), device=tagger.device, config=tagger.config)
    f1, votes, control = measure(voting, pieces, bundle.sentences, bias=0.0)
    assert measure(tagger, pieces, bundle.sentences, bias=0.0) == (f1, Gain(0, 0, 0), Gain(0, 0, 0))
    assert votes.won + votes.lost > 0 and control == Gain(0, 0, 0)


def test_the_control_changes_unsure_words_alone() -> None:
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    found = biased(torch.tensor([sure, unsure]), ["O", "B-PER"], 0.5)
    assert found[0].tolist() == pytest.approx(sure) and found[1, 1] > 0.4 + 0.1


def test_words_won_and_lost() -> None:
    sentence = Sentence("a b c", ("a", "b", "c"), ((0, 1), (2, 3), (4, 5)), ("B-PER", "O", "B-LOC"))
    found = gain([sentence], [["O", "O", "B-LOC"]], [["B-PER", "B-LOC", "B-ORG"]])
    assert found.won == 1 and found.lost == 2 and found.f1 == pytest.approx(100 * (2 / 5 - 2 / 3))
