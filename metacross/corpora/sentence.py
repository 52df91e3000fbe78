"""A sentence and the entities in it: made from words or from raw text, and converted between spans and IOB2 tags."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metacross.corpora.words import join_words, split_words
from metacross.errors import UserError
from metacross.wording import counted


@dataclass(frozen=True)
class MachineLabels:
    """How sure a machine was of the tags that it gave a sentence.

    Attributes:
        language: ISO 639-1 code of the sentence's language.
        confidence: the mean probability of its entities' tags, of all tags where it has none; 0 to 1. It is calibrated
            where a service labelled, and not where a bundle adopted a text.
        uncertain: numbers of the words whose tags may be wrong; nothing is learnt from these.
    """

    language: str
    confidence: float
    uncertain: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """A sentence and its words.

    Attributes:
        text: the complete text.
        words: its words, W of them.
        spans: (start, end) of each word in code points: text[start:end] == word.
        tags: one IOB2 tag per word, or None for a sentence that has not been annotated.
        presplit: whether the words were given; False if `split_words` found them in raw text.
        place: "file:line" of the first word, for messages; "" if it comes from no file.
        machine: how sure a machine was of the tags; None where people gave them.
        example_of: ISO 639-1 code of the language that a bundle adopted by this sentence, as an example that people
            labelled; "" for all other sentences.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    tags: tuple[str, ...] | None = None
    presplit: bool = True
    place: str = ""
    machine: MachineLabels | None = None
    example_of: str = ""

    @property
    def uncertain(self) -> frozenset[int]:
        """Numbers of the words from whose tags nothing is learnt."""
        return frozenset(self.machine.uncertain) if self.machine else frozenset()


class EntitySpan(NamedTuple):
    """An entity of `type` in words `start` to `end`, `end` not included."""

    type: str
    start: int
    end: int


def sentence_from_words(
    words: Sequence[str], tags: Sequence[str] | None = None, *, language: str | None = None, place: str = ""
) -> Sentence:
    """Rebuilds a sentence's text from its words, with single spaces between them if the script uses spaces.

    Args:
        words: none of them empty.
        tags: the words' IOB2 tags.
        language: ISO 639-1 code; see `metacross.corpora.words.needs_space`.
        place: "file:line", for messages.

    Raises:
        UserError: an empty word, or not as many tags as words.

    >>> sentence_from_words(["他", "在", "New", "York", "。"], ["O", "O", "B-LOC", "I-LOC", "O"]).text
    '他在 New York 。'
    """
    prefix = f"{place}: " if place else ""
    if "" in words:
        raise UserError(f"{prefix}word {list(words).index('') + 1} is empty; leave it out, with its tag.")
    if tags is not None and len(tags) != len(words):
        raise UserError(
            f"{prefix}found {counted(len(words), 'words')} and {counted(len(tags), 'tags')}; expected as many of both."
        )
    text, spans = join_words(words, language)
    return Sentence(text, tuple(words), spans, None if tags is None else tuple(tags), place=place)


def sentence_from_text(text: str) -> Sentence:
    """Finds the words of raw text by `metacross.corpora.words.split_words`; the text is kept as it is.

    >>> sentence_from_text(" Rome, 3.5 km").words
    ('Rome', ',', '3.5', 'km')
    """
    spans = tuple(split_words(text))
    return Sentence(text, tuple(text[start:end] for start, end in spans), spans, presplit=False)


def entities(tags: Iterable[str]) -> list[EntitySpan]:
    """The entities that IOB2 tags mark, in order. An I- that continues nothing of its type begins an entity.

    >>> [tuple(entity) for entity in entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])]
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    spans: list[EntitySpan] = []
    kind = ""  # of the entity that is open
    start = 0
    for w, tag in enumerate([*tags, "O"]):
        letter, _, this = tag.partition("-")
        if kind and (letter != "I" or this != kind):
            spans.append(EntitySpan(kind, start, w))
            kind = ""
        if letter in ("B", "I") and not kind:
            kind, start = this, w
    return spans


def tags_of(spans: Iterable[EntitySpan], n_words: int) -> list[str]:
    """The IOB2 tags of entities: the inverse of `entities`.

    Raises:
        ValueError: an entity is empty, reaches outside the words, or overlaps another.
    """
    tags = ["O"] * n_words
    for entity in spans:
        kind, start, end = entity
        if not 0 <= start < end <= n_words or any(tag != "O" for tag in tags[start:end]):
            raise ValueError(f"{entity} is empty, overlaps another entity or reaches outside {n_words} words")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags
