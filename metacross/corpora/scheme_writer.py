"""Writing tags in another scheme than IOB2: the inverse of what `corpora.schemes` reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from metacross.corpora.sentence import entities

Scheme = Literal["iob2", "iobes", "bilou"]
# The letters of the last word of an entity, and of the only one.
_LAST_AND_ONLY = {
    "iob2": ("I", "B"),
    "iobes": ("E", "S"),
    "bilou": "LU",
}


def in_scheme(tags: Iterable[str], scheme: Scheme) -> tuple[str, ...]:
    """Writes IOB2 tags in a scheme.

    >>> in_scheme(["B-PER", "I-PER", "I-PER", "B-LOC", "O"], "bilou")
    ('B-PER', 'I-PER', 'L-PER', 'U-LOC', 'O')
    """
    written = list(tags)
    last, only = _LAST_AND_ONLY[scheme]
    for kind, start, end in entities(written):
        letters = [only] if end - start == 1 else ["B", *["I"] * (end - start - 2), last]
        written[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tuple(written)
