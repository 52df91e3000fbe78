"""What a bundle says of the languages that it has adopted: its file adopted.json, and a part of its model card.

A language is adopted when sentences of it that taggers labelled, and no people, stand beside the source sentences
(`metacross.adoption`).
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
        file: name of the file that its sentences come from.
        sentences: how many the file had, without repeated ones.
        kept: how many of these stand beside the source sentences.
        distilled: how many others theta was trained on.
        teachers: digests of the bundles that labelled them.
    """

    language: str
    file: str
    sentences: int
    kept: int
    distilled: int
    teachers: tuple[str, ...]

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
    rows = "\n".join(
        f"| {a.language} | {a.file} | {a.sentences} | {a.kept} | {a.distilled} | {', '.join(a.teachers)} |"
        for a in languages
    )
    return f"""
Adopted languages: their sentences were labelled by the bundles named last, and by no people. Those that were kept shape
answers beside the source sentences, without their less certain words. The weights were trained on the distilled ones.

| language | file | sentences | kept | distilled | labelled by |
|---|---|---|---|---|---|
{rows}
"""
