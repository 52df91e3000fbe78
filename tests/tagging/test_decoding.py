"""Segments of words become entities of a text."""

from __future__ import annotations

import numpy as np
import pytest

from metacross.corpora.sentence import sentence_from_words
from metacross.tagging.answers import TaggedEntity
from metacross.tagging.decoding import found_entities, labelled_entities
from metacross.tagging.tag_sequences import Segment, TagChains, TaggedWords

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def segments(words: list[list[float]], shared: list[bool] | None = None) -> list[Segment]:
    tagged = TaggedWords(np.array(words).reshape(-1, len(TAGS)), shared or [False] * len(words))
    return TagChains([tagged], TAGS).segments()[0]


def test_entities_have_the_probability_that_they_are_there() -> None:
    sentence = sentence_from_words(["New", "York", "saw", "Ada"])
    tags, (york, ada) = found_entities(
        sentence,
        segments([[0.1, 0.9, 0, 0, 0], [0.2, 0.1, 0.7, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 0, 0.2, 0.8]]),
    )
    assert tags == ("B-LOC", "I-LOC", "O", "B-PER")  # an I- with nothing before it cannot be
    assert (york.label, york.start, york.end, york.text) == ("LOC", 0, 8, "New York")
    assert (ada.label, ada.start, ada.end, ada.text) == ("PER", 13, 16, "Ada")
    possible = 0.9 * (0.2 + 0.1 + 0.7) + 0.1 * (0.2 + 0.1)
    assert york.score == pytest.approx(0.9 * 0.7 / possible)
    assert ada.score == pytest.approx(1)


def test_words_that_share_a_piece_continue_its_entity() -> None:
    sentence = sentence_from_words(["a", "b", "c"])
    tags, _ = found_entities(sentence, segments([[0.1, 0.9, 0, 0, 0]] * 3, [False, True, False]))
    assert tags == ("B-LOC", "I-LOC", "B-LOC")


@pytest.mark.parametrize(
    ("words", "tags", "expected"),
    [
        (["\xa0", "Ada", " ", "King", "\u200b", "left"], "B I I I I O", [("Ada   King", "PER")]),
        (["\ufeffAda\u200f", "left"], "B O", [("Ada", "PER")]),
        (["Ada", "\u200b", "\u3000", "King"], "B B I O", [("Ada", "PER")]),
        (["\x00", "\u2028"], "B I", []),
        (["\u0301", "Ada", "\ufe0f"], "B I I", [("Ada", "PER")]),
        (["\u0301", " "], "B B", []),
        (["می\u200cروم"], "B", [("می\u200cروم", "PER")]),
    ],
)
def test_entities_neither_begin_nor_end_with_what_nobody_sees(
    words: list[str], tags: str, expected: list[tuple[str, str]]
) -> None:
    sentence = sentence_from_words(words, [{"B": "B-PER", "I": "I-PER", "O": "O"}[letter] for letter in tags.split()])
    certain = segments([[float(tag == other) for other in TAGS] for tag in sentence.tags or ()])
    for found in (found_entities(sentence, certain)[1], labelled_entities(sentence)):
        assert [(entity.text, entity.label) for entity in found] == expected
        assert all(sentence.text[entity.start : entity.end] == entity.text for entity in found)


def test_a_sentence_without_words_has_no_entities() -> None:
    sentence = sentence_from_words([])
    assert found_entities(sentence, segments([])) == ((), ())


def test_labels_of_people_have_no_score_and_move_with_their_sentence() -> None:
    sentence = sentence_from_words(["Ada", "left"], ["B-PER", "O"])
    (ada,) = labelled_entities(sentence)
    assert ada == TaggedEntity(0, 3, "Ada", "PER")
    assert ada.moved(10) == TaggedEntity(10, 13, "Ada", "PER")
