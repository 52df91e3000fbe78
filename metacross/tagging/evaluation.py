"""Entity F1 by seqeval, in percent: per type and micro, without and with adaptation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from metacross.corpora.reader import Corpus
from metacross.corpora.refusals import override, refuse_unknown_types, require_entities
from metacross.corpora.schemes import types_of
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.sequences import spread
from metacross.tagging.scoring import scores
from metacross.wording import counted

if TYPE_CHECKING:
    from metacross.tagging.tagger import AdaptiveTagger

GROUP = 128  # sentences between two calls of `tick`
Tags = list[tuple[Sequence[str], Sequence[str]]]
"""For every sentence its tags without and with adaptation."""
Mapped = Callable[
    [Callable[["AdaptiveTagger", Sequence[Sentence]], Tags], Sequence[Sequence[Sentence]]], Iterator[Tags]
]
MEASURES = ("precision", "recall", "f1")


def evaluate(
    tagger: AdaptiveTagger,
    corpora: Mapping[str, Corpus],
    *,
    limit: int | None = None,
    neighbours: int | None = None,
    inner_lr: float | None = None,
    tick: Callable[[str, int], None] | None = None,
    mapped: Mapped | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures a tagger on labelled corpora, tagging by theta (`plain`) and by weights adapted to every sentence.

    If data.tag_map differs from the one that the tagger was trained with, it is applied to the types that the tagger
    finds, as it was to the corpora when they were read. The tag map of training is already in the tagger's types.

    Args:
        tagger: the tagger to measure.
        corpora: the corpora by language, or by any other name; read with the data.tag_map of `tagger.config`.
        limit: at most this many sentences of a corpus, spread evenly over it.
        neighbours: K; by default the tagger's own.
        inner_lr: inner learning rate; by default the tagger's own.
        tick: called with the language and the number of its sentences just done.
        mapped: calls a function with a tagger and every one of some groups of sentences, such as `bulk.processes` does
            on all cores; by default they are done one after another by `tagger`.

    Returns:
        For every language {"plain", "adapted", "difference", "sentences", "oddities"}: the first two as `scores`
        returns them, the difference as adapted - plain in F1, precision and recall; oddities are what was odd in the
        corpus, or mended while it was read, and the types it never labels: the figures depend on them.

    Raises:
        UserError: a corpus without entities, or with types that the tagger does not know.
    """
    settings = tagger.config.data.tag_map
    tag_map = settings if settings != tagger.bundle.config.data.tag_map else {}
    known = _mapped(tagger.tags, tag_map)
    chosen = {}
    for language, corpus in corpora.items():  # all of them first: a mistake in the last shows before the long work
        require_entities(corpus)
        refuse_unknown_types(corpus, known, tag_map=settings)
        chosen[language] = _spread(corpus, limit)

    plain: dict[str, list[list[str]]] = {language: [] for language in chosen}
    adapted: dict[str, list[list[str]]] = {language: [] for language in chosen}
    parts = [(language, part) for language, sentences in chosen.items() for part in _parts(sentences)]
    tags_of = partial(_tags, neighbours=neighbours, inner_lr=inner_lr)
    in_order = [part for _, part in parts]
    found = map(partial(tags_of, tagger), in_order) if mapped is None else mapped(tags_of, in_order)
    for (language, part), tags in zip(parts, found, strict=True):
        plain[language] += [_mapped(before, tag_map) for before, _ in tags]
        adapted[language] += [_mapped(after, tag_map) for _, after in tags]
        if tick is not None:
            tick(language, len(part))
    results = {}
    for language, sentences in chosen.items():
        figures = _figures(sentences, plain[language], adapted[language])
        oddities = [*corpora[language].oddities, *_never_labelled(corpora[language], known, settings)]
        results[language] = {**figures, "oddities": oddities}
    return results


def mean(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean over the languages of what `evaluate` returned."""
    return {
        part: {key: sum(result[part][key] for result in results.values()) / len(results) for key in MEASURES}
        for part in ("plain", "adapted", "difference")
    }


def _figures(
    sentences: Sequence[Sentence], plain: Sequence[Sequence[str]], adapted: Sequence[Sequence[str]]
) -> dict[str, Any]:
    gold = [list(sentence.tags or ()) for sentence in sentences]
    before, after = scores(gold, plain), scores(gold, adapted)
    difference = {key: after[key] - before[key] for key in MEASURES}
    return {"plain": before, "adapted": after, "difference": difference, "sentences": len(sentences)}


def _parts(sentences: Sequence[Sentence]) -> list[Sequence[Sentence]]:
    return [sentences[start : start + GROUP] for start in range(0, len(sentences), GROUP)]


def _tags(
    tagger: AdaptiveTagger, sentences: Sequence[Sentence], *, neighbours: int | None, inner_lr: float | None
) -> Tags:
    tagged = tagger.tag_sentences(sentences, explain=True, neighbours=neighbours, inner_lr=inner_lr)
    return [(one.plain_tags or (), one.tags) for one in tagged]


def _spread(corpus: Corpus, limit: int | None) -> list[Sentence]:
    every = len(corpus.sentences)
    if limit is None or limit >= every:
        return corpus.sentences
    if limit < 1:
        raise UserError(f"limit={limit}: at least 1 sentence is needed")
    chosen = [corpus.sentences[i] for i in spread(every, limit)]
    if not any(tag != "O" for sentence in chosen for tag in sentence.tags or ()):
        raise UserError(
            f"{corpus.path}: none of the {counted(limit, 'sentences')} chosen out of {every} has an entity; "
            "raise the limit"
        )
    return chosen


def _mapped(tags: Sequence[str], tag_map: Mapping[str, str]) -> list[str]:
    new = [(tag, tag_map.get(tag[2:], tag[2:])) for tag in tags]
    return ["O" if tag == "O" or kind in ("O", "") else f"{tag[:2]}{kind}" for tag, kind in new]


def _never_labelled(corpus: Corpus, known: Sequence[str], tag_map: Mapping[str, str]) -> list[str]:
    types = sorted({*types_of(known)} - set(corpus.counts))
    if not types:
        return []
    fix = override({**tag_map, **dict.fromkeys(types, "O")})
    return [f"{corpus.path} has no {', '.join(types)}, so whatever is found of it counts as wrong; {fix} leaves it out"]
