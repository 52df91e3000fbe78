"""Counts in messages, as people write them."""

from __future__ import annotations

import re

_FIRST_PLURAL = re.compile(r"\b([a-z]+?)(ies|s)\b")


def counted(number: float, what: str) -> str:
    """A number and what there is so many of: after 1 in the singular.

    Args:
        number: how many there are.
        what: in the plural. Its first word that ends in s is the one that changes: the rest must read well after both.

    >>> counted(0, "sentences"), counted(1, "sentences"), counted(2, "sentences")
    ('0 sentences', '1 sentence', '2 sentences')
    >>> counted(1.0, "characters a second"), counted(0.5, "characters a second")
    ('1 character a second', '0.5 characters a second')
    >>> counted(1, "labelled entities of types that nobody knows")
    '1 labelled entity of types that nobody knows'
    """
    if number == 1:
        what = _FIRST_PLURAL.sub(lambda plural: plural[1] + ("y" if plural[2] == "ies" else ""), what, count=1)
    return f"{number:g} {what}" if isinstance(number, float) else f"{number} {what}"
