"""Tags of languages as users write them: BCP 47, such as pt, pt-BR or zh-Hant-TW.

A tag's form is checked, and not whether somebody has registered its parts: a language without a registered name can be
labelled, too.
"""

from __future__ import annotations

import re

from metacross.errors import UserError

# RFC 5646, 2.1, in an order of its own: language and extended ones, script, region, variants, extensions, private use.
PATTERN = (
    "^[A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    "(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*(-[Xx](-[A-Za-z0-9]{1,8})+)?$"
)
LONGEST = 35  # characters; RFC 5646, 4.4.1, has no tag that needs more


def language_tag(text: str) -> str:
    """A tag of a language in the usual case of its parts.

    Raises:
        UserError: it is none.

    >>> [language_tag(text) for text in ("PT-br", "zh-hant-tw", "sr-LATN", "es-419")]
    ['pt-BR', 'zh-Hant-TW', 'sr-Latn', 'es-419']
    """
    if len(text) > LONGEST or not re.fullmatch(PATTERN, text):
        raise UserError(f"the language {text[: 2 * LONGEST]!r}; expected a tag of BCP 47, such as pt or pt-BR.")
    language, *rest = text.lower().split("-")
    parts, plain = [language], True  # plain: before the parts that a single character introduces
    for part in rest:
        plain = plain and len(part) > 1
        usual = {2: part.upper(), 4: part.title()}.get(len(part), part)
        parts.append(usual if plain else part)
    return "-".join(parts)


def main_language(tag: str) -> str:
    """The language of a tag, without script, region and variants: what rules for a language ask for.

    >>> main_language("pt-BR"), main_language("")
    ('pt', '')
    """
    return tag.partition("-")[0].lower()
