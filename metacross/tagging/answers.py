"""What a tagger answers: entities in sentences and texts, and the labelled sentences that shaped them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metacross.corpora.sentence import Entity, Sentence, entities


@dataclass(frozen=True)
class TaggedEntity:
    """An entity in a sentence.

    Attributes:
        type: such as PER.
        start: offset of its first code point in the sentence's text.
        end: offset behind its last one.
        score: mean probability of its words' tags, 0 to 1; None for the labels of a source sentence.
        words: (first, behind the last) of the sentence's words.
    """

    type: str
    start: int
    end: int
    score: float | None
    words: tuple[int, int]

    def as_dict(self, text: str, offset: int = 0) -> dict[str, Any]:
        """The keys of Hugging Face's token classification pipeline; `text` is the one that offsets then count in."""
        start, end = self.start + offset, self.end + offset
        label = {"entity_group": self.type} if self.score is None else {"entity_group": self.type, "score": self.score}
        return {**label, "word": text[start:end], "start": start, "end": end}


@dataclass(frozen=True)
class SupportSentence:
    """A labelled source sentence that a window's weights were adapted to.

    Attributes:
        window: the window of the tagged sentence, 0 for its first.
        similarity: cosine of the two windows' vectors.
        text: of the source sentence.
        entities: its labels.
        place: "file:line" where training read it.
        number: of its window among all that may be support.
    """

    window: int
    similarity: float
    text: str
    entities: tuple[TaggedEntity, ...]
    place: str
    number: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = [entity.as_dict(self.text) for entity in self.entities]
        return {"similarity": self.similarity, "text": self.text, "entities": found, "window": self.window}


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence with its entities.

    Attributes:
        sentence: as it was given.
        tags: one IOB2 tag a word.
        entities: what the tags mark, in order.
        windows: how many windows it was tagged in; 0 without words.
        adapted: whether the weights were adapted to it.
        support: the source sentences they were adapted to, by window, most similar first.
        plain_tags: tags without adaptation, where they were asked for.
        plain_entities: what these mark.
    """

    sentence: Sentence
    tags: tuple[str, ...]
    entities: tuple[TaggedEntity, ...]
    windows: int
    adapted: bool
    support: tuple[SupportSentence, ...] = ()
    plain_tags: tuple[str, ...] | None = None
    plain_entities: tuple[TaggedEntity, ...] | None = None


@dataclass(frozen=True)
class TaggedText:
    """A raw text, the sentences found in it, and where each begins."""

    text: str
    sentences: tuple[TaggedSentence, ...]
    offsets: tuple[int, ...]

    def entities(self) -> list[dict[str, Any]]:
        """All entities; offsets count code points of the whole text."""
        pairs = zip(self.sentences, self.offsets, strict=True)
        return [entity.as_dict(self.text, offset) for tagged, offset in pairs for entity in tagged.entities]

    def plain_entities(self) -> list[dict[str, Any]]:
        """The same before adaptation, where it was asked for."""
        pairs = zip(self.sentences, self.offsets, strict=True)
        return [entity.as_dict(self.text, offset) for tagged, offset in pairs for entity in tagged.plain_entities or ()]

    def support(self) -> list[dict[str, Any]]:
        """The source sentences that its sentences' weights were adapted to; `start` and `end` say which sentence's."""
        return [
            {**support.as_dict(), "start": offset, "end": offset + len(tagged.sentence.text)}
            for tagged, offset in zip(self.sentences, self.offsets, strict=True)
            for support in tagged.support
        ]


def entity_in(sentence: Sentence, entity: Entity, score: float | None = None) -> TaggedEntity:
    """An entity given by its words, with its offsets in the sentence's text."""
    start, end = sentence.spans[entity.start][0], sentence.spans[entity.end - 1][1]
    return TaggedEntity(entity.type, start, end, score, (entity.start, entity.end))


def labels_of(sentence: Sentence) -> tuple[TaggedEntity, ...]:
    """What a labelled sentence's tags mark."""
    return tuple(entity_in(sentence, entity) for entity in entities(sentence.tags or ()))
