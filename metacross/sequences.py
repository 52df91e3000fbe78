"""Parts of sequences: groups of bounded size, and items spread evenly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def groups(
    items: Iterable[T], *, size: Callable[[T], int], most: int, most_items: int = sys.maxsize
) -> Iterator[list[T]]:
    """Cuts items, in their order, into groups of bounded size. A group has at least one item.

    If taking the next item fails, the items before it are yielded first, then the error is raised.

    Args:
        items: taken one at a time, so their source may be endless.
        size: of one item.
        most: bound on the sum of the sizes in a group; a single larger item is a group by itself.
        most_items: bound on the number of items in a group.

    >>> list(groups(["a", "bb", "c", "dddd", "e"], size=len, most=3))
    [['a', 'bb'], ['c'], ['dddd'], ['e']]
    """
    group: list[T] = []
    total = 0
    try:
        for item in items:
            if group and total + size(item) > most:
                full, group, total = group, [], 0
                yield full
            group.append(item)
            total += size(item)
            if len(group) == most_items:  # now, not with the next item: it may be long in coming
                full, group, total = group, [], 0
                yield full
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def spread(count: int, wanted: int) -> Sequence[int]:
    """At most `wanted` of the numbers 0 .. count - 1, spread evenly.

    >>> spread(10, 4), list(spread(2, 4))
    ([0, 2, 5, 7], [0, 1])
    """
    return range(count) if count <= wanted else [i * count // wanted for i in range(wanted)]
