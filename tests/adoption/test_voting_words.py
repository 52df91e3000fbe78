"""The words of a bundle's adopted sentences that vote: all kinds of them, and no more than may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metacross.adoption import voting_words as module
from metacross.adoption.voting_words import voting_words
from metacross.bundle import load_bundle
from metacross.corpora.sentence import MachineLabels
from metacross.encoder.windows import PieceEncoder
from metacross.retrieval.labelled_words import O_ID, EncodedWords


def words(path: Path) -> EncodedWords:
    """Of a bundle whose sentences are its source's, an example of each and one of a machine's."""
    bundle = load_bundle(path)
    examples = [replace(sentence, example_of="es") for sentence in bundle.sentences]
    machine = [replace(sentence, machine=MachineLabels("de", 0.9)) for sentence in bundle.sentences]
    sentences, pieces = [*bundle.sentences, *examples, *machine], PieceEncoder(bundle.tokenizer, max_pieces=64)
    found = voting_words(bundle, len(bundle.sentences), sentences, pieces, bundle.config)
    assert found is not None
    return found


def test_words_of_examples_and_of_text_vote_and_source_words_do_not(tiny_bundle: Path) -> None:
    bundle, found = load_bundle(tiny_bundle), words(tiny_bundle)
    every = sum(len(sentence.words) for sentence in bundle.sentences)
    entity_words = sum(tag != "O" for sentence in bundle.sentences for tag in sentence.tags or ())
    assert (~found.machine_M).sum() == every
    assert entity_words == (found.machine_M & (found.tag_ids_M != O_ID)).sum()
    windows = len(PieceEncoder(bundle.tokenizer, max_pieces=64).windows(bundle.sentences))
    assert found.windows_M.min() >= windows


def test_of_many_words_no_more_vote_than_may(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(len(sentence.words) for sentence in load_bundle(tiny_bundle).sentences)
    monkeypatch.setattr(module, "MOST_BY_PEOPLE", 60)
    monkeypatch.setattr(module, "MOST_BY_MACHINE", 20)
    found = words(tiny_bundle)
    assert 60 - longest < (~found.machine_M).sum() < 60 + longest
    assert 20 - longest < found.machine_M.sum() < 20 + longest
