"""Sentences slice back into their words, and tags into their entities."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metacross.corpora.characters import INVISIBLE, visible
from metacross.corpora.sentence import EntitySpan, entities, sentence_from_text, sentence_from_words, tags_of
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT, ODD, tagged, written


@given(tagged())
def test_entities_and_tags_are_inverse(drawn: tuple[list[EntitySpan], int]) -> None:
    found, n_words = drawn
    assert tags_of(found, n_words) == written(found, n_words, "IOB2")
    assert entities(tags_of(found, n_words)) == found


@pytest.mark.parametrize(
    "wrong",
    [
        [EntitySpan("A", 0, 0)],
        [EntitySpan("A", 2, 4)],
        [EntitySpan("A", -1, 1)],
        [EntitySpan("A", 0, 2), EntitySpan("B", 1, 3)],
    ],
)
def test_tags_of_refuses(wrong: list[EntitySpan]) -> None:
    with pytest.raises(ValueError, match="is empty, overlaps"):
        tags_of(wrong, 3)


@given(st.lists(ANY_TEXT.filter(bool)), st.sampled_from([None, "ko", "zh"]))
def test_spans_of_given_words_slice_back(given_words: list[str], language: str | None) -> None:
    sentence = sentence_from_words(given_words, language=language)
    assert [sentence.text[start:end] for start, end in sentence.spans] == given_words == list(sentence.words)
    gaps = zip(sentence.spans, sentence.spans[1:], strict=False)
    assert {sentence.text[before[1] : after[0]] for before, after in gaps} <= {"", " "}
    assert sentence.presplit and sentence.tags is None


def test_words_and_tags_must_match() -> None:
    with pytest.raises(UserError, match="f:3: found 2 words and 1 tag"):
        sentence_from_words(["a", "b"], ["O"], place="f:3")
    with pytest.raises(UserError, match=r"^word 2 is empty"):
        sentence_from_words(["a", ""])


@given(st.text(st.one_of(st.sampled_from(ODD + "\ufeff\u200c\u200d\u202b\u2069\x1b\u094d"), st.characters())))
@example("a.b.'s-1,2:'")
def test_every_visible_character_is_in_exactly_one_word(text: str) -> None:
    sentence = sentence_from_text(text)
    assert sentence.text == text and not sentence.presplit
    assert [text[start:end] for start, end in sentence.spans] == list(sentence.words)
    assert all(visible(word) == word != "" for word in sentence.words)
    covered = [place for start, end in sentence.spans for place in range(start, end)]
    assert covered == sorted(set(covered))
    # Invisible characters may be inside words.
    assert [place for place in covered if text[place] not in INVISIBLE] == [
        place for place, character in enumerate(text) if character not in INVISIBLE
    ]
    assert not any(text[place].isspace() for place in covered)
