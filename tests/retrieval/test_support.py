"""Support is looked up in two pools, and its trunk states are computed once as long as they fit into the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.encoder.windows import Window
from metacross.errors import UserError
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import FIRST_EXAMPLE, Candidate, ExamplePool, Neighbour
from metacross.retrieval.support import SupportLookup

SIZE = 4
SENTENCE = sentence_from_words(["Oslo"], ["B-LOC"])


def window(number: int, length: int = 3) -> Window:
    return Window(number, tuple(range(length)), (1,), 0, (0, 1))


class Elsewhere:
    """A pool of three windows that lie in the direction of the first axis, the nearer the lower their number."""

    def __init__(self, length: int = 3) -> None:
        self.windows = [window(i, length) for i in range(3)]
        self.sentences: list[Sentence] = [SENTENCE] * 3
        self.requests: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.windows)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        return [[Neighbour(i, 0.9 - 0.2 * i, 3) for i in range(k)] for _ in vectors_BH]

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        self.requests.append(list(numbers))
        return [Candidate(self.windows[i], SENTENCE) for i in numbers]

    def missing(self) -> tuple[int, ...]:
        return ()


def lookup(*, budget_mb: int, length: int = 3) -> tuple[SupportLookup, Elsewhere, list[int]]:
    ran: list[int] = []

    def trunk(windows: Sequence[Window]) -> list[Tensor]:
        ran.extend(w.sentence for w in windows)
        return [torch.full((len(w), SIZE), float(w.sentence)) for w in windows]

    pool = Elsewhere(length)
    return SupportLookup(pool, ExamplePool(SIZE), tags=("O", "B-LOC"), trunk=trunk, budget_mb=budget_mb), pool, ran


def test_both_pools_are_searched() -> None:
    found, _, _ = lookup(budget_mb=1)
    query = np.eye(SIZE, dtype=np.float32)[:1]
    assert [n.number for n in found.search(query, 2)[0]] == [0, 1]
    added = found.examples.add([Candidate(window(9), SENTENCE)] * 2, np.array([[0.8, 0, 0, 0.6], [0, 1, 0, 0]], "f4"))
    assert added == [FIRST_EXAMPLE, FIRST_EXAMPLE + 1]
    assert [n.number for n in found.search(query, 3)[0]] == [0, FIRST_EXAMPLE, 1]
    with pytest.raises(UserError, match="support_size=6 but the index holds 5"):
        found.search(query, 6)


def test_examples_alone_are_support_where_there_is_no_source() -> None:
    empty = ExamplePool(SIZE)
    found = SupportLookup(empty, ExamplePool(SIZE), tags=("O", "B-LOC"), trunk=lambda windows: [], budget_mb=1)
    vectors_BH = np.eye(SIZE, dtype=np.float32)[:2]
    numbers = found.examples.add([Candidate(window(9), SENTENCE)] * 2, vectors_BH)
    assert [[n.number for n in row] for row in found.search(vectors_BH, 1)] == [[numbers[0]], [numbers[1]]]
    with pytest.raises(UserError, match="support_size=3 but the index holds 2"):
        found.search(vectors_BH, 3)


def test_the_source_is_asked_once_for_all_that_is_missing() -> None:
    found, pool, ran = lookup(budget_mb=1)
    (example,) = found.examples.add([Candidate(window(9), SENTENCE)], np.eye(SIZE, dtype=np.float32)[:1])
    rows = found.support([[2, example], [0, 2]])
    assert pool.requests == [[0, 2]]
    assert [[int(states[0, 0]) for states, _ in row] for row in rows] == [[2, 9], [0, 2]]
    assert rows[0][0][1].tolist() == [-100, 1, -100]
    assert sorted(ran) == [0, 2, 9]
    found.support([[0, example], [2]])
    assert sorted(ran) == [0, 2, 9], "everything was cached"


def test_the_least_recently_used_goes_first() -> None:
    megabyte_holds = (1 << 20) // (4 * SIZE)
    found, _, ran = lookup(budget_mb=1, length=megabyte_holds // 2)
    for number in (0, 1, 0, 2, 0, 1):
        found.support([[number]])
    assert ran == [0, 1, 2, 1]


@pytest.mark.parametrize("budget_mb", [0, 1])
def test_what_is_larger_than_the_cache_is_computed_each_time(budget_mb: int) -> None:
    found, _, ran = lookup(budget_mb=budget_mb, length=(2 << 20) // (4 * SIZE))
    for _ in range(2):
        (row,) = found.support([[0, 1]])
        assert [int(states[0, 0]) for states, _ in row] == [0, 1]
    assert ran == [0, 1, 0, 1]
