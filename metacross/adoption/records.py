"""What a bundle says of the languages that it has adopted, and what people are told of an adoption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from metacross.adopted import AdoptedLanguage, read_adopted
from metacross.adoption.labels import DividedText
from metacross.corpora.sentence import Sentence
from metacross.wording import counted


def new_records(
    before: Sequence[AdoptedLanguage],
    divided: Sequence[DividedText],
    teachers: tuple[str, ...],
    examples: Sequence[Sentence],
    machine: Sequence[Sentence],
) -> tuple[AdoptedLanguage, ...]:
    """The records of a new bundle: those of languages from before come first, but for those whose text is new.

    Args:
        before: the records of the bundle before.
        divided: the texts that were adopted now.
        teachers: digests of the bundles that labelled them.
        examples: all that the new bundle has.
        machine: all machine-labelled sentences that it has.
    """
    texts = {
        part.text.language: AdoptedLanguage(
            language=part.text.language,
            file=Path(part.text.file).name,
            sentences=len(part.text.sentences),
            distilled=len(part.for_theta),
            teachers=teachers,
        )
        for part in divided
    }
    by_people = Counter(sentence.example_of for sentence in examples)
    kept = Counter(sentence.machine.language for sentence in machine if sentence.machine)
    records = {record.language: record for record in before if record.language not in texts}
    records |= {language: AdoptedLanguage(language) for language in by_people if language not in records} | texts
    return tuple(
        replace(record, kept=kept[language], examples=by_people[language]) for language, record in records.items()
    )


def losses(out: Path, before: Sequence[AdoptedLanguage], *, given: Collection[str], texts: Collection[str]) -> str:
    """What the bundle at `out` has adopted that the new one will not have, in a sentence; "" where that is nothing.

    Args:
        out: where the new bundle goes.
        before: the records of the bundle that it is made from.
        given: the languages of new examples.
        texts: the languages of new texts.
    """
    if not out.exists():
        return ""
    kept = {part for record in before for part in _parts(record)}
    kept |= {*texts, *(f"examples of {language}" for language in given)}
    lost = sorted({part for record in read_adopted(out) for part in _parts(record)} - kept)
    if not lost:
        return ""
    return (
        f"{out} had adopted {', '.join(lost)}, and the bundle that takes its place will not. To keep them, interrupt "
        "this and adopt from that bundle."
    )


def outcome(languages: Sequence[AdoptedLanguage], *, given: Collection[str], texts: Collection[str]) -> list[str]:
    """What became of the examples and texts of an adoption, a line each; arguments as for `losses`."""
    lines = []
    for record in languages:
        if record.language in given:
            lines.append(
                f"{record.language}: theta was trained on {counted(record.examples, 'examples')}, which may shape "
                "answers"
            )
        if record.language in texts:
            lines.append(
                f"{record.language}: of {counted(record.sentences, 'sentences')} theta was trained on "
                f"{record.distilled}, and {record.kept} of the others may shape answers"
            )
    return lines


def _parts(record: AdoptedLanguage) -> list[str]:
    """What was adopted of a language: text, for which its code stands, and examples."""
    return [record.language] * bool(record.sentences) + [f"examples of {record.language}"] * bool(record.examples)
