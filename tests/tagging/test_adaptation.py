"""Windows of a batch that are tagged together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metacross.encoder.rows import trunk_states
from metacross.retrieval.index import Vectors
from metacross.tagging.adaptation import tag_windows
from tests.encoder.test_rows import windows
from tests.helpers.tiny import tiny_model


def test_all_words_of_a_forward_are_voted_on_at_once() -> None:
    """Each vote reads all labelled words."""
    model, some = tiny_model("bert"), windows([5, 60, 11, 35])
    model.fuse()
    calls: list[list[int]] = []

    def vote(chosen: Sequence[int], before: Sequence[Tensor], vectors: Sequence[Vectors]) -> Sequence[Tensor]:
        calls.append(list(chosen))
        words = [len(some[i].scored_pieces()) for i in chosen]
        assert [len(own_WC) for own_WC in before] == [len(own_WH) for own_WH in vectors] == words
        return [own_WC + i for i, own_WC in zip(chosen, before, strict=True)]

    with torch.no_grad():
        states, _ = trunk_states(model, some, batch_pieces=1000)
        plain = tag_windows(model, some, states, batch_pieces=1000)
        voted = tag_windows(model, some, states, batch_pieces=1000, vote=vote)
    assert [sorted(chosen) for chosen in calls] == [[0, 1, 2, 3]]
    for i, (plain_WC, voted_WC) in enumerate(zip(plain, voted, strict=True)):
        torch.testing.assert_close(voted_WC, plain_WC + i)
