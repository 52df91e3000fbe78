"""Windows of word pieces: every word scored once, given words' borders kept, offsets true."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from metacross.corpora.sentence import Sentence, sentence_from_text, sentence_from_words
from metacross.encoder.windows import IGNORED, PieceEncoder, Window, tag_ids
from metacross.errors import UserError

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def tokenizer(embedded_dir: Path):  # type: ignore[no-untyped-def]
    return AutoTokenizer.from_pretrained(embedded_dir)


def pieces_of(encoder: PieceEncoder, window: Window) -> list[str]:
    return list(encoder.tokenizer.convert_ids_to_tokens(list(window.piece_ids)))


def check_windows(sentence: Sentence, windows: list[Window], max_pieces: int) -> None:
    """Every word scored once and in order, its first piece inside the window and before the next word's."""
    scored = [word for window in windows for word in range(*window.scored)]
    assert scored == list(range(len(sentence.words)))
    for window in windows:
        assert len(window) <= max_pieces
        assert window.start <= window.scored[0]
        assert window.scored[1] <= window.start + len(window.first_pieces)
        assert all(0 < piece < len(window) - 1 for piece in window.first_pieces)
        steps = [b - a for a, b in itertools.pairwise(window.first_pieces)]
        assert all(step >= (1 if sentence.presplit else 0) for step in steps)


def test_a_word_is_tagged_on_its_first_piece(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=64)
    sentence = sentence_from_words(["Unbelievably", ",", "Obama", "stayed"], ["O", "O", "B-PER", "O"])
    (window,) = encoder.windows([sentence])
    pieces = pieces_of(encoder, window)
    assert pieces[0] == "<s>"
    assert pieces[-1] == "</s>"
    assert [pieces[i] for i in window.first_pieces][1:] == [",", "▁Obama", "▁stay"] or pieces[
        window.first_pieces[2]
    ].startswith("▁O")
    ids_T = tag_ids(window, sentence, {tag: i for i, tag in enumerate(TAGS)})
    assert [int(ids_T[i]) for i in window.first_pieces] == [0, 0, 3, 0]
    assert int((ids_T != IGNORED).sum()) == 4


@pytest.mark.parametrize("odd", ["\x00", "\x85", "\xad", "\u202b", "\u2060", "\u2067", "\ufeff"])
def test_invisible_characters_between_words_make_no_pieces(tokenizer, odd: str) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=64)
    texts = [f"They met {odd}Merkel{odd} in {odd} Berlin.", "They met Merkel in Berlin."]
    windows = encoder.windows([sentence_from_text(text) for text in texts])
    assert windows[0].piece_ids == windows[1].piece_ids
    assert windows[0].first_pieces == windows[1].first_pieces


def test_later_pieces_continue_their_words_entity(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=64)
    sentence = sentence_from_words(["Guayaquil", ",", "Wilfredo", "Condori"], ["B-LOC", "O", "B-PER", "I-PER"])
    (window,) = encoder.windows([sentence])
    tag_index = {tag: i for i, tag in enumerate(TAGS)}
    first_T, later_T = tag_ids(window, sentence, tag_index), encoder.later_tag_ids(window, sentence, tag_index)
    tagged = [
        (piece, *(TAGS[ids_T[i]] if ids_T[i] != IGNORED else "" for ids_T in (first_T, later_T)))
        for i, piece in enumerate(pieces_of(encoder, window))
    ]
    assert tagged == [
        ("<s>", "", ""),
        ("▁Gua", "B-LOC", ""),
        ("ya", "", "I-LOC"),
        ("quil", "", "I-LOC"),
        ("▁", "", "O"),  # the marker before the comma, which is a word
        (",", "O", ""),
        ("▁Wil", "B-PER", ""),
        ("fred", "", "I-PER"),
        ("o", "", "I-PER"),
        ("▁Condo", "I-PER", ""),
        ("ri", "", "I-PER"),
        ("</s>", "", ""),
    ]


def test_later_pieces_of_words_that_are_scored_in_another_window_have_no_tag(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=16)
    sentence = sentence_from_words(["Unforeseeable"] * 12, ["O"] * 12)
    tag_index = {tag: i for i, tag in enumerate(TAGS)}
    windows = encoder.windows([sentence])
    assert len(windows) > 1
    pieces = len(encoder.windows([sentence_from_words(["Unforeseeable"])])[0]) - 2
    counts = [int((encoder.later_tag_ids(w, sentence, tag_index) != IGNORED).sum()) for w in windows]
    assert counts == [(pieces - 1) * (w.scored[1] - w.scored[0]) for w in windows]


def test_given_words_keep_their_borders_and_raw_words_may_share_a_piece(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=64)
    (given_words,) = encoder.windows([sentence_from_words(["中", "国", "人民", "在", "北京"])])
    assert len(set(given_words.first_pieces)) == 5
    raw = sentence_from_text("中国人民在北京")
    (window,) = encoder.windows([raw])
    assert len(set(window.first_pieces)) < len(raw.words)
    assert pieces_of(encoder, window)[window.first_pieces[1]] in "中国人民"


@pytest.mark.parametrize("presplit", [True, False])
def test_long_sentences_become_windows_with_context_on_both_sides(tokenizer, presplit: bool) -> None:  # type: ignore[no-untyped-def]
    words = ["Rotterdam", "said", "on", "Tuesday", "that", "unforeseeable", "circumstances"] * 30
    sentence = sentence_from_words(words) if presplit else sentence_from_text(" ".join(words))
    windows = PieceEncoder(tokenizer, max_pieces=32).windows([sentence])
    assert len(windows) > 10
    check_windows(sentence, windows, 32)
    for before, window in itertools.pairwise(windows):
        assert window.scored[0] - window.start >= 2  # context to the left of the first scored word
        assert before.start + len(before.first_pieces) - before.scored[1] >= 2  # and to the right of the last


def test_a_word_longer_than_a_window_is_still_scored(tokenizer) -> None:  # type: ignore[no-untyped-def]
    sentence = sentence_from_words(["x" * 5000, "y", "z" * 5000])
    windows = PieceEncoder(tokenizer, max_pieces=16).windows([sentence])
    check_windows(sentence, windows, 16)


ALPHABET = st.characters(exclude_categories=[]) | st.sampled_from("中国人ท่ي\u200d\u200b\ud800 \x00👍🏽é́½ﬁ")


@settings(max_examples=150, deadline=None)
@given(st.text(ALPHABET, max_size=60), st.integers(8, 24))
def test_any_raw_text_is_scored_whole(tokenizer, text: str, max_pieces: int) -> None:  # type: ignore[no-untyped-def]
    sentence = sentence_from_text(text)
    windows = PieceEncoder(tokenizer, max_pieces=max_pieces).windows([sentence])
    if sentence.words:
        check_windows(sentence, windows, max_pieces)
    else:
        assert windows == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(ALPHABET, min_size=1, max_size=8).filter(lambda w: not w.isspace()), min_size=1, max_size=12))
def test_any_given_words_are_scored_each_on_a_piece_of_its_own(tokenizer, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    sentence = sentence_from_words(words)
    check_windows(sentence, PieceEncoder(tokenizer, max_pieces=24).windows([sentence]), 24)


def test_special_pieces_written_out_in_a_text_are_ordinary_text(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=64)
    (window,) = encoder.windows([sentence_from_text("a </s> b <mask> c")])
    assert window.piece_ids.count(encoder.end) == 1
    assert encoder.mask not in window.piece_ids


def test_masking_hides_whole_words(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encoder = PieceEncoder(tokenizer, max_pieces=64)
    (window,) = encoder.windows([sentence_from_words(["In", "Zaltbommelerwaard", "it", "rained"])])
    masked = encoder.masked(window, [1])
    start, end = window.first_pieces[1], window.first_pieces[2]
    assert end - start > 1
    assert set(masked.piece_ids[start:end]) == {encoder.mask}
    assert masked.piece_ids[:start] + masked.piece_ids[end:] == window.piece_ids[:start] + window.piece_ids[end:]


def test_a_window_too_small_is_refused(tokenizer) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="max_pieces=3"):
        PieceEncoder(tokenizer, max_pieces=3)
