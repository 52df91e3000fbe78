"""From tag probabilities to tags and entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from metacross.corpora.sentence import Entity, entities


@dataclass(frozen=True)
class Span:
    """A predicted entity: its type, words (start, end) and score, the mean probability of its words' tags."""

    type: str
    start: int
    end: int
    score: float


def decode(probabilities_WC: Tensor, tags: Sequence[str], shared: Sequence[bool]) -> tuple[list[str], list[Span]]:
    """The likeliest tags, IOB2, and the entities they make.

    Args:
        probabilities_WC: each word's tag probabilities.
        tags: the tags that the columns stand for.
        shared: whether a word shares its piece with the word before it, and so continues that word's entity.
    """
    if not len(probabilities_WC):
        return [], []
    best_W, ids_W = probabilities_WC.max(1)
    found = [tags[i] for i in ids_W.tolist()]
    for w in range(1, len(found)):
        if shared[w] and found[w] != "O":
            found[w] = "I-" + found[w][2:]
    spans = [Span(e.type, e.start, e.end, float(best_W[e.start : e.end].mean())) for e in entities(found)]
    return _iob2(len(found), spans), spans


def _iob2(n: int, spans: Sequence[Span | Entity]) -> list[str]:
    tags = ["O"] * n
    for span in spans:
        tags[span.start : span.end] = [f"B-{span.type}", *[f"I-{span.type}"] * (span.end - span.start - 1)]
    return tags
