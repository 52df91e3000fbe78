"""What a replica does with the requests of a batch: no Ray, no HTTP.

A replica answers by one checkpoint at a time. Examples that were added to the service are taken in before every batch,
so whatever was acknowledged shapes the next answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from metacross.config import Config
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.errors import RunError
from metacross.tagging.answers import SupportSentence, TaggedEntity, TaggedText
from metacross.tagging.factor_cache import CacheFigures
from metacross.tagging.tagger import AdaptiveTagger
from metacross.tagging.window_tagger import Settings
from serve.examples import Example, ExampleStore

log = logging.getLogger("metacross.serve")


@dataclass(frozen=True)
class Job:
    """A text to be tagged, or given words, and how. A request may hold several.

    Attributes:
        text: raw text, or the words of a sentence.
        adapt: by weights adapted to every sentence of it.
        explain: also the support sentences, and the answer before adaptation.
        labels: keep entities of these types; None keeps all.
        threshold: drop entities with a lower score.
        neighbours: K; None is the bundle's.
    """

    text: str | tuple[str, ...]
    adapt: bool = True
    explain: bool = False
    labels: tuple[str, ...] | None = None
    threshold: float = 0.0
    neighbours: int | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a request cannot be answered: which field, and the fix."""

    field: str
    detail: str


@dataclass(frozen=True)
class Answer:
    """A request's results, one for each job, and the checkpoint that all of them come from."""

    results: list[dict[str, Any]]
    model: dict[str, Any]


class Engine:
    """A tagger with the service's examples in it; the tagger can be exchanged while it answers.

    Args:
        store: the service's examples; None for a service without any.
        open_tagger: makes a tagger of a bundle's path.

    Attributes:
        store: as given.
    """

    def __init__(self, store: ExampleStore | None, open_tagger: Callable[[str], AdaptiveTagger]) -> None:
        self.store, self._open = store, open_tagger
        self._loaded: _Loaded | None = None

    def load(self, bundle: str) -> None:
        """Goes over to another bundle, examples and all; batches under way end with the one they began with.

        Raises:
            UserError: it is not a bundle; the one before stays.
        """
        loaded = _Loaded(self._open(bundle))
        loaded.take_in(self.store)
        self._loaded = loaded

    def model(self) -> dict[str, Any]:
        """What answers come from, for people and programs."""
        loaded = self._now()
        tagger = loaded.tagger
        config: Config = tagger.config
        return {
            **loaded.named(),
            "encoder": config.model.encoder,
            "source_language": config.data.source_language,
            "labels": list(tagger.types),
            "dev_f1": tagger.bundle.metrics.get("dev_f1"),
            "source_sentences": len(tagger) - tagger.example_count,
            "neighbours": config.episodes.support_size,
            "inner_lr": config.inner.lr,
        }

    @property
    def cache_figures(self) -> CacheFigures:
        """Of the tagger that answers now."""
        return self._now().tagger.cache_figures

    def answer(self, requests: Sequence[Sequence[Job]]) -> list[Answer | Refusal]:
        """Tags the jobs of all requests together; a request that cannot be answered does not touch the others."""
        loaded = self._now()
        try:
            loaded.take_in(self.store)
        except RunError as error:  # then nothing new was acknowledged either
            log.warning("answering by the examples of before: %s", error)
        tagger = loaded.tagger
        refusals = [_refusal(tagger, jobs) for jobs in requests]
        good = [jobs for jobs, refusal in zip(requests, refusals, strict=True) if refusal is None]
        tagged = iter(tagger.tag_each([_item(tagger, job) for jobs in good for job in jobs]))
        return [
            refusal or Answer([loaded.result(job, next(tagged)) for job in jobs], loaded.named())
            for jobs, refusal in zip(requests, refusals, strict=True)
        ]

    def _now(self) -> _Loaded:
        if self._loaded is None:
            raise RuntimeError("no bundle is loaded")
        return self._loaded


class _Loaded:
    """A tagger, and which of the service's examples it has taken in."""

    def __init__(self, tagger: AdaptiveTagger) -> None:
        self.tagger = tagger
        self._version = 0
        self._windows: dict[int, list[int]] = {}  # by example
        self._examples: dict[int, int] = {}  # by window

    def named(self) -> dict[str, Any]:
        return {"bundle": self.tagger.bundle.digest, "method": self.tagger.config.train.method}

    def take_in(self, store: ExampleStore | None) -> None:
        """Brings the tagger to the store's newest version."""
        if store is None or store.version() == self._version:
            return
        changes = store.changes(self._version)
        for number in changes.deleted:
            windows = self._windows.pop(number, [])
            self.tagger.remove_examples(windows)
            for window in windows:
                del self._examples[window]
        new = [example for example in changes.added if self._known(example)]
        for example, windows in zip(new, self.tagger.add_examples([e.sentence for e in new]), strict=True):
            self._windows[example.id] = windows
            self._examples |= dict.fromkeys(windows, example.id)
        self._version = changes.version

    def _known(self, example: Example) -> bool:
        """Whether this bundle knows an example's types; another one may have had more."""
        return set(example.sentence.tags or ()) <= set(self.tagger.tags)

    def result(self, job: Job, tagged: TaggedText) -> dict[str, Any]:
        """The job's part of the answer, filtered as it wants."""
        out = {
            "text": tagged.text,
            "entities": [e for e in map(_entity, tagged.entities()) if _wanted(job, e)],
            "windows": sum(sentence.windows for sentence in tagged.sentences),
            "adapted": any(sentence.adapted for sentence in tagged.sentences),
        }
        if job.explain:
            out["support"] = [self._support(support) for support in tagged.support()]
            plain = tagged.plain_entities() if job.adapt else tagged.entities()
            out["plain"] = [e for e in map(_entity, plain) if _wanted(job, e)]
        return out

    def _support(self, support: SupportSentence) -> dict[str, Any]:
        return {
            "similarity": support.similarity,
            "text": support.text,
            "entities": [_entity(entity) for entity in support.entities],
            "start": support.start,
            "end": support.end,
            "place": support.place,
            "example": None if support.number is None else self._examples.get(support.number),
        }


def _refusal(tagger: AdaptiveTagger, jobs: Sequence[Job]) -> Refusal | None:
    for job in jobs:
        unknown = sorted(set(job.labels or ()) - set(tagger.types))
        if unknown:
            return Refusal("labels", f"label {unknown[0]} is not known. Choose from {', '.join(tagger.types)}.")
        if job.adapt and (job.neighbours or 1) > len(tagger):
            return Refusal("neighbours", f"neighbours={job.neighbours}, but there are {len(tagger)} to be had.")
    return None


def _item(tagger: AdaptiveTagger, job: Job) -> tuple[str | Sentence, Settings]:
    settings = tagger.settings(adapt=job.adapt, explain=job.explain and job.adapt, neighbours=job.neighbours)
    return (job.text if isinstance(job.text, str) else sentence_from_words(job.text)), settings


def _wanted(job: Job, entity: dict[str, Any]) -> bool:
    return entity["score"] >= job.threshold and (job.labels is None or entity["label"] in job.labels)


def _entity(found: TaggedEntity) -> dict[str, Any]:
    """An entity as answers have it; labels of support sentences have no score."""
    score = {} if found.score is None else {"score": found.score}
    return {"start": found.start, "end": found.end, "text": found.text, "label": found.type, **score}
