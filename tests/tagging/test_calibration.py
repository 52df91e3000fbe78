"""The fitted temperature makes scores mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from metacross.tagging.calibration import HIGHEST, LOWEST, LabelledChains, fit_temperature
from metacross.tagging.tag_sequences import TagChains, TaggedWords

TAGS = ["O", "B-LOC", "I-LOC"]


def labelled(count: int, *, sharpened: float, seed: int = 0) -> LabelledChains:
    """Sentences of one word, whose logits were multiplied by `sharpened` after the labels had been drawn from them."""
    rng = np.random.default_rng(seed)
    logits_B = rng.normal(scale=2, size=count)
    is_entity_B = rng.random(count) < 1 / (1 + np.exp(-logits_B))
    p_B = 1 / (1 + np.exp(-logits_B * sharpened))
    words = [TaggedWords(np.array([[1 - p, p, 0.0]]), [False]) for p in p_B]
    return LabelledChains(TagChains(words, TAGS), [["B-LOC"] if found else ["O"] for found in is_entity_B])


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 3.0])
def test_overconfidence_and_its_opposite_are_undone(sharpened: float) -> None:
    together = [labelled(2000, sharpened=sharpened), labelled(2000, sharpened=sharpened, seed=1)]
    assert fit_temperature(together) == pytest.approx(sharpened, rel=0.15)


def test_without_entities_nothing_is_fitted() -> None:
    chains = TagChains([TaggedWords(np.array([[1.0, 0.0, 0.0]]), [False])], TAGS)
    assert fit_temperature([LabelledChains(chains, [["B-LOC"]])]) == 1.0
    assert fit_temperature([LabelledChains(TagChains([], TAGS), [])]) == 1.0


def test_a_few_entities_that_are_all_right_or_wrong_do_not_make_it_certain() -> None:
    words = [TaggedWords(np.array([[0.3, 0.7, 0.0]]), [False])] * 3
    right, wrong = ([[tag]] * 3 for tag in ("B-LOC", "O"))
    sure = fit_temperature([LabelledChains(TagChains(words, TAGS), right)])
    assert LOWEST < sure < 1
    ((segment,), *_) = TagChains(words, TAGS).segments(temperature=sure)
    assert segment.probability == pytest.approx(4 / 5, abs=0.01)
    assert 1 < fit_temperature([LabelledChains(TagChains(words, TAGS), wrong)]) <= HIGHEST
