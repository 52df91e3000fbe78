"""Entity F1 by seqeval, in percent: per type and micro, without and with adaptation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metacross.corpora.reader import Corpus
from metacross.corpora.refusals import override, refuse_unknown_types, require_entities
from metacross.corpora.schemes import types_of
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.sequences import spread
from metacross.tagging.scoring import scores

if TYPE_CHECKING:
    from metacross.tagging.tagger import AdaptiveTagger

GROUP = 128  # sentences between two calls of `tick`
MEASURES = ("precision", "recall", "f1")


def evaluate(
    tagger: AdaptiveTagger,
    corpora: Mapping[str, Corpus],
    *,
    limit: int | None = None,
    neighbours: int | None = None,
    inner_lr: float | None = None,
    tick: Callable[[str, int], None] | None = None,
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

    results: dict[str, dict[str, Any]] = {}
    for language, sentences in chosen.items():
        gold = [list(sentence.tags or ()) for sentence in sentences]
        plain: list[list[str]] = []
        adapted: list[list[str]] = []
        for start in range(0, len(sentences), GROUP):
            group = sentences[start : start + GROUP]
            for tagged in tagger.tag_sentences(group, explain=True, neighbours=neighbours, inner_lr=inner_lr):
                plain.append(_mapped(tagged.plain_tags or (), tag_map))
                adapted.append(_mapped(tagged.tags, tag_map))
            if tick is not None:
                tick(language, len(group))
        before, after = scores(gold, plain), scores(gold, adapted)
        results[language] = {
            "plain": before,
            "adapted": after,
            "difference": {key: after[key] - before[key] for key in MEASURES},
            "sentences": len(sentences),
            "oddities": [*corpora[language].oddities, *_never_labelled(corpora[language], known, settings)],
        }
    return results


def mean(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean over the languages of what `evaluate` returned."""
    return {
        part: {key: sum(result[part][key] for result in results.values()) / len(results) for key in MEASURES}
        for part in ("plain", "adapted", "difference")
    }


def _spread(corpus: Corpus, limit: int | None) -> list[Sentence]:
    every = len(corpus.sentences)
    if limit is None or limit >= every:
        return corpus.sentences
    if limit < 1:
        raise UserError(f"limit={limit}: at least 1 sentence is needed")
    chosen = [corpus.sentences[i] for i in spread(every, limit)]
    if not any(tag != "O" for sentence in chosen for tag in sentence.tags or ()):
        raise UserError(
            f"{corpus.path}: none of the {limit} sentences chosen out of {every} has an entity; raise the limit"
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
