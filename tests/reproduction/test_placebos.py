"""Controls: random support that stays the same, labels that only change places, a bias that is a bias."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from metacross.bundle import load_bundle
from metacross.corpora.sentence import entities
from metacross.encoder.windows import PieceEncoder
from metacross.reproduction.placebos import RandomSupport, ShuffledLabels, resized, without_bias
from metacross.retrieval.pools import SourcePool

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def pool(tiny_bundle: Path) -> SourcePool:
    bundle = load_bundle(tiny_bundle)
    pieces = PieceEncoder(bundle.tokenizer, max_pieces=bundle.config.model.max_pieces)
    return SourcePool(bundle.sentences, bundle.index, pieces=pieces, which="with_entities", place=tiny_bundle)


def vectors(count: int) -> np.ndarray:  # type: ignore[type-arg]
    drawn = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_random_support_depends_on_the_seed_and_the_sentence_alone(pool: SourcePool) -> None:
    placebo = RandomSupport(pool, which="with_entities", seed=3)
    looked_up = vectors(6)
    together = placebo.search(looked_up, 3)
    alone = [placebo.search(looked_up[i : i + 1], 3)[0] for i in reversed(range(6))][::-1]
    assert together == alone
    assert together == RandomSupport(pool, which="with_entities", seed=3).search(looked_up, 3)
    assert together != RandomSupport(pool, which="with_entities", seed=4).search(looked_up, 3)
    assert [[n.number for n in row] for row in together] != [[n.number for n in r] for r in pool.search(looked_up, 3)]
    for row in together:
        assert len({n.number for n in row}) == 3
        assert [n.pieces for n in row] == [len(c.window) for c in placebo.candidates([n.number for n in row])]
    assert len(placebo) == len(pool)


def test_shuffled_labels_keep_counts_and_change_places(pool: SourcePool) -> None:
    placebo = ShuffledLabels(pool, which="with_entities", seed=3)
    assert placebo.search(vectors(2), 2) == pool.search(vectors(2), 2)
    numbers = [n.number for n in pool.search(vectors(1), len(pool))[0]]
    before, after = pool.candidates(numbers), placebo.candidates(numbers)

    def types(candidates: list) -> Counter[str]:  # type: ignore[type-arg]
        return Counter(e.type for c in candidates for e in entities(c.sentence.tags))

    assert types(after) == types(before)
    assert [c.window for c in after] == [c.window for c in before]
    assert all(len(c.sentence.tags or ()) == len(c.sentence.words) for c in after)
    # This corpus is made of few shapes, so some sentences get tags like their own.
    assert sum(a.sentence.tags != b.sentence.tags for a, b in zip(after, before, strict=True)) > 5
    assert placebo.candidates(numbers[:3]) == after[:3]
    again = ShuffledLabels(pool, which="with_entities", seed=3)
    assert again.candidates(numbers) == after


@pytest.mark.parametrize(
    ("tags", "words", "expected"),
    [
        ("B-PER I-PER O O B-LOC", 5, "B-PER I-PER O O B-LOC"),
        ("B-PER I-PER O O B-LOC", 10, "B-PER I-PER O O O O O O B-LOC O"),
        ("B-PER I-PER O O B-LOC", 2, "B-PER B-LOC"),
        ("B-PER I-PER O O B-LOC", 1, "B-PER"),
        ("O O O B-LOC", 2, "O B-LOC"),
        ("B-PER I-PER I-PER I-PER", 2, "B-PER I-PER"),
        ("O", 3, "O O O"),
    ],
)
def test_resized(tags: str, words: int, expected: str) -> None:
    assert " ".join(resized(tags.split(), words)) == expected


def test_a_bias_is_taken_from_the_logit_of_o() -> None:
    logits = torch.tensor([[2.0, 1.5, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 1.0, 0.0]])
    moved = logits.clone()
    moved[:, 0] -= 0.75
    found = without_bias(logits.softmax(1), TAGS, 0.75)
    assert torch.allclose(found, moved.softmax(1))
    assert found.argmax(1).tolist() == [1, 0]
    assert torch.equal(without_bias(logits.softmax(1), TAGS, 0.0).argmax(1), logits.argmax(1))
