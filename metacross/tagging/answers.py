"""What a tagger answers: the entities of sentences and texts, and the labelled sentences that shaped them.

The attributes have the names of the HTTP interface (`metacross.client.contract`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from metacross.corpora.sentence import Sentence

DIGITS = 4  # of scores and similarities where they are written as JSON: more would be noise


@dataclass(frozen=True)
class TaggedEntity:
    """An entity of a text. It neither begins nor ends with invisible characters. Offsets count code points.

    Attributes:
        start: offset of its first code point.
        end: offset behind its last one.
        text: the code points between them.
        label: its type, such as PER.
        score: the probability that exactly this entity is there, 0 to 1, calibrated by the bundle's temperature (see
            `metacross.tagging.calibration`); None for labels that people gave.
    """

    start: int
    end: int
    text: str
    label: str
    score: float | None = None

    def moved(self, offset: int) -> TaggedEntity:
        """The same entity in a longer text, in which its own text begins at `offset`."""
        return replace(self, start=self.start + offset, end=self.end + offset)


@dataclass(frozen=True)
class Influence:
    """What a support sentence changed in an entity of the tagged text, see `metacross.tagging.influence`.

    Attributes:
        start: offset of the entity, in code points of the tagged text.
        end: offset behind it.
        change: of the log-probability of the entity's tags, to first order; above 0 it became more probable.
        words: (start, end, change) of the words of the support sentence that changed most, the strongest first.
    """

    start: int
    end: int
    change: float
    words: tuple[tuple[int, int, float], ...] = ()

    def moved(self, offset: int) -> Influence:
        """The same influence in a longer text, in which the tagged sentence begins at `offset`."""
        return replace(self, start=self.start + offset, end=self.end + offset)


@dataclass(frozen=True)
class SupportSentence:
    """A labelled sentence that shaped an answer, and the stretch of the tagged text that it shaped.

    That stretch is a sentence whose weights were adapted to it, or an entity on whose tags its words voted.

    Attributes:
        similarity: cosine of the two windows' vectors, or of the two most similar words'.
        text: of the labelled sentence.
        entities: its labels.
        start: offset of the stretch that it shaped, in code points of the tagged text.
        end: offset behind that stretch.
        window: the window of the tagged sentence, 0 for its first; None where a service did not tell.
        place: "file:line" where training read the labelled sentence.
        number: of its window among all that may be support; None where a service did not tell.
        confidence: how sure a machine was of the labels, 0 to 1; None where people gave them.
        language: ISO 639-1 code of a machine-labelled sentence's language, or of an adopted example's; "" for others.
        uncertain: (start, end) in the labelled sentence of words whose labels may be wrong; these had no influence.
        voted: whether its words voted on the tags of the stretch; otherwise weights were adapted to it.
        influences: what the step on it changed, by entity, with adaptation or without.
    """

    similarity: float
    text: str
    entities: tuple[TaggedEntity, ...]
    start: int
    end: int
    window: int | None = None
    place: str = ""
    number: int | None = None
    confidence: float | None = None
    language: str = ""
    uncertain: tuple[tuple[int, int], ...] = ()
    voted: bool = False
    influences: tuple[Influence, ...] = ()

    def moved(self, offset: int) -> SupportSentence:
        """The same support in a longer text, in which the tagged sentence begins at `offset`."""
        influences = tuple(influence.moved(offset) for influence in self.influences)
        return replace(self, start=self.start + offset, end=self.end + offset, influences=influences)


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence with its entities.

    Attributes:
        sentence: as it was given.
        tags: one IOB2 tag a word; words without a visible character have O at the ends of entities.
        entities: what the tags mark, in order; offsets count in the sentence's text.
        windows: how many windows it was tagged in; 0 without words.
        adapted: whether the weights were adapted to it.
        support: the labelled sentences that shaped it: those that the weights were adapted to, by window, most similar
            first; then for every entity, found with them or without, those whose words counted most on its tags.
        plain_tags: tags without adaptation, where they were asked for.
        plain: the entities that these mark.
        missing_shards: numbers of the index's shards in which no labelled sentences were looked up for it.
    """

    sentence: Sentence
    tags: tuple[str, ...]
    entities: tuple[TaggedEntity, ...]
    windows: int
    adapted: bool
    support: tuple[SupportSentence, ...] = ()
    plain_tags: tuple[str, ...] | None = None
    plain: tuple[TaggedEntity, ...] | None = None
    missing_shards: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaggedText:
    """A raw text, the sentences found in it, and where each begins. All offsets it gives count in the whole text."""

    text: str
    sentences: tuple[TaggedSentence, ...]
    offsets: tuple[int, ...]

    def entities(self) -> list[TaggedEntity]:
        """All entities."""
        return [entity.moved(offset) for tagged, offset in self._placed() for entity in tagged.entities]

    def plain(self) -> list[TaggedEntity]:
        """The entities found without adaptation, where they were asked for."""
        return [entity.moved(offset) for tagged, offset in self._placed() for entity in tagged.plain or ()]

    def support(self) -> list[SupportSentence]:
        """The labelled sentences that its sentences' weights were adapted to."""
        return [support.moved(offset) for tagged, offset in self._placed() for support in tagged.support]

    def _placed(self) -> Iterator[tuple[TaggedSentence, int]]:
        return zip(self.sentences, self.offsets, strict=True)
