"""What a bundle says of the languages that it has adopted: its file adopted.json, and a part of its model card.

A language is adopted when sentences of it stand beside the source sentences: those that taggers labelled, and no
people, or a few that people labelled, the examples (`metacross.adoption`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from metacross.storage.files import write_json

FILE = "adopted.json"


@dataclass(frozen=True)
class AdoptedLanguage:
    """A language that a bundle has adopted.

    Attributes:
        language: ISO 639-1 code.
        file: name of the file of text that nobody labelled; "" where only examples were given.
        sentences: how many the text had, without repeated ones.
        kept: how many of these stand beside the source sentences.
        distilled: how many others theta was trained on.
        teachers: digests of the bundles that labelled the text. Where examples were given with the text and no
            teachers, the bundle was trained on the examples before it labelled.
        examples: how many sentences that people labelled stand beside the source sentences.
    """

    language: str
    file: str = ""
    sentences: int = 0
    kept: int = 0
    distilled: int = 0
    teachers: tuple[str, ...] = ()
    examples: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record as adopted.json holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls(**{**content, "teachers": tuple(content["teachers"])})


def write_adopted(folder: Path, languages: Sequence[AdoptedLanguage]) -> None:
    """Writes a bundle's adopted.json; a bundle that has adopted nothing has none."""
    if languages:
        write_json(folder / FILE, [language.to_json() for language in languages])


def read_adopted(folder: Path) -> tuple[AdoptedLanguage, ...]:
    """The languages that a bundle has adopted."""
    path = folder / FILE
    if not path.exists():
        return ()
    return tuple(map(AdoptedLanguage.from_json, json.loads(path.read_text(encoding="utf-8"))))


def card_section(languages: Sequence[AdoptedLanguage]) -> str:
    """The part of the model card about adopted languages; "" where there are none."""
    if not languages:
        return ""
    columns = [
        [a.language, a.file, a.sentences, a.kept, a.distilled, ", ".join(a.teachers), a.examples] for a in languages
    ]
    rows = "\n".join(f"| {' | '.join(map(str, row))} |" for row in columns)
    return f"""
Adopted languages: the sentences of a text were labelled by the bundles named beside it, and by no people. Those that
were kept shape answers beside the source sentences, without their less certain words. The weights were trained on the
distilled ones. People labelled the examples; the weights were trained on them, and they shape answers, too.

| language | text | sentences | kept | distilled | labelled by | examples |
|---|---|---|---|---|---|---|
{rows}
"""
