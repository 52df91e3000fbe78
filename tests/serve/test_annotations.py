"""Labelled sentences as users give them: what fits is taken exactly, what does not is told with what would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.sentence import entities
from metacross.errors import UserError
from serve.annotations import sentence_of, sentence_of_words

LABELS = ("PER", "LOC", "ORG")
TEXT = "Ana Sá lebt 👩‍👧 in São Paulo."


def test_offsets_count_code_points() -> None:
    start = TEXT.index("São")
    sentence = sentence_of(TEXT, [(start, start + 9, "LOC"), (0, 6, "PER")], labels=LABELS)
    assert sentence.text == TEXT
    assert not sentence.presplit
    assert sentence.tags is not None
    found = [(e.type, [sentence.words[w] for w in range(e.start, e.end)]) for e in entities(sentence.tags)]
    assert found == [("PER", ["Ana", "Sá"]), ("LOC", ["São", "Paulo"])]


def test_labels_are_kept_as_the_service_writes_them() -> None:
    assert sentence_of("Ana lebt", [(0, 3, "person")], labels=LABELS).tags == ("B-PER", "O")
    assert sentence_of_words(["São", "Paulo"], ["B-loc", "I-loc"], labels=LABELS).tags == ("B-LOC", "I-LOC")


def test_neighbouring_entities_stay_two() -> None:
    sentence = sentence_of("北京上海", [(0, 2, "LOC"), (2, 4, "LOC")], labels=LABELS)
    assert sentence.tags == ("B-LOC", "I-LOC", "B-LOC", "I-LOC")


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            [(0, 3, "city")],
            "entity 1 (0:3 'Ana') has the label 'city'; expected one of LOC, ORG, PER. Did you mean LOC?",
        ),
        ([(0, 3, "PER"), (1, 3, "PER")], "entity 2 (1:3 'na') does not begin and end where words do; the nearest"),
        ([(1, 5, "PER")], "the nearest that does is 0:6 'Ana Sá'."),
        ([(3, 6, "PER")], "the nearest that does is 4:6 'Sá'."),
        ([(4, 7, "PER")], "the nearest that does is 4:6 'Sá'."),
        ([(4, 4, "PER")], "entity 1 (4:4 '') is empty or reaches outside of the text's 29 code points."),
        ([(3, 4, "PER")], "entity 1 (3:4 ' ') does not begin and end where words do; the nearest"),
        ([(5, 4, "PER")], "is empty or"),
        ([(-3, 3, "PER")], "entity 1 (-3:3 'Ana') is empty or reaches outside"),
        ([(19, 30, "LOC")], "reaches outside"),
        ([(0, 6, "PER"), (4, 6, "LOC")], "entity 2 (4:6 'Sá') overlaps entity 1 (0:6 'Ana Sá')"),
        ([(4, 6, "LOC"), (0, 6, "PER")], "entity 2 (0:6 'Ana Sá') overlaps entity 1 (4:6 'Sá')"),
        ([(0, 3, "PER"), (0, 3, "PER")], "entity 2 (0:3 'Ana') overlaps entity 1 (0:3 'Ana')"),
    ],
)
def test_entities_that_do_not_fit(marked: list[tuple[int, int, str]], message: str) -> None:
    with pytest.raises(UserError) as caught:
        sentence_of(TEXT, marked, labels=LABELS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        (" \n\t", "the text is empty"),
        (
            "Ana \ud83d lebt",
            "the text holds U+D83D (half of a surrogate pair) at 4, which cannot be kept; leave it out.",
        ),
        ("Ana\0", "the text holds U+0000 (NUL) at 3"),
    ],
)
def test_texts_that_cannot_be_kept(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        sentence_of(text, [], labels=LABELS)
    assert message in str(caught.value)


@given(st.text(min_size=1, max_size=30), st.data())
def test_what_is_proposed_is_taken(text: str, data: st.DataObject) -> None:
    """Any stretch of any text is refused or becomes exactly one entity there; the proposal of a refusal is taken."""
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    try:
        sentence_of(text, [], labels=LABELS)
    except UserError:
        return  # no words, or NUL
    try:
        sentence = sentence_of(text, [(start, end, "PER")], labels=LABELS)
    except UserError as error:
        proposed = str(error).rpartition(" is ")[2].split()[0]
        start, end = (int(offset) for offset in proposed.split(":"))
        sentence = sentence_of(text, [(start, end, "PER")], labels=LABELS)
    (found,) = entities(sentence.tags or ())
    assert (sentence.spans[found.start][0], sentence.spans[found.end - 1][1]) == (start, end)


def test_words_with_tags() -> None:
    words, tags = ["Ana", "mora", "em", "São", "Paulo"], ["B-PER", "O", "O", "B-LOC", "I-LOC"]
    sentence = sentence_of_words(words, tags, labels=LABELS)
    assert (sentence.text, sentence.words, sentence.tags) == ("Ana mora em São Paulo", tuple(words), tuple(tags))
    assert sentence.presplit


def test_the_language_decides_on_spaces() -> None:
    words, tags = ["大韓", "民國"], ["B-LOC", "I-LOC"]
    assert sentence_of_words(words, tags, labels=LABELS, language="ko").text == "大韓 民國"
    assert sentence_of_words(words, tags, labels=LABELS).text == "大韓民國"


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        ([], [], "there are no words"),
        (["Ana", ""], ["O", "O"], "word 2 is empty; leave it out, with its tag."),
        (["Ana", " \t"], ["O", "O"], "word 2 is empty"),
        (["Ana", "\udc00"], ["O", "O"], "word 2 holds U+DC00"),
        (["Ana", "a\0"], ["O", "O"], "word 2 holds U+0000 (NUL) at 1"),
        (["Ana"], ["O", "O"], "found 1 word and 2 tags"),
        (["Ana", "Sá"], ["O", "I-PER"], "tag 2 ('I-PER') is not IOB2"),
        (["Ana", "Sá"], ["B-PER", "I-LOC"], "tag 2 ('I-LOC') is not IOB2"),
        (["Ana", "Sá"], ["B-PER", "E-PER"], "tag 2 ('E-PER') is not IOB2"),
        (["Ana"], ["PER"], "tag 1 ('PER') is not IOB2"),
        (["Ana"], ["B-"], "tag 1 ('B-') is not IOB2"),
        (["Ana"], [""], "tag 1 ('') is not IOB2"),
        (["Ana"], ["B-MISC"], "tag 1 has the label 'MISC'; expected one of LOC, ORG, PER."),
    ],
)
def test_words_that_do_not_fit(words: list[str], tags: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        sentence_of_words(words, tags, labels=LABELS)
    assert message in str(caught.value)
