"""Sentences' answers, put together from their tagged windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from metacross.corpora.sentence import Sentence, entities
from metacross.encoder.windows import Window
from metacross.retrieval.pools import Candidate
from metacross.tagging.answers import Influence, SupportSentence, TaggedSentence
from metacross.tagging.decoding import found_entities, labelled_entities, tagged_words
from metacross.tagging.influence import SentenceInfluence, by_sentence
from metacross.tagging.tag_sequences import Segment, TagChains
from metacross.tagging.window_tagger import SHOWN, Settings, TaggedWindow, voters_of

SHOWN_WORDS = 5  # words of a support sentence that are shown of those that changed an entity


def tagged_sentences(
    sentences: Sequence[tuple[Sentence, Settings]],
    windows: Sequence[Sequence[TaggedWindow]],
    tags: Sequence[str],
    *,
    temperature: float,
) -> Iterator[TaggedSentence]:
    """The answers for sentences, whose tags are found for all of them together.

    Args:
        sentences: with what was asked for.
        windows: all windows of each sentence, in order, tagged.
        tags: the tags that columns of probabilities stand for.
        temperature: of the entities' scores, see `TagChains.segments`.
    """

    def found(parts: Iterable[Sequence[tuple[Window, Tensor]]]) -> Iterator[list[Segment]]:
        return iter(TagChains([tagged_words(own) for own in parts], tags).segments(temperature=temperature))

    chosen = found([(tagged.window, tagged.chosen_WC) for tagged in own] for own in windows)
    plain = found(
        [(tagged.window, tagged.plain_WC) for tagged in own if tagged.plain_WC is not None]
        for (_, settings), own in zip(sentences, windows, strict=True)
        if settings.explain
    )
    for (sentence, settings), own in zip(sentences, windows, strict=True):
        found_tags, marked = found_entities(sentence, next(chosen))
        adapted = any(tagged.neighbours for tagged in own)
        missing = tuple(sorted({shard for tagged in own for shard in tagged.missing}))
        answer = TaggedSentence(sentence, found_tags, marked, len(own), adapted, missing_shards=missing)
        yield _explained(answer, own, next(plain)) if settings.explain else answer


def _explained(
    answer: TaggedSentence, windows: Sequence[TaggedWindow], plain_segments: Sequence[Segment]
) -> TaggedSentence:
    """The answer with what was found without adaptation, and with the support sentences."""
    plain_tags, plain = found_entities(answer.sentence, plain_segments)
    whole = (0, len(answer.sentence.text))
    support = [
        replace(
            _support_sentence(whole, number, neighbour.similarity, neighbour.number, candidate),
            influences=tuple(_influence(one, answer.sentence, candidate.sentence) for one in changed),
        )
        for number, tagged in enumerate(windows)
        for neighbour, candidate, changed in zip(
            tagged.neighbours,
            tagged.candidates,
            by_sentence(tagged.influences, [candidate.window for candidate in tagged.candidates]),
            strict=True,
        )
    ]
    support += _voters(answer, plain_tags, windows)
    return replace(answer, support=tuple(support), plain_tags=plain_tags, plain=plain)


def _influence(influence: SentenceInfluence, tagged: Sentence, labelled: Sentence) -> Influence:
    first, end = influence.words
    strongest = sorted(influence.by_word.items(), key=lambda item: -abs(item[1]))[:SHOWN_WORDS]
    words = tuple((*labelled.spans[word], change) for word, change in strongest)
    return Influence(tagged.spans[first][0], tagged.spans[end - 1][1], influence.change, words)


def _voters(
    answer: TaggedSentence, plain_tags: Sequence[str], windows: Sequence[TaggedWindow]
) -> Iterator[SupportSentence]:
    """The labelled sentences whose words counted most on each entity that was found, or that plain tags have."""
    spans = answer.sentence.spans
    for first, last in sorted({(e.start, e.end) for tags in (answer.tags, plain_tags) for e in entities(tags)}):
        votes: dict[int, list[_Vote]] = {}
        for vote in _votes_on(range(first, last), windows):
            votes.setdefault(vote.voter, []).append(vote)
        by_weight = sorted(votes, key=lambda voter: (-sum(vote.weight for vote in votes[voter]), voter))
        for voter in by_weight[:SHOWN]:
            strongest = max(votes[voter], key=lambda vote: vote.similarity)
            candidate = windows[strongest.window].voters[voter]
            stretch = (spans[first][0], spans[last - 1][1])
            found = _support_sentence(stretch, strongest.window, strongest.similarity, voter, candidate)
            yield replace(found, voted=True)


class _Vote(NamedTuple):
    """What a labelled word counted: the number of its window, the window of the word that it voted on, and how much."""

    voter: int
    window: int
    similarity: float
    weight: float


def _votes_on(words: range, windows: Sequence[TaggedWindow]) -> Iterator[_Vote]:
    """The strongest votes on some words of a sentence."""
    for number, tagged in enumerate(windows):
        for w, voters in voters_of(tagged).items():
            if tagged.window.scored[0] + w in words and tagged.votes is not None:
                similarity_K, counts_K = tagged.votes.similarity_WK[w].tolist(), tagged.votes.counts_WK[w].tolist()
                for voter, similarity, weight in zip(voters, similarity_K, counts_K, strict=False):
                    yield _Vote(voter, number, similarity, weight)


def _support_sentence(
    stretch: tuple[int, int], window: int, similarity: float, number: int, candidate: Candidate
) -> SupportSentence:
    labelled, machine = candidate.sentence, candidate.sentence.machine
    return SupportSentence(
        similarity,
        labelled.text,
        labelled_entities(labelled),
        start=stretch[0],
        end=stretch[1],
        window=window,
        place=labelled.place,
        number=number,
        confidence=machine.confidence if machine else None,
        language=machine.language if machine else labelled.example_of,
        uncertain=tuple(labelled.spans[word] for word in machine.uncertain) if machine else (),
    )
