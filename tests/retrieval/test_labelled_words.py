"""Labelled words vote in proportion to their similarity, with the tagger as one voter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metacross.retrieval import labelled_words
from metacross.retrieval.labelled_words import HALF, O_WORDS, EncodedWords, LabelledWords

PROBABILITIES_WC = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
VECTORS_WH = np.array([[1, 0], [0, 1]], dtype=np.float32)


def encoded(vectors: list[list[float]], tag_ids: list[int], *, machine: bool = False) -> EncodedWords:
    numbers = np.array(tag_ids)
    return EncodedWords(np.array(vectors, dtype=np.float32), numbers, 100 + numbers, np.full(len(numbers), machine))


def blended(voters: LabelledWords) -> torch.Tensor:
    return voters.votes(VECTORS_WH, PROBABILITIES_WC).blended(PROBABILITIES_WC)


def words(neighbours: int = 8, most: float = 1e9) -> LabelledWords:
    return LabelledWords(2, neighbours=neighbours, similarity=0.5, scale=0.25, most=most)


def test_counts_follow_the_formula() -> None:
    voters = words()
    voters.add(encoded([[1, 0], [0.6, 0.8]], [1, 0]))
    blended_WC = blended(voters)
    same, near, far = (math.exp((s - 0.5) / 0.25) for s in (1.0, 0.6, 0.0))
    expected = [0.2 + near, 0.3 + same, 0.5]
    torch.testing.assert_close(blended_WC[0], torch.tensor(expected) / (1 + same + near))
    across = math.exp((0.8 - 0.5) / 0.25)
    torch.testing.assert_close(blended_WC[1], torch.tensor([0.6 + across, 0.3 + far, 0.1]) / (1 + across + far))


def test_only_the_nearest_vote() -> None:
    voters = words(neighbours=1)
    voters.add(encoded([[0.6, 0.8], [1, 0]], [0, 2]))
    blended_WC = blended(voters)
    assert blended_WC.argmax(1).tolist() == [2, 0]
    assert float(blended_WC[0, 1]) == pytest.approx(0.3 / (1 + math.exp(2)))


def test_few_words_count_little_together_and_many_no_more_than_the_bound() -> None:
    voters = words(neighbours=4, most=2)
    voters.add(encoded([[1, 0]] * HALF, [1] * HALF))
    votes = voters.votes(VECTORS_WH, PROBABILITIES_WC)
    assert votes.counts_WK.sum(1).tolist() == pytest.approx([1, 4 * math.exp(-2)]), "half of the most, or less"
    torch.testing.assert_close(blended(voters)[0], torch.tensor([0.1, 0.65, 0.25]))


def test_similarities_are_exact_whatever_the_tagger_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    voters = words(neighbours=2)
    voters.add(encoded([[0.6, 0.8], [1, 0], [0.8, 0.6]], [0, 1, 2]))
    whole = voters.votes(VECTORS_WH, PROBABILITIES_WC)
    monkeypatch.setattr(labelled_words, "PRODUCTS", 1)  # a word at a time
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = voters.votes(VECTORS_WH, PROBABILITIES_WC)
    torch.testing.assert_close(parts.similarity_WK, whole.similarity_WK, rtol=0, atol=1e-7)
    assert torch.equal(parts.windows_WK, whole.windows_WK)


def test_there_is_no_vote_without_words_or_neighbours() -> None:
    assert not words().vote
    silent = words(neighbours=0)
    silent.add(encoded([[1, 0]], [1]))
    assert not silent.vote


def test_votes_tell_where_they_come_from() -> None:
    voters = words(neighbours=2)
    voters.add(encoded([[1, 0], [0.6, 0.8], [0, 1]], [0, 1, 2]))
    first, second = voters.votes(VECTORS_WH, PROBABILITIES_WC).split([1, 1])
    assert (first.windows_WK.tolist(), second.windows_WK.tolist()) == ([[100, 101]], [[102, 101]])
    assert first.similarity_WK.tolist()[0] == pytest.approx([1, 0.6])


def test_people_vote_on_what_comes_out_of_the_votes_of_a_machine() -> None:
    by_machine, by_people, both = words(most=2), words(most=2), words(most=2)
    machine, people = encoded([[1, 0], [0.6, 0.8]], [2, 1], machine=True), encoded([[0, 1], [0.8, 0.6]], [2, 0])
    by_machine.add(machine)
    by_people.add(people)
    both.add(people)
    both.add(machine)
    votes = both.votes(VECTORS_WH, PROBABILITIES_WC)
    first_WC = by_machine.votes(VECTORS_WH, PROBABILITIES_WC).blended(PROBABILITIES_WC)
    torch.testing.assert_close(
        votes.blended(PROBABILITIES_WC), by_people.votes(VECTORS_WH, PROBABILITIES_WC).blended(first_WC)
    )
    torch.testing.assert_close(votes.blended(PROBABILITIES_WC).sum(1), torch.ones(2))


def test_a_machine_has_no_vote_on_words_of_which_the_tagger_is_sure() -> None:
    sure_WC = torch.tensor([[0.05, 0.05, 0.9], [0.6, 0.3, 0.1]])
    by_machine = words()
    by_machine.add(encoded([[1, 0], [0, 1]], [1, 1], machine=True))
    votes = by_machine.votes(VECTORS_WH, sure_WC)
    assert votes.counts_WK[0].tolist() == [0, 0] and votes.counts_WK[1].sum() > 0
    torch.testing.assert_close(votes.blended(sure_WC)[0], sure_WC[0])
    by_people = words()
    by_people.add(encoded([[1, 0]], [1]))
    assert by_people.votes(VECTORS_WH, sure_WC).blended(sure_WC)[0].argmax() == 1


def test_an_o_word_of_a_machine_counts_for_those_that_are_not_kept() -> None:
    voters, once = words(), words()
    voters.add(encoded([[1, 0], [1, 0]], [0, 1], machine=True))
    once.add(encoded([[1, 0], [1, 0]], [0, 1]))
    found, expected = (kind.votes(VECTORS_WH, PROBABILITIES_WC).counts_WK[0] for kind in (voters, once))
    torch.testing.assert_close(found, expected * torch.tensor([O_WORDS, 1]))


def test_what_counts_most_comes_first_whoever_labelled_it() -> None:
    voters = words()
    voters.add(encoded([[1, 0], [0.8, 0.6]], [4, 1], machine=True))
    voters.add(encoded([[0.96, 0.28], [0, 1]], [2, 3]))
    (first, _) = voters.votes(VECTORS_WH, PROBABILITIES_WC).split([1, 1])
    counts = first.counts_WK[0].tolist()
    assert counts == sorted(counts, reverse=True)
    assert first.windows_WK[0].tolist() == [102, 104, 101, 103]
    assert first.similarity_WK[0].tolist() == pytest.approx([0.96, 1, 0.8, 0])


def test_removed_words_vote_no_more_and_numbers_are_not_used_again() -> None:
    voters = words()
    first = voters.add(encoded([[1, 0], [0, 1]], [1, 2]))
    voters.remove(first[:1])
    assert len(voters) == 1
    again = voters.add(encoded([[1, 0]], [0]))
    assert not set(again) & set(first)
    assert blended(voters).argmax(1).tolist() == [0, 2]
