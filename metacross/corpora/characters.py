"""Characters that nobody sees: where a word or an entity begins or ends, they do not belong to it.

Files that were joined have byte-order marks between them, web pages have no-break spaces, and editors leave zero-width
and bidirectional marks around names. A model never sees most of them, so a word with one looks like another word in
every comparison. Inside a word they stay: Persian and Hindi need the zero-width ones there.
"""

from __future__ import annotations

import re
import unicodedata

SIGN_OF_NUMBER = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2]")
"""Signs that stand before, and are drawn around, the digits of a number or verse. They are of Unicode's category Cf, as
invisible characters are, but are seen."""
_JOINERS = "\u200c\u200d"
_VIRAMA = 9  # the combining class of the signs that take a consonant's vowel away


def _is_invisible(character: str) -> bool:
    if character.isspace():
        return True
    return unicodedata.category(character) in ("Cc", "Cf") and not SIGN_OF_NUMBER.match(character)


# Characters above U+FFFF are left out: those of category Cf there belong to the emoji or note in front of them.
INVISIBLE = frozenset(character for character in map(chr, range(0x10000)) if _is_invisible(character))
"""White space, control characters, and the characters without width or shape (byte-order mark, zero-width space and
joiners, marks of direction, soft hyphen)."""


def visible_part(text: str, start: int, end: int) -> tuple[int, int]:
    r"""Moves the ends of a stretch of text inwards until it neither begins nor ends with an invisible character.

    A joiner behind a virama stays: it is part of the letter before it (Malayalam, Sinhala).

    Args:
        text: the text; offsets count its code points.
        start: where the stretch begins.
        end: where it ends; text[end] is not part of it.

    Returns:
        start and end of what can be seen. They are equal if nothing can.

    >>> visible_part("\ufeffAna\u200b", 0, 5)
    (1, 4)
    """
    while start < end and text[start] in INVISIBLE:
        start += 1
    while start < end and text[end - 1] in INVISIBLE:
        if text[end - 1] in _JOINERS and end - 2 >= start and unicodedata.combining(text[end - 2]) == _VIRAMA:
            break
        end -= 1
    return start, end


def visible(word: str) -> str:
    r"""The part of a word that can be seen, "" if nothing can; see `visible_part`.

    >>> visible("\xa0Ana ")
    'Ana'
    """
    if word.isalnum():  # as most words are: none of these characters is a letter or digit
        return word
    start, end = visible_part(word, 0, len(word))
    return word[start:end]


def can_be_seen(word: str) -> bool:
    r"""Whether a word has more than invisible characters and marks, which only change the letter before them.

    >>> [can_be_seen(word) for word in ("Ana", "!", " ", "\u0301", "\u200b\ufe0f")]
    [True, True, False, False, False]
    """
    return any(character not in INVISIBLE and unicodedata.category(character)[0] != "M" for character in word)
