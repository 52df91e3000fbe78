"""Examples as the store keeps them and tells of them, and as rows of its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Literal

from sqlalchemy import Row

from metacross.client.contract import AddedExample, Entity, Example, Stretch
from metacross.corpora.sentence import EntitySpan, MachineLabels, Sentence, entities
from serve.examples.tables import folded, key_of

Outcome = Literal["added", "replaced", "unchanged"]


@dataclass(frozen=True)
class StoredExample:
    """A labelled sentence of the store.

    Attributes:
        id: its number; later examples have higher ones.
        sentence: with IOB2 tags, and with `machine` where a tagger gave them; its place is "example ID".
        language: code such as pt, "" where none was given.
        created: when it was added, UTC.
        labelled_by: digest of the bundle that labelled it; None where people did.
        text_id: number of the text that it comes from; None where people labelled it.
        changed: when it was corrected, UTC; None: never.
        uses: how often it shaped an answer, so far as it was written down.
        last_used: when it last did, UTC; None: never.
    """

    id: int
    sentence: Sentence
    language: str
    created: datetime
    labelled_by: str | None = None
    text_id: int | None = None
    changed: datetime | None = None
    uses: int = 0
    last_used: datetime | None = None

    @classmethod
    def new(
        cls, id: int, sentence: Sentence, language: str, *, labelled_by: str | None = None, text_id: int | None = None
    ) -> StoredExample:
        """An example that is added now."""
        placed = replace(sentence, place=f"example {id}")
        return cls(id, placed, language, datetime.now(UTC), labelled_by, text_id)

    def corrected(self, sentence: Sentence, language: str) -> StoredExample:
        """The same example with what people say of it now."""
        placed = replace(sentence, place=self.sentence.place, machine=None)
        return replace(
            self,
            sentence=placed,
            language=language,
            labelled_by=None,
            text_id=None,
            changed=datetime.now(UTC),
        )

    def says(self, sentence: Sentence, language: str) -> bool:
        """Whether people have said of this sentence what is said now: the same entities, and no other language.

        Args:
            sentence: the same but for its spaces and the borders of its words.
            language: "" where none was said.
        """
        return (
            self.labelled_by is None
            and language in ("", self.language)
            and _visible_entities(self.sentence) == _visible_entities(sentence)
        )

    def as_answer(self) -> Example:
        """The example as the service answers it; times are in full seconds."""
        return Example(**self.answer_fields())

    def answer_fields(self) -> dict[str, Any]:
        """The fields of `as_answer`."""
        text, spans, machine = self.sentence.text, self.sentence.spans, self.sentence.machine
        labelled = []
        for entity in entities(self.sentence.tags or ()):
            start, end = spans[entity.start][0], spans[entity.end - 1][1]
            labelled.append(Entity(start, end, text[start:end], entity.type))
        return {
            "id": self.id,
            "text": text,
            "entities": tuple(labelled),
            "language": self.language,
            "created": shown_time(self.created),
            "changed": self.changed and shown_time(self.changed),
            "uses": self.uses,
            "last_used": self.last_used and shown_time(self.last_used),
            "confidence": machine.confidence if machine else None,
            "uncertain": tuple(Stretch(*spans[word]) for word in machine.uncertain) if machine else None,
            "labelled_by": self.labelled_by,
            "from_text": self.text_id,
        }


@dataclass(frozen=True)
class Addition:
    """What became of a labelled sentence that people sent.

    Attributes:
        example: the one that is stored for this sentence now.
        outcome: whether it was added, its labels replaced others, or it was there.
        before: what was replaced; None where nothing was, and where it is not known any more.
    """

    example: StoredExample
    outcome: Outcome
    before: StoredExample | None = None

    def as_answer(self) -> AddedExample:
        """The same as the service answers it."""
        before = self.before.as_answer() if self.before else None
        return AddedExample(**self.example.answer_fields(), outcome=self.outcome, before=before)


@dataclass(frozen=True)
class AddedLabels:
    """What became of sentences that a tagger labelled.

    Attributes:
        examples: those that were added, in their order.
        by_people: how many others were stored with labels by people.
        stored: how many others were stored with labels by the same bundle.
        replaced: how many examples with labels by other bundles were deleted, as the new ones took their place.
    """

    examples: list[StoredExample]
    by_people: int
    stored: int
    replaced: int


@dataclass(frozen=True)
class Changes:
    """What happened to the store since a version.

    Attributes:
        version: the store's version after these changes.
        added: examples that are new or were corrected, by ascending id.
        deleted: ids of examples that were there at the version asked about, and are not any more or were corrected;
            ascending.
    """

    version: int
    added: list[StoredExample]
    deleted: list[int]


def shown_time(time: datetime) -> str:
    """A time in UTC as answers show it, in full seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- rows ------------------------------------------------------------------------------------------------------------


def values_of(example: StoredExample, *, version: int) -> dict[str, Any]:
    """An example as a row, but for its number and its uses."""
    sentence = example.sentence
    if sentence.tags is None:
        raise ValueError(f"{sentence.place} has no tags")
    return {
        "version": version,
        "language": example.language,
        "created": without_zone(example.created),
        "text": sentence.text,
        "spans": sentence.spans,
        "tags": sentence.tags,
        "presplit": sentence.presplit,
        "confidence": sentence.machine.confidence if sentence.machine else None,
        "uncertain": sentence.machine.uncertain if sentence.machine else None,
        "labelled_by": example.labelled_by,
        "text_id": example.text_id,
        "sentence_key": key_of(sentence.words),
        "folded": folded(sentence.text),
        "changed": without_zone(example.changed),
    }


def example_of(row: Row[Any]) -> StoredExample:
    """The example in a row."""
    spans = tuple((start, end) for start, end in row.spans)
    words = tuple(row.text[start:end] for start, end in spans)
    machine = None
    if row.labelled_by is not None:
        machine = MachineLabels(row.language, row.confidence, tuple(row.uncertain))
    sentence = Sentence(row.text, words, spans, tuple(row.tags), row.presplit, f"example {row.id}", machine)
    return StoredExample(
        id=row.id,
        sentence=sentence,
        language=row.language,
        created=row.created.replace(tzinfo=UTC),
        labelled_by=row.labelled_by,
        text_id=row.text_id,
        changed=with_zone(row.changed),
        uses=row.uses or 0,
        last_used=with_zone(row.last_used),
    )


def with_zone(time: datetime | None) -> datetime | None:
    """A time of a row, which is in UTC."""
    return time and time.replace(tzinfo=UTC)


def without_zone(time: datetime | None) -> datetime | None:
    """A time in UTC for a row."""
    return time and time.replace(tzinfo=None)


def _visible_entities(sentence: Sentence) -> list[EntitySpan]:
    """A sentence's entities by the characters of its words, whatever is between these."""
    ends = list(accumulate(map(len, sentence.words)))
    starts = [0, *ends]
    return [EntitySpan(e.type, starts[e.start], ends[e.end - 1]) for e in entities(sentence.tags or ())]


def keys_of(sentences: Sequence[Sentence]) -> list[str]:
    """See `serve.examples.tables.key_of`."""
    return [key_of(sentence.words) for sentence in sentences]
