"""A request's work as parts that a batch may have: neighbours looked up, a window tagged, sentences' answers made.

To look up neighbours takes a forward of the trunk and a search, which calls another process. Both cost less for each
window when there are several; so a batch of a long request, which may have only two or three windows, does not look up
neighbours for these alone. The explained answer of a text of 100,000 characters takes a second to put together; in
parts it holds up nobody, and a request that waits until others are answered sees that it comes further.
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


ANSWERED = 64  # sentences whose answers are put together at a time


@dataclass(frozen=True)
class WindowPart:
    """A part of a request's work: its windows.

    Attributes:
        windows: what it is about.
        tags: whether it tags them; otherwise it looks up their neighbours.
        cost: in word pieces, about.
    """

    windows: Sequence[TaggedWindow]
    tags: bool
    cost: int


@dataclass(frozen=True)
class AnswerPart:
    """A part of a request's work, after all of its windows: the answers of some of its sentences.

    Attributes:
        first: the number of the first one.
        end: the number behind the last one.
    """

    first: int
    end: int

    @property
    def cost(self) -> int:
        """In word pieces, about, of a large encoder. For a small one it is much more, so each part has its own turn."""
        return self.end - self.first


def answer_parts(sentences: int) -> Iterator[AnswerPart]:
    """The parts in which so many sentences are answered, in their order."""
    for first in range(0, sentences, ANSWERED):
        yield AnswerPart(first, min(first + ANSWERED, sentences))


def window_parts(windows: Sequence[TaggedWindow]) -> Iterator[WindowPart]:
    """The parts of a request that tag it, in their order.

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
