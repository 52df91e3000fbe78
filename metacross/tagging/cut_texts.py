"""Texts cut into windows that are tagged a few at a time, and the answers once all of them are tagged.

Whoever has many texts waiting can so decide what is tagged next, also between the windows of one text.

Shapes: W words, C tags.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice

import torch
from torch import Tensor

from metacross.corpora.sentence import Sentence, sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.tagging.answers import TaggedSentence, TaggedText
from metacross.tagging.assembly import tagged_sentences
from metacross.tagging.window_tagger import Settings, TaggedWindow

Item = tuple[str | Sentence, Settings]


@dataclass(frozen=True)
class CutTexts:
    """Texts under way. `AdaptiveTagger.cut` makes them, `AdaptiveTagger.tag_windows` tags their windows.

    Attributes:
        items: texts, or sentences whose words are known, each with how it is to be tagged.
        sentences: those found in all of them.
        places: for each item where each of its sentences begins.
        windows: of all sentences, in order.
        tags: the tags that columns of probabilities stand for.
        temperature: of the entities' scores.
    """

    items: Sequence[Item]
    sentences: Sequence[tuple[Sentence, Settings]]
    places: Sequence[Sequence[int]]
    windows: Sequence[TaggedWindow]
    tags: Sequence[str]
    temperature: float

    def answers(self, first: int, end: int) -> Iterator[tuple[int, TaggedText]]:
        """What some sentences are answered: the number of each item that they are of, and its text with these alone.

        Args:
            first: the number of the first of these sentences.
            end: the number behind the last one. All windows of these sentences have to be tagged.
        """
        some, windows = self.sentences[first:end], self._by_sentence[first:end]
        tagged = tagged_sentences(some, windows, self.tags, temperature=self.temperature)
        firsts = [0, *accumulate(map(len, self.places))]  # each item's first sentence
        number = bisect_right(firsts, first) - 1
        while first < end:
            last = min(end, firsts[number + 1])
            if last > first:
                starts = self.places[number][first - firsts[number] : last - firsts[number]]
                yield number, TaggedText(self.text(number), tuple(islice(tagged, last - first)), tuple(starts))
            first, number = last, number + 1

    def text(self, number: int) -> str:
        """The text of an item, by its number."""
        return _text(self.items[number][0])

    def by_length(self) -> list[TaggedWindow]:
        """All windows in the order to tag them in, if only a few are tagged at a time.

        Those of like length follow one another: they fit into few forwards, with little padding.
        """
        return sorted(self.windows, key=lambda tagged: (tagged.settings.adapt, len(tagged.window)))

    def probabilities(self) -> list[Tensor]:
        """Tag probabilities (W, C) of each sentence's words. All windows have to be tagged."""
        empty = torch.empty(0, len(self.tags))
        return [torch.cat([empty, *(tagged.chosen_WC for tagged in own)]) for own in self._by_sentence]

    @cached_property
    def _by_sentence(self) -> list[list[TaggedWindow]]:
        by_sentence: list[list[TaggedWindow]] = [[] for _ in self.sentences]
        for tagged in self.windows:
            by_sentence[tagged.window.sentence].append(tagged)
        return by_sentence


def sentences_of(items: Sequence[Item]) -> tuple[list[tuple[Sentence, Settings]], list[list[int]]]:
    """The sentences found in texts, and for each text where each of its sentences begins."""
    sentences: list[tuple[Sentence, Settings]] = []
    places: list[list[int]] = []
    for item, settings in items:
        if isinstance(item, Sentence):
            places.append([0])
            sentences.append((item, settings))
        elif isinstance(item, str):
            found = split_sentences(item)
            places.append([start for start, _ in found])
            sentences += [(sentence_from_text(item[start:end]), settings) for start, end in found]
        else:
            raise TypeError(f"found {type(item).__name__} among the texts; expected str")
    return sentences, places


def tagged_texts(
    items: Sequence[Item], places: Sequence[Sequence[int]], tagged: Iterator[TaggedSentence]
) -> list[TaggedText]:
    """Texts with their sentences' answers.

    Args:
        items: as `sentences_of` took them.
        places: as it gave them.
        tagged: the answers of the sentences that it gave.
    """
    return [
        TaggedText(_text(item), tuple(islice(tagged, len(starts))), tuple(starts))
        for (item, _), starts in zip(items, places, strict=True)
    ]


def _text(item: str | Sentence) -> str:
    return item.text if isinstance(item, Sentence) else item
