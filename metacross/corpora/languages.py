"""Tags of languages as users write them: BCP 47, such as pt, pt-BR or zh-Hant-TW.

A tag's form is checked, and not whether somebody has registered its parts: a language without a registered name can be
labelled, too. Extensions and private parts (en-u-ca-gregory, de-x-mine) are not taken: they do not say more about the
language.
"""

from __future__ import annotations

import re

from metacross.errors import UserError

PATTERN = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$"  # language, then script, region and variants (RFC 5646, 2.1)


def language_tag(text: str) -> str:
    """A tag of a language in the usual case of its parts.

    Raises:
        UserError: it is none.

    >>> [language_tag(text) for text in ("PT-br", "zh-hant-tw", "sr-LATN", "es-419")]
    ['pt-BR', 'zh-Hant-TW', 'sr-Latn', 'es-419']
    """
    if not re.fullmatch(PATTERN, text):
        raise UserError(f"the language {text[:80]!r}; expected a tag of BCP 47, such as pt or pt-BR.")
    language, *parts = text.lower().split("-")
    usual = ({2: part.upper(), 4: part.title()}.get(len(part), part) for part in parts)
    return "-".join([language, *usual])


def main_language(tag: str) -> str:
    """The language of a tag, without script, region and variants: what rules for a language ask for.

    >>> main_language("pt-BR"), main_language("")
    ('pt', '')
    """
    return tag.partition("-")[0].lower()
