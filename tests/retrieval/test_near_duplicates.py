"""Examples that say nearly the same take one place among the neighbours, added ones and those of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from metacross.corpora.sentence import Sentence, sentence_from_text, sentence_from_words
from metacross.encoder.windows import Window
from metacross.retrieval.index import VectorIndex, Vectors
from metacross.retrieval.near_duplicates import compared_words, near_duplicates
from metacross.retrieval.pools import Candidate, ExamplePool, SourcePool

SIZE = 8


def whole(sentence: Sentence, number: int = 0) -> Window:
    return Window(number, (1, 2), (1,) * len(sentence.words), 0, (0, len(sentence.words)))


def candidate(text: str) -> Candidate:
    sentence = sentence_from_words(text.split(), ["O"] * len(text.split()))
    return Candidate(whole(sentence), sentence)


def unit(rng: np.random.Generator, *shape: int) -> Vectors:
    vectors = rng.normal(size=(*shape, SIZE)).astype("f4")
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype="f4")


LONG = "the minister of finance said on monday that the bank of spain had lent eight banks ten million"


@pytest.mark.parametrize(
    ("one", "other", "nearly"),
    [
        ("Ana lebt in Rom.", "ANA lebt in Rom !", True),
        ("Am 24. November 2025 schloss Bern.", "Am 3. November 1999 schloss Bern.", True),
        (LONG, LONG.replace("spain", "italy"), True),
        (LONG, LONG.replace("spain", "italy").replace("finance", "health").replace("eight", "two"), False),
        ("Ana lebt in Rom.", "Ana lebt in Bern.", False),
        ("...", "!", False),
        ("...", "...", True),
        ("他住在北京。", "他住在北京", True),
    ],
)
def test_what_is_nearly_the_same(one: str, other: str, nearly: bool) -> None:
    some, others = (compared_words(whole(s), s) for s in map(sentence_from_text, (one, other)))
    assert near_duplicates(some, others) == near_duplicates(others, some) == nearly


def test_only_the_words_of_the_window_are_compared() -> None:
    sentence = sentence_from_text("Ana lebt in Rom und in Bern")
    assert compared_words(Window(0, (1,), (1,), 3, (3, 5)), sentence) == {"rom", "und"}


def test_the_most_similar_of_near_duplicates_alone_is_found() -> None:
    pool, near = ExamplePool(SIZE), np.eye(SIZE, dtype="f4")[0]
    off = np.sqrt(1 - np.array([0.9, 0.99, 0.5, 0.7]) ** 2)
    vectors = np.zeros((4, SIZE), dtype="f4")
    vectors[:, 0], vectors[:, 1] = [0.9, 0.99, 0.5, 0.7], off
    texts = ("Ana left Rome", "Ana left Rome !", "Eva stayed", "ana left rome")
    numbers = pool.add([candidate(text) for text in texts], vectors)
    assert [n.number for n in pool.search(near[None], 2)[0]] == [numbers[1], numbers[2]]
    assert [n.number for n in pool.search(near[None], 4)[0]] == [numbers[1], numbers[2]], "there are no more"
    pool.remove([numbers[1]])
    assert [n.number for n in pool.search(near[None], 2)[0]] == [numbers[0], numbers[2]]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_it_is_found_as_by_comparing_with_all(k: int) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["a", "b", "c", "d", "e", "f"], size=4)) for _ in range(300)]
    candidates, vectors, queries = [candidate(text) for text in texts], unit(rng, 300), unit(rng, 20)
    pool = ExamplePool(SIZE)
    numbers = pool.add(candidates, vectors)
    for query, row in zip(queries, pool.search(queries, k), strict=True):
        expected: list[int] = []
        for i in np.argsort(-(vectors @ query), kind="stable"):
            words = set(texts[i].split())
            if all(len(words & (o := set(texts[j].split()))) < 0.8 * len(words | o) for j in expected):
                expected.append(int(i))
        assert [n.number for n in row] == [numbers[i] for i in expected[:k]]


class Whole:
    """A PieceEncoder that makes every sentence one window."""

    def windows(self, sentences: Sequence[Sentence]) -> list[Window]:
        return [whole(sentence, number) for number, sentence in enumerate(sentences)]


@pytest.mark.parametrize("k", [1, 2, 5, 60])
def test_of_a_bundles_sentences_the_adopted_examples_count_once(k: int) -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(["a", "b", "c", "d"], size=3)) for _ in range(90)]
    sentences = [replace(candidate(text).sentence, example_of="es" * (i >= 30)) for i, text in enumerate(texts)]
    vectors, queries = unit(rng, 90), unit(rng, 20)
    index = VectorIndex(vectors, use_gpu=False)
    pool = SourcePool(sentences, index, pieces=Whole(), which="all", place="")  # type: ignore[arg-type]
    for query, row in zip(queries, pool.search(queries, k), strict=True):
        expected: list[int] = []
        for i in np.argsort(-(vectors @ query), kind="stable").tolist():
            words = set(texts[i].split())
            before = [set(texts[j].split()) for j in expected if j >= 30] if i >= 30 else []
            if all(len(words & others) < 0.8 * len(words | others) for others in before):
                expected.append(i)
        assert [n.number for n in row] == expected[:k]
        assert k < 60 or len(row) < k, "there are no more"
