"""Labelled words vote in proportion to their similarity, with the tagger as one voter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metacross.retrieval.labelled_words import EncodedWords, LabelledWords

PROBABILITIES_WC = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
VECTORS_WH = np.array([[1, 0], [0, 1]], dtype=np.float32)


def words(neighbours: int = 8) -> LabelledWords:
    return LabelledWords(2, neighbours=neighbours, similarity=0.5, scale=0.25)


def test_counts_follow_the_formula() -> None:
    voters = words()
    voters.add(EncodedWords(np.array([[1, 0], [0.6, 0.8]], dtype=np.float32), np.array([1, 0])))
    blended_WC = voters.blended(PROBABILITIES_WC, VECTORS_WH)
    same, near, far = (math.exp((s - 0.5) / 0.25) for s in (1.0, 0.6, 0.0))
    expected = [0.2 + near, 0.3 + same, 0.5]
    torch.testing.assert_close(blended_WC[0], torch.tensor(expected) / (1 + same + near))
    across = math.exp((0.8 - 0.5) / 0.25)
    torch.testing.assert_close(blended_WC[1], torch.tensor([0.6 + across, 0.3 + far, 0.1]) / (1 + across + far))


def test_only_the_nearest_vote() -> None:
    voters = words(neighbours=1)
    voters.add(EncodedWords(np.array([[0.6, 0.8], [1, 0]], dtype=np.float32), np.array([0, 2])))
    blended_WC = voters.blended(PROBABILITIES_WC, VECTORS_WH)
    assert blended_WC.argmax(1).tolist() == [2, 0]
    assert float(blended_WC[0, 1]) == pytest.approx(0.3 / (1 + math.exp(2)))


@pytest.mark.parametrize("neighbours", [0, 8])
def test_nothing_changes_where_nobody_votes(neighbours: int) -> None:
    voters = words(neighbours)
    if neighbours == 0:
        voters.add(EncodedWords(VECTORS_WH, np.array([1, 1])))
    assert voters.blended(PROBABILITIES_WC, VECTORS_WH) is PROBABILITIES_WC


def test_removed_words_vote_no_more_and_numbers_are_not_used_again() -> None:
    voters = words()
    first = voters.add(EncodedWords(VECTORS_WH, np.array([1, 2])))
    voters.remove(first[:1])
    assert len(voters) == 1
    again = voters.add(EncodedWords(VECTORS_WH[:1], np.array([0])))
    assert not set(again) & set(first)
    assert voters.blended(PROBABILITIES_WC, VECTORS_WH).argmax(1).tolist() == [0, 2]
