"""Tags of languages: which are taken, and how they are written."""

from __future__ import annotations

import pytest

from metacross.corpora.languages import language_tag
from metacross.errors import UserError


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("pt", "pt"),
        ("PT-br", "pt-BR"),
        ("haw", "haw"),
        ("zh-yue-hk", "zh-yue-HK"),
        ("ZH-HANT-TW", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("de-ch-1901", "de-CH-1901"),
        ("sl-ROZAJ", "sl-rozaj"),
    ],
)
def test_tags_have_one_spelling(text: str, tag: str) -> None:
    assert language_tag(text) == tag
    assert language_tag(tag) == tag


@pytest.mark.parametrize(
    "text", ["", "p", "port", "pt_BR", "pt-", "-pt", "pt--BR", "pt-BR ", "pt-b", "x-ab", "de-x-ab", "pt\n"]
)
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a tag of BCP 47, such as pt or pt-BR"):
        language_tag(text)


def test_tags_are_not_longer_than_they_have_to_be() -> None:
    with pytest.raises(UserError):
        language_tag("de-" + "abcdefgh-" * 40 + "abcdefgh")
