"""What a replica does with requests: it cuts them into windows, does parts of the work with them, and answers.

A replica begins requests by one checkpoint at a time, and ends each by the one that it began with. Before every batch
it takes in the examples that were added to the service, so whatever was acknowledged shapes the next answer. No Ray, no
HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from metacross.adoption.by_confidence import confident_labels
from metacross.client.contract import Adopted, EntitiesAnswer, Model, ModelName, Result
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.types import named_type, unknown_type
from metacross.errors import RunError
from metacross.tagging.answers import TaggedText
from metacross.tagging.factor_cache import CacheFigures
from metacross.tagging.tagger import AdaptiveTagger
from metacross.tagging.window_tagger import Settings, TaggedWindow
from serve.batcher import Parts
from serve.examples import ExampleStore, StoredExample
from serve.examples.uses import UseCounter
from serve.jobs import Job, Labelled, Refusal
from serve.places import shown_encoder
from serve.results import joined, result
from serve.work_parts import AnswerPart, WindowPart, answer_parts, window_parts

INFLUENCES = 2000  # characters of a text, at most, whose explanation has influences: they cost most of it

log = logging.getLogger("metacross.serve")


class Engine:
    """A tagger with the service's examples in it; the tagger can be replaced while it answers.

    Args:
        store: the service's examples; None for a service without any.
        open_tagger: makes a tagger of a bundle's path.

    Attributes:
        store: the service's examples.
        uses: counts how often each of them shapes an answer; None for a service without any.
    """

    def __init__(self, store: ExampleStore | None, open_tagger: Callable[[str], AdaptiveTagger]) -> None:
        self.store, self._open = store, open_tagger
        self.uses = UseCounter(store) if store else None
        self._loaded: _Loaded | None = None

    def load(self, bundle: str) -> None:
        """Goes over to another bundle, and brings the examples along. A batch ends by the bundle it began with.

        Raises:
            UserError: it is not a bundle; the one before goes on answering.
        """
        loaded = _Loaded(self._open(bundle))
        loaded.take_in(self.store)
        self._loaded = loaded

    def model(self) -> Model:
        """What answers come from. It counts no examples: the store does that."""
        loaded = self._now()
        tagger = loaded.tagger
        config = tagger.config
        return Model(
            bundle=loaded.name.bundle,
            method=loaded.name.method,
            encoder=shown_encoder(config.model.encoder),
            source_language=config.data.source_language,
            labels=tagger.types,
            dev_f1=tagger.bundle.metrics.get("dev_f1"),
            source_sentences=len(tagger) - tagger.example_count,
            neighbours=config.episodes.support_size,
            inner_lr=config.inner.lr,
            adopted=tuple(Adopted(**record.to_json()) for record in tagger.bundle.adopted),
        )

    @property
    def cache_figures(self) -> CacheFigures:
        """What the cache of the tagger that answers now has done."""
        return self._now().tagger.cache_figures

    def begin(self, jobs: Sequence[Job]) -> Tagging:
        """Cuts a request's texts into windows; `do` tags them."""
        return Tagging(self._now(), jobs)

    def begin_labels(self, sentences: Sequence[Sentence], language: str) -> Labelling:
        """Cuts sentences into windows, to label them by theta once `do` has tagged these.

        Args:
            sentences: without tags; none without words.
            language: BCP 47 tag of all of them.
        """
        return Labelling(self._now(), sentences, language)

    def do(self, batch: Sequence[Parts[Tagging | Labelling]]) -> None:
        """Does parts of requests together; a request that cannot be answered does not touch the others."""
        try:
            self._now().take_in(self.store)
        except RunError as error:  # while the store does not answer, no new example was acknowledged either
            log.warning("answering by the examples of before: %s", error)
        by_tagger: dict[_Loaded, list[WindowPart]] = {}  # of two, while a new bundle goes live
        for parts in batch:
            if parts.work.possible():
                some = by_tagger.setdefault(parts.work.loaded, [])
                some += (p for p in parts.work.parts[parts.start : parts.end] if isinstance(p, WindowPart))
        for loaded, some in by_tagger.items():
            loaded.tagger.look_up([tagged for part in some if not part.tags for tagged in part.windows])
            windows = [tagged for part in some if part.tags for tagged in part.windows]
            loaded.tagger.tag_windows(windows)
            if self.uses is not None:
                self.uses.count(loaded.examples_behind(windows))

    def answer(self, requests: Sequence[Sequence[Job]]) -> list[EntitiesAnswer | Refusal]:
        """Tags the jobs of all requests at once, for callers without a queue."""
        works = [self.begin(jobs) for jobs in requests]
        self.do([Parts(work, 0, len(work.costs)) for work in works])
        for work in works:
            work.put_together(0, len(work.costs))
        return [work.result() for work in works]

    def label(self, sentences: Sequence[Sentence], language: str) -> Labelled:
        """Labels sentences at once, for callers without a queue."""
        work = self.begin_labels(sentences, language)
        self.do([Parts(work, 0, len(work.costs))])
        return work.result()

    def _now(self) -> _Loaded:
        if self._loaded is None:
            raise RuntimeError("no bundle is loaded")
        return self._loaded


class Tagging:
    """A request whose texts are tagged.

    Args:
        loaded: what tags them.
        jobs: the request's.

    Attributes:
        loaded: as given.
        texts: the request's, cut.
        parts: of the work: with their windows, and then with the answers of their sentences.
        costs: of the parts.
        alone_from: windows and the first sentences' answers may share a turn.
    """

    def __init__(self, loaded: _Loaded, jobs: Sequence[Job]) -> None:
        self.loaded = loaded
        self.refusal = _unknown_label(loaded.tagger, jobs)
        self._jobs = [] if self.refusal else [_with_types(loaded.tagger, job) for job in jobs]
        self.texts = loaded.tagger.cut([_item(loaded.tagger, job) for job in self._jobs])
        self.parts: tuple[WindowPart | AnswerPart, ...] = (
            *window_parts(self.texts.by_length()),
            *answer_parts(len(self.texts.sentences)),
        )
        self.costs = tuple(part.cost for part in self.parts)
        self.alone_from = 1 + sum(isinstance(part, WindowPart) for part in self.parts)
        self._found: list[list[Result]] = [  # for each job of its sentences that are put together
            [] if starts else [loaded.result(job, TaggedText(self.texts.text(number), (), ()))]
            for number, (job, starts) in enumerate(zip(self._jobs, self.texts.places, strict=True))
        ]

    def possible(self) -> bool:
        """Whether it can be answered; examples may be deleted at any time, and with them neighbours."""
        self.refusal = self.refusal or _too_many_neighbours(self.loaded.tagger, self._jobs)
        return self.refusal is None

    def put_together(self, start: int, end: int) -> None:
        """Puts together what some sentences are answered, where that is one of these parts."""
        if self.refusal is not None:
            return
        for part in self.parts[start:end]:
            if isinstance(part, AnswerPart):
                for number, tagged in self.texts.answers(part.first, part.end):
                    self._found[number].append(self.loaded.result(self._jobs[number], tagged))

    def result(self) -> EntitiesAnswer | Refusal:
        """The answer, once all parts are done and put together."""
        if self.refusal is not None:
            return self.refusal
        return EntitiesAnswer(tuple(map(joined, self._found)), self.loaded.name)


class Labelling:
    """A request whose sentences are labelled, but for those whose labels are too uncertain to learn from.

    Args:
        loaded: what labels them.
        sentences: without tags; none without words.
        language: BCP 47 tag of all of them.

    Attributes:
        loaded: as given.
        texts: the sentences, cut.
        parts: of the work with their windows.
        costs: of the parts.
        alone_from: all of them may share a turn.
    """

    def __init__(self, loaded: _Loaded, sentences: Sequence[Sentence], language: str) -> None:
        self.loaded, self._sentences, self._language = loaded, sentences, language
        plainly = loaded.tagger.settings(adapt=False)
        self.texts = loaded.tagger.cut([(sentence, plainly) for sentence in sentences])
        self.parts = tuple(window_parts(self.texts.by_length()))
        self.costs = tuple(part.cost for part in self.parts)
        self.alone_from = len(self.parts)

    def possible(self) -> bool:
        """Whether it can be done: always."""
        return True

    def put_together(self, start: int, end: int) -> None:
        """Does nothing: all sentences are judged together."""

    def result(self) -> Labelled:
        """The labelled sentences, once all parts are done."""
        tagger = self.loaded.tagger
        bound = tagger.config.serve.label_confidence
        probabilities = self.texts.probabilities()
        found = confident_labels(tagger, self._sentences, probabilities, language=self._language, bound=bound)
        return Labelled(self.loaded.name.bundle, found)


class _Loaded:
    """A tagger, and which of the service's examples it has taken in."""

    def __init__(self, tagger: AdaptiveTagger) -> None:
        self.tagger = tagger
        self.name = ModelName(tagger.bundle.digest, tagger.config.train.method)
        source = tagger.config.data.source
        self._corpora = (source,) if isinstance(source, str) else tuple(source)
        self._version = 0  # of the store
        self._windows: dict[int, list[int]] = {}  # example's id -> numbers of its windows in the tagger
        self._examples: dict[int, int] = {}  # window's number -> id of its example

    def take_in(self, store: ExampleStore | None) -> None:
        """Brings the tagger to the store's newest version."""
        if store is None or store.version() == self._version:
            return
        changes = store.changes(self._version)
        for deleted in changes.deleted:
            windows = self._windows.pop(deleted, [])
            self.tagger.remove_examples(windows)
            for window in windows:
                del self._examples[window]
        new = [example for example in changes.added if self._known(example)]
        for example, windows in zip(new, self.tagger.add_examples([e.sentence for e in new]), strict=True):
            self._windows[example.id] = windows
            self._examples |= dict.fromkeys(windows, example.id)
        self._version = changes.version

    def examples_behind(self, windows: Sequence[TaggedWindow]) -> Iterator[int]:
        """The examples that shaped tagged windows, by id, each once for a window."""
        for tagged in windows:
            numbers = {*tagged.voting, *(neighbour.number for neighbour in tagged.neighbours)}
            yield from {self._examples[number] for number in numbers if number in self._examples}

    def _known(self, example: StoredExample) -> bool:
        """Whether this bundle knows an example's types; another one may have had more."""
        return set(example.sentence.tags or ()) <= set(self.tagger.tags)

    def result(self, job: Job, tagged: TaggedText) -> Result:
        """What the job asks for, of what was found in its text or in some sentences of it."""
        return result(job, tagged, corpora=self._corpora, example=self._examples.get)


def _unknown_label(tagger: AdaptiveTagger, jobs: Sequence[Job]) -> Refusal | None:
    for label in (label for job in jobs for label in job.labels or ()):
        if named_type(label, tagger.types) is None:
            return Refusal("labels", unknown_type(label, tagger.types))
    return None


def _with_types(tagger: AdaptiveTagger, job: Job) -> Job:
    """A job whose labels are written as the tagger writes them."""
    if job.labels is None:
        return job
    return replace(job, labels=tuple(named_type(label, tagger.types) or label for label in job.labels))


def _too_many_neighbours(tagger: AdaptiveTagger, jobs: Sequence[Job]) -> Refusal | None:
    for job in jobs:
        if job.adapt and (job.neighbours or 1) > len(tagger):
            return Refusal("neighbours", f"neighbours={job.neighbours}, but there are {len(tagger)} to be had.")
        most = tagger.config.serve.max_neighbours
        if job.adapt and (job.neighbours or 1) > most:  # an Ingress refuses it first; here it bounds the memory
            return Refusal("neighbours", f"neighbours={job.neighbours}, at most {most}.")
    return None


def _item(tagger: AdaptiveTagger, job: Job) -> tuple[str | Sentence, Settings]:
    settings = tagger.settings(adapt=job.adapt, explain=job.explain and job.adapt, neighbours=job.neighbours)
    item = job.text if isinstance(job.text, str) else sentence_from_words(job.text)
    length = len(item) if isinstance(item, str) else len(item.text)
    return item, replace(settings, influences=length <= INFLUENCES)
