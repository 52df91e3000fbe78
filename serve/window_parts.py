"""A request's windows as parts that a batch may have: neighbours looked up for several windows, then a window tagged.

To look up neighbours takes a forward of the trunk and a search, which calls another process. Both cost less for each
window when there are several; so a batch of a long request, which may have only two or three windows, does not look up
neighbours for these alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metacross.sequences import groups
from metacross.tagging.window_tagger import TaggedWindow
from serve.pace import LEAST

LOOKED_UP = LEAST  # word pieces whose neighbours are looked up together: as much as the smallest batch may cost
SUPPORT_PIECES = 32  # word pieces of a labelled sentence, about
EXPLAINED = 2  # times what a window costs alone, about: it is also tagged by theta. benchmarks/slices.py measures these
INFLUENCED = 12  # the same with influences: back from each of its entities


@dataclass(frozen=True)
class WindowPart:
    """A part of a request's work.

    Attributes:
        windows: what it is about.
        tags: whether it tags them; otherwise it looks up their neighbours.
        cost: in word pieces, about.
    """

    windows: Sequence[TaggedWindow]
    tags: bool
    cost: int


def window_parts(windows: Sequence[TaggedWindow]) -> Iterator[WindowPart]:
    """All parts of a request, in their order.

    Args:
        windows: in the order to tag them in.
    """
    for group in groups(windows, size=lambda tagged: len(tagged.window), most=LOOKED_UP):
        adapted = [tagged for tagged in group if tagged.settings.adapt]
        if adapted:
            yield WindowPart(adapted, tags=False, cost=sum(len(tagged.window) for tagged in adapted))
        for tagged in group:
            yield WindowPart([tagged], tags=True, cost=_tagging_cost(tagged))


def _tagging_cost(tagged: TaggedWindow) -> int:
    """What it costs to tag a window. How many pieces its support has is only known once it is looked up."""
    settings, pieces = tagged.settings, len(tagged.window)
    if not settings.adapt:
        return pieces
    explained = INFLUENCED if settings.influences else EXPLAINED
    return SUPPORT_PIECES * settings.neighbours + (explained - 1) * pieces * settings.explain
