"""Probabilities become valid tags, and tags become entities of a text."""

from __future__ import annotations

import pytest
import torch

from metacross.corpora.sentence import sentence_from_words
from metacross.tagging.answers import TaggedEntity
from metacross.tagging.decoding import decode, found_entities, labelled_entities

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def test_entities_have_the_mean_probability_of_their_tags() -> None:
    sentence = sentence_from_words(["New", "York", "saw", "Ada"])
    probabilities_WC = torch.tensor(
        [[0.1, 0.9, 0, 0, 0], [0.2, 0.1, 0.7, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 0, 0.2, 0.8]]
    )
    decoded = decode(probabilities_WC, TAGS, [False] * 4)
    assert decoded.tags == ["B-LOC", "I-LOC", "O", "B-PER"]  # an I- with nothing before it begins an entity
    york, ada = found_entities(sentence, decoded)
    assert (york.type, york.start, york.end, york.text) == ("LOC", 0, 8, "New York")
    assert (ada.type, ada.start, ada.end, ada.text) == ("PER", 13, 16, "Ada")
    assert york.score == pytest.approx(0.8)


def test_words_that_share_a_piece_continue_its_entity() -> None:
    probabilities_WC = torch.tensor([[0.1, 0.9, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [0.1, 0.9, 0, 0, 0]])
    assert decode(probabilities_WC, TAGS, [False, True, False]).tags == ["B-LOC", "I-LOC", "B-LOC"]


def test_a_sentence_without_words_has_no_entities() -> None:
    sentence = sentence_from_words([])
    assert found_entities(sentence, decode(torch.empty(0, 5), TAGS, [])) == ()


def test_labels_of_people_have_no_score_and_move_with_their_sentence() -> None:
    sentence = sentence_from_words(["Ada", "left"], ["B-PER", "O"])
    (ada,) = labelled_entities(sentence)
    assert ada == TaggedEntity("PER", 0, 3, "Ada")
    assert ada.moved(10) == TaggedEntity("PER", 10, 13, "Ada")
