"""Which labelled sentences say nearly the same, so that one of them teaches what the others would."""

from __future__ import annotations

import re

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import Window

SHARED = 0.8  # of the words of both together; in a sentence of 20 words two may differ

_DIGITS = re.compile(r"\d+")


def compared_words(window: Window, sentence: Sentence) -> frozenset[str]:
    """The words of a window by which it is compared with others: in whatever case, numbers all alike, without signs.

    A window of signs alone has these.
    """
    words = [_DIGITS.sub("0", word.casefold()) for word in sentence.words[slice(*window.scored)]]
    return frozenset(word for word in words if any(map(str.isalnum, word))) or frozenset(words)


def near_duplicates(some: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two windows say nearly the same, by their compared words; their order makes no difference.

    >>> one = frozenset("in 0 she left oslo for good".split())
    >>> near_duplicates(one, one - {"good"} | {"ever"}), near_duplicates(one, one - {"oslo", "good"} | {"bergen"})
    (False, False)
    >>> near_duplicates(one, one | {"but"})
    True
    """
    shared = len(some & others)
    return shared >= SHARED * (len(some) + len(others) - shared)
