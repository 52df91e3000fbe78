"""Vectors of words against a literal version, and neighbours against a comparison with every word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metacross.adoption import word_vectors
from metacross.adoption.word_vectors import ComparedWords, WordEncoder
from metacross.bundle import Bundle, load_bundle
from metacross.corpora.sentence import sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.encoder.windows import PieceEncoder
from tests.helpers.adoption import TEXT

SENTENCES = [sentence_from_text(TEXT[start:end]) for start, end in split_sentences(TEXT)]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def encoder(bundle: Bundle) -> WordEncoder:
    pieces = PieceEncoder(bundle.tokenizer, max_pieces=bundle.config.model.max_pieces)
    return WordEncoder(bundle.model, pieces, batch_pieces=64, precision="fp32")


def test_a_vector_is_the_mean_of_the_last_layers_and_of_the_pieces(bundle: Bundle, encoder: WordEncoder) -> None:
    sentence = sentence_from_text("Anna Quimby left Oslo")
    encoded = bundle.tokenizer(sentence.text, return_tensors="pt")
    with torch.no_grad():
        hidden = bundle.model.classifier(**encoded, output_hidden_states=True).hidden_states
    pieces_TH = torch.stack(hidden[-3:]).mean(0)[0]
    words = encoded.word_ids(0)
    expected = [pieces_TH[[t for t, word in enumerate(words) if word == w]].mean(0) for w in range(4)]
    expected_WH = torch.nn.functional.normalize(torch.stack(expected), dim=1)
    assert len(words) > 6, "a word of several pieces"
    np.testing.assert_allclose(encoder.vectors([sentence]), expected_WH.numpy(), atol=1e-5)


def test_neighbours_are_the_nearest_words_of_other_sentences(encoder: WordEncoder) -> None:
    compared = ComparedWords(encoder, SENTENCES, k=5)
    owner = np.repeat(np.arange(len(SENTENCES)), [len(sentence.words) for sentence in SENTENCES])
    vectors = encoder.vectors(SENTENCES)
    similar = vectors @ vectors.T
    similar[owner[:, None] == owner] = -2
    numbers = [1, 4]
    found = compared.neighbours(numbers)
    rows = np.flatnonzero(np.isin(owner, numbers))
    best = np.sort(similar[rows], axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(np.take_along_axis(similar[rows], found, axis=1), best, atol=1e-5)


def test_a_large_text_is_compared_with_a_part_of_it(encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "COMPARED_WORDS", 25)
    compared = ComparedWords(encoder, SENTENCES, k=500)
    found = compared.neighbours([0])
    assert 0 < compared.k < 30
    assert found.shape == (len(SENTENCES[0].words), compared.k)
    assert found.min() >= len(SENTENCES[0].words), "no word of its own sentence"


def test_one_sentence_has_no_neighbours(encoder: WordEncoder) -> None:
    compared = ComparedWords(encoder, SENTENCES[:1], k=500)
    assert compared.k == 0
    assert compared.neighbours([0]).shape == (len(SENTENCES[0].words), 0)
