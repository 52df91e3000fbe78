"""An evaluation cell: a test file tagged plainly and in one other way, with all that the report needs of each sentence.

The result is JSON:

    language, way, seconds (of the complete cell)
    requests_per_second   {plain, tagged}: single sentences, one after the other; None where they were not timed
    memory_mb             of the process, after tagging
    sentences             one each: gold entities; plain and tagged: [found, correct]; the tags; the mean similarity of
                          the neighbours (None where there are none, or they were not chosen by it)
    changed               the sentences that the other way tags otherwise: words, gold tags, support sentences
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metacross.bundle import Bundle, load_bundle, load_source
from metacross.corpora.from_config import read_configured
from metacross.corpora.refusals import refuse_unknown_types, require_entities
from metacross.corpora.sentence import Sentence, entities
from metacross.encoder.windows import PieceEncoder
from metacross.reproduction.cells import Evaluation
from metacross.reproduction.few_shot import read_sample
from metacross.reproduction.placebos import RandomSupport, ShuffledLabels, without_bias
from metacross.reproduction.released_optimizer import ReleasedOptimizerTagger
from metacross.retrieval.pools import Pool, SourcePool
from metacross.sequences import groups, spread
from metacross.tagging.answers import SupportSentence, TaggedSentence
from metacross.tagging.decoding import found_entities, shared_pieces
from metacross.tagging.tag_sequences import TagChains, TaggedWords
from metacross.tagging.tagger import AdaptiveTagger

GROUP = 32  # sentences between two looks whether someone wants to stop
TIMED = 32  # sentences that are timed one by one
PLACEBOS: dict[str, type[RandomSupport] | type[ShuffledLabels]] = {
    "random_support": RandomSupport,
    "shuffled_labels": ShuffledLabels,
}


class Answer(NamedTuple):
    """How a sentence was tagged.

    Attributes:
        plain: its tags by theta.
        tagged: its tags in the cell's way.
        similarity: mean of its neighbours'; None where there are none.
        support: the sentences that it was adapted to, where they are known.
    """

    plain: Sequence[str]
    tagged: Sequence[str]
    similarity: float | None
    support: Sequence[SupportSentence] = ()


Answerer = Callable[[Sequence[Sentence]], Iterable[Answer]]


def evaluate(
    job: Evaluation, bundle: Path, *, device: torch.device, tick: Callable[[int, int], None]
) -> dict[str, Any]:
    """Runs an evaluation cell; returns its result, see the top of this module.

    Args:
        job: what is to be measured.
        bundle: the bundle's directory.
        device: where the model runs.
        tick: called with the number of sentences done and of all; what it raises ends the evaluation.

    Raises:
        UserError: the test file or the bundle cannot be read, or they do not go together.
    """
    began = time.monotonic()
    tagger = _tagger(job, bundle, device)
    corpus = read_configured(job.test, tagger.config.data, language=job.language)
    require_entities(corpus)
    refuse_unknown_types(corpus, tagger.tags, tag_map=tagger.config.data.tag_map)
    chosen = [corpus.sentences[i] for i in spread(len(corpus.sentences), job.sentences or len(corpus.sentences))]
    if job.sample is not None:
        tagger.add_examples(read_sample(job.sample, tagger.config.data))
    answers: list[Answer] = []
    answer = _answerer(job, tagger, device)
    tick(0, len(chosen))
    for group in groups(chosen, size=lambda s: 1, most=GROUP):
        answers += answer(group)
        tick(len(answers), len(chosen))
    changed = {i: a for i, a in enumerate(answers) if list(a.plain) != list(a.tagged)}
    return {
        "language": job.language,
        "way": job.way,
        "requests_per_second": _pace(job, tagger, [chosen[i] for i in spread(len(chosen), TIMED)]),
        "memory_mb": _memory_mb(),
        "sentences": [_record(s, a) for s, a in zip(chosen, answers, strict=True)],
        "changed": {str(i): _shown(chosen[i], answer) for i, answer in changed.items()},
        "seconds": time.monotonic() - began,
    }


def _tagger(job: Evaluation, bundle: Path, device: torch.device) -> AdaptiveTagger:
    """The bundle's tagger; for a placebo its source sentences are searched through the placebo."""
    overrides = [] if job.word_neighbours is None else [f"words.neighbours={job.word_neighbours}"]
    placebo = PLACEBOS.get(job.way)
    if placebo is None:
        return AdaptiveTagger.from_pretrained(bundle, device=device, overrides=overrides)

    def pool(loaded: Bundle) -> Pool:
        source, which = load_source(loaded.path), loaded.config.retrieval.candidates
        windows = SourcePool(source.sentences, source.index, pieces=_pieces(loaded), which=which, place=loaded.path)
        return placebo(windows, which=which, seed=job.seed)

    return AdaptiveTagger.from_pretrained(bundle, device=device, overrides=overrides, pool=pool)


def _answerer(job: Evaluation, tagger: AdaptiveTagger, device: torch.device) -> Answerer:
    """What tags sentences in the cell's way."""
    if job.way == "o_bias":
        return partial(_biased, job, tagger, _pieces(tagger.bundle))
    if job.way == "released_optimizer":
        bundle = load_bundle(tagger.bundle.path)  # its own copy of theta, which it writes to
        bundle.model.to(device)
        bundle.sentence_encoder.to(device)
        released = ReleasedOptimizerTagger(bundle, neighbours=job.neighbours, lr=job.inner_lr)
        return partial(_by_released_optimizer, released, tagger, _pieces(bundle))
    return partial(_adapted, job, tagger)


def _adapted(job: Evaluation, tagger: AdaptiveTagger, sentences: Sequence[Sentence]) -> Iterator[Answer]:
    for found in tagger.tag_sentences(sentences, explain=True, neighbours=job.neighbours, inner_lr=job.inner_lr):
        adapted_to = [support.similarity for support in found.support if not support.voted]
        similarity = None if job.way == "random_support" else _mean(adapted_to)
        yield Answer(found.plain_tags or (), found.tags, similarity, found.support)


def _biased(
    job: Evaluation, tagger: AdaptiveTagger, pieces: PieceEncoder, sentences: Sequence[Sentence]
) -> Iterator[Answer]:
    for sentence, plain_WC in zip(sentences, tagger.probabilities(sentences, adapt=False), strict=True):
        biased_WC = without_bias(plain_WC, tagger.tags, job.o_bias)
        plain, biased = (_decoded(sentence, found, tagger.tags, pieces) for found in (plain_WC, biased_WC))
        yield Answer(plain, biased, None)


def _by_released_optimizer(
    released: ReleasedOptimizerTagger, tagger: AdaptiveTagger, pieces: PieceEncoder, sentences: Sequence[Sentence]
) -> Iterator[Answer]:
    for sentence, plain in zip(sentences, tagger.tag_sentences(sentences, adapt=False), strict=True):
        found_WC, neighbours = released.probabilities(sentence)
        tagged = _decoded(sentence, found_WC, tagger.tags, pieces)
        yield Answer(plain.tags, tagged, _mean([n.similarity for n in neighbours]))


def _pieces(bundle: Bundle) -> PieceEncoder:
    return PieceEncoder(bundle.tokenizer, max_pieces=bundle.config.model.max_pieces)


def _decoded(sentence: Sentence, probabilities_WC: Tensor, tags: Sequence[str], pieces: PieceEncoder) -> Sequence[str]:
    """A sentence's tags, read from probabilities as the tagger does it."""
    shared = [flag for window in pieces.windows([sentence]) for flag in shared_pieces(window)]
    (segments,) = TagChains([TaggedWords(probabilities_WC.numpy(), shared)], tags).segments()
    found, _ = found_entities(sentence, segments)
    return found


def _record(sentence: Sentence, answer: Answer) -> dict[str, Any]:
    gold = set(entities(sentence.tags or ()))
    found = {"plain": set(entities(answer.plain)), "tagged": set(entities(answer.tagged))}
    return {
        "gold": len(gold),
        **{name: [len(one), len(one & gold)] for name, one in found.items()},
        "plain_tags": " ".join(answer.plain),
        "tagged_tags": " ".join(answer.tagged),
        "similarity": answer.similarity,
    }


def _shown(sentence: Sentence, answer: Answer) -> dict[str, Any]:
    """What a page shows of a sentence that was tagged otherwise."""
    return {
        "place": sentence.place,
        "words": sentence.words,
        "gold": " ".join(sentence.tags or ()),
        "support": [
            {
                "similarity": s.similarity,
                "text": s.text,
                "entities": [[e.start, e.end, e.label] for e in s.entities],
            }
            for s in answer.support
        ],
    }


def _pace(job: Evaluation, tagger: AdaptiveTagger, sentences: Sequence[Sentence]) -> dict[str, float] | None:
    """Single sentences a second, plainly and adapted; None for a way that is no product's."""
    if job.way != "adapted":
        return None

    def per_second(tag: Callable[[Sentence], list[TaggedSentence]]) -> float:
        began = time.perf_counter()
        for sentence in sentences:
            tag(sentence)
        return len(sentences) / (time.perf_counter() - began)

    return {
        "plain": per_second(lambda s: tagger.tag_sentences([s], adapt=False)),
        "tagged": per_second(lambda s: tagger.tag_sentences([s], neighbours=job.neighbours, inner_lr=job.inner_lr)),
    }


def _memory_mb() -> float:
    """Resident memory of this process in MiB; where the system does not tell, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
