"""What nobody sees at the edges of words."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.characters import INVISIBLE, visible, visible_part


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("\ufeffAna", "Ana"),
        ("Ana\u200b", "Ana"),
        ("\u202bAna\u202c", "Ana"),
        ("\u2067\u200fدبي\u2069", "دبي"),
        ("\xa0Ana\u3000", "Ana"),
        ("A\u200cna", "A\u200cna"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("മോഹന്\u200d", "മോഹന്\u200d"),  # the last letter is written with a joiner
        ("Ana\u200d", "Ana"),
        ("\u0600", "\u0600"),  # the Arabic sign of a number is seen
        ("\U0001f3f4\U000e0067\U000e007f", "\U0001f3f4\U000e0067\U000e007f"),  # a flag
        ("\u200b\ufeff \t", ""),
        ("", ""),
    ],
)
def test_invisible_edges_are_no_part_of_a_word(word: str, expected: str) -> None:
    assert visible(word) == expected


@given(st.text(), st.text())
def test_nothing_that_is_seen_is_lost(before: str, text: str) -> None:
    start, end = visible_part(before + text, len(before), len(before + text))
    cut = (before + text)[len(before) : start] + (before + text)[end:]
    assert set(cut) <= INVISIBLE
    assert not any(unicodedata.category(character)[0] in "LNPS" and character != "\u0600" for character in cut)
    assert visible(visible(text)) == visible(text)
