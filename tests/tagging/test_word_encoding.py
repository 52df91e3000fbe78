"""Which words of labelled windows may vote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metacross.bundle import Bundle, load_bundle
from metacross.corpora.sentence import MachineLabels, Sentence, sentence_from_words
from metacross.encoder.rows import trunk_states
from metacross.encoder.windows import PieceEncoder
from metacross.retrieval.labelled_words import O_ID, O_WORDS, EncodedWords
from metacross.retrieval.pools import Candidate
from metacross.tagging.word_encoding import encode_words

O_TEXT = sentence_from_words([*"abcdefghij" * 4, "Rome"], [*["O"] * 40, "B-LOC"])


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def encoded(bundle: Bundle, *sentences: Sentence) -> list[EncodedWords]:
    windows = PieceEncoder(bundle.tokenizer, max_pieces=bundle.config.model.max_pieces).windows(sentences)
    candidates = [Candidate(window, sentences[window.sentence]) for window in windows]
    with torch.no_grad():
        states, _ = trunk_states(bundle.model, windows, batch_pieces=512)
        return encode_words(
            bundle.model,
            candidates,
            range(len(windows)),
            states,
            tag_index={tag: i for i, tag in enumerate(bundle.tags)},
            batch_pieces=512,
        )


def by_machine(sentence: Sentence, *uncertain: int) -> Sentence:
    return replace(sentence, machine=MachineLabels("de", 0.9, uncertain))


def test_all_words_of_people_vote(bundle: Bundle) -> None:
    found = encoded(bundle, O_TEXT)
    assert sum(len(words.tag_ids_M) for words in found) == 41
    for words in found:
        np.testing.assert_allclose(np.linalg.norm(words.vectors_MH, axis=1), 1, atol=1e-5)
        assert not words.machine_M.any()


def test_of_a_machine_every_entity_word_votes_and_one_in_ten_o_words(bundle: Bundle) -> None:
    by_tag = np.concatenate([words.tag_ids_M for words in encoded(bundle, by_machine(O_TEXT))])
    assert (by_tag == O_ID).sum() == 40 / O_WORDS
    assert (by_tag != O_ID).sum() == 1
    alone = encoded(bundle, by_machine(O_TEXT))
    together = encoded(bundle, by_machine(replace(O_TEXT, text="another")), by_machine(O_TEXT))
    np.testing.assert_allclose(alone[-1].vectors_MH, together[-1].vectors_MH, atol=1e-5)
    assert all(words.machine_M.all() for words in together)


def test_words_of_which_a_machine_was_not_sure_do_not_vote(bundle: Bundle) -> None:
    found = np.concatenate([words.tag_ids_M for words in encoded(bundle, by_machine(O_TEXT, 40))])
    assert found.tolist() == [O_ID] * 4
    assert not any(len(words.tag_ids_M) for words in encoded(bundle, by_machine(O_TEXT, *range(41))))
