"""The likeliest tags and the probabilities of entities, against all valid sequences of short sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metacross.tagging.tag_sequences import SMALLEST, Segment, TagChains, TaggedWords

TAG_SETS = (
    ["O"],
    ["O", "B-LOC", "I-LOC"],
    ["I-LOC", "B-LOC", "O"],
    ["B-LOC", "I-PER", "O", "I-LOC", "B-PER"],
    ["O", "B-LOC"],
    ["O", "I-LOC"],
    ["O", "B-A-B", "I-A-B", "B-A", "I-A"],
)


def is_valid(tags: Sequence[str], shared: Sequence[bool]) -> bool:
    before = "O"
    for w, tag in enumerate(tags):
        continues = before != "O" and tag == f"I-{before[2:]}"
        if tag[0] == "I" and not continues:
            return False
        if w and shared[w] and not continues and not before == tag == "O":
            return False
        before = tag
    return True


def marked(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """What tags mark, word by word."""
    found: list[tuple[str, int, int]] = []
    for w, tag in enumerate(tags):
        if found and (tag[0] == "I" or tag == found[-1][0] == "O"):
            found[-1] = (found[-1][0], found[-1][1], w + 1)
        else:
            found.append((tag if tag == "O" else tag[2:], w, w + 1))
    return found


class Oracle:
    """A sentence and the product of probabilities of every valid sequence of tags."""

    def __init__(self, words: TaggedWords, tags: Sequence[str], temperature: float) -> None:
        p_WC = np.maximum(words.probabilities_WC, SMALLEST) ** (1 / temperature)
        p_WC = p_WC / p_WC.sum(1, keepdims=True)
        p_WC[1:][words.shared[1:]] = 1.0
        self.products = {
            tuple(tags[i] for i in ids): math.prod(p_WC[w, i] for w, i in enumerate(ids))
            for ids in itertools.product(range(len(tags)), repeat=len(p_WC))
            if is_valid([tags[i] for i in ids], words.shared)
        }

    def probability(self, segment: Segment) -> float:
        kind, start, end, _ = segment
        have = sum(
            product
            for tags, product in self.products.items()
            if (set(tags[start:end]) == {"O"} if kind == "O" else (kind, start, end) in marked(tags))
        )
        return have / sum(self.products.values())


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[TaggedWords], list[str]]:
    """A few short sentences with random probabilities, some of them 0."""
    tags = draw(st.sampled_from(TAG_SETS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sentences = []
    for length in draw(st.lists(st.integers(0, 5), max_size=4)):
        odds_WC = rng.exponential(size=(length, len(tags))) ** 3 * (rng.random((length, len(tags))) < 0.9) + 1e-9
        shared = [bool(flag) for flag in rng.random(length) < 0.3]
        sentences.append(TaggedWords(odds_WC / odds_WC.sum(1, keepdims=True), shared))
    return sentences, tags


@settings(max_examples=150, deadline=None)
@given(tagged(), st.sampled_from([0.5, 1.0, 2.0]))
def test_against_all_valid_sequences(drawn: tuple[list[TaggedWords], list[str]], temperature: float) -> None:
    sentences, tags = drawn
    chains = TagChains(sentences, tags)
    best, segments = chains.best_tags(), chains.segments(temperature=temperature)
    for words, found, marks in zip(sentences, best, segments, strict=True):
        plain = Oracle(words, tags, 1.0).products
        assert plain[tuple(found)] == pytest.approx(max(plain.values()), rel=1e-9)
        assert [segment[:3] for segment in marks] == marked(found)
        oracle = Oracle(words, tags, temperature)
        for segment in marks:
            assert segment.probability == pytest.approx(oracle.probability(segment), abs=1e-9)


def test_what_else_is_in_a_batch_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    tags = TAG_SETS[3]
    sentences = [TaggedWords(rng.dirichlet(np.ones(5), size=n), [False] * n) for n in (3, 0, 40, 1, 7)]
    together = TagChains(sentences, tags).segments(temperature=0.7)
    for words, segments in zip(sentences, together, strict=True):
        (alone,) = TagChains([words], tags).segments(temperature=0.7)
        assert [segment[:3] for segment in alone] == [segment[:3] for segment in segments]
        assert [s.probability for s in alone] == pytest.approx([s.probability for s in segments], rel=1e-9)


@pytest.mark.parametrize("odd", [np.nan, 0.0, np.inf, -np.inf, 1e-300])
def test_no_probability_is_too_odd(odd: float) -> None:
    """Of equally likely sequences it is always the same, and valid."""
    tags = TAG_SETS[3]
    words = TaggedWords(np.full((6, 5), odd), [False, False, True, True, False, True])
    found = [TagChains([words] * 2, tags) for _ in range(2)]
    first, second = found[0].best_tags()
    assert first == second == found[1].best_tags()[0]
    assert is_valid(first, words.shared)
    assert all(0 <= s.probability <= 1 for segments in found[0].segments() for s in segments)


def test_long_sentences_keep_their_precision() -> None:
    probabilities_WC = np.array([[0.6, 0.4, 0.0]] * 5000)
    (segments,) = TagChains([TaggedWords(probabilities_WC, [False] * 5000)], TAG_SETS[1]).segments()
    assert segments == [Segment("O", 0, 5000, pytest.approx(0.6**5000, abs=1e-12))]
    probabilities_WC[4000] = [0.1, 0.9, 0.0]
    (segments,) = TagChains([TaggedWords(probabilities_WC, [False] * 5000)], TAG_SETS[1]).segments()
    assert segments[1] == Segment("LOC", 4000, 4001, pytest.approx(0.9))
