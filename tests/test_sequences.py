"""Groups of bounded size and evenly spread items, against their definitions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.sequences import groups, spread

ITEMS = st.lists(st.text(alphabet="ab", max_size=6), max_size=12)


@given(ITEMS, st.integers(1, 8), st.integers(1, 5))
def test_groups_are_as_large_as_they_may_be(items: list[str], most: int, most_items: int) -> None:
    found = list(groups(items, size=len, most=most, most_items=most_items))
    assert [item for group in found for item in group] == items
    assert all(found)
    for group in found:
        assert len(group) == 1 or sum(map(len, group)) <= most
        assert len(group) <= most_items
    for group, after in itertools.pairwise(found):  # the next item did not fit
        assert len(group) == most_items or sum(map(len, group)) + len(after[0]) > most


def test_a_group_that_is_full_does_not_wait_for_the_next_item() -> None:
    taken = []

    def endless() -> Iterator[str]:
        for i in itertools.count():
            taken.append(i)
            yield "a"

    assert next(groups(endless(), size=len, most=100, most_items=3)) == ["a", "a", "a"]
    assert taken == [0, 1, 2]


def test_items_before_a_failure_are_not_lost() -> None:
    def failing() -> Iterator[str]:
        yield from "abc"
        raise ValueError("no fourth")

    cut = groups(failing(), size=len, most=2)
    assert [next(cut), next(cut)] == [["a", "b"], ["c"]]
    with pytest.raises(ValueError, match="no fourth"):
        next(cut)


@given(st.integers(0, 200), st.integers(1, 50))
def test_spread_is_even(count: int, wanted: int) -> None:
    found = list(spread(count, wanted))
    assert len(found) == min(count, wanted)
    if count <= wanted:
        assert found == list(range(count))
        return
    assert found[0] == 0
    assert found[-1] < count
    steps = [b - a for a, b in itertools.pairwise([*found, count])]
    assert set(steps) <= {count // wanted, -(-count // wanted)}, "neighbours are one step apart, rounded"
