"""The tagger that adapts itself to every sentence: look up its nearest labelled sentences, adapt, tag.

No Ray: this is what users call, what `metacross evaluate` and `metacross tag` run, and what the service wraps.

The unit of adaptation is the window: a sentence that fits into the encoder is one window, a longer one has several,
each with neighbours of its own. Windows of all texts run together in batches bounded by word pieces; what else is in
a batch changes no answer.

Shapes: W words, C tags, K neighbours.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from metacross.bundle import Bundle, load_bundle
from metacross.config import FILE_NAME, Config, dotted, load_config
from metacross.data import Entity, Sentence, entities, sentence_from_text
from metacross.device import autocast, pick_device
from metacross.encoding import PieceEncoder, Window, decode
from metacross.errors import UserError
from metacross.factor_cache import CacheFigures, FactorCache
from metacross.learner import inner_loop
from metacross.rows import trunk_states
from metacross.source import Source
from metacross.tagging import tag_windows
from metacross.words import split_sentences

# What is held in memory at a time: texts are taken in groups of sentences, and windows in groups of word pieces.
GROUP_SENTENCES = 256
GROUP_CHARACTERS = 1 << 16
GROUP_PIECES = 1 << 15

# Settings that a trained tagger may be used with other values of; all others are part of what was learned.
FREE_KEYS = frozenset(
    {
        "data.tag_map",
        "data.max_words",
        "episodes.support_size",
        "inner.steps",
        "inner.step",
        "inner.lr",
        "inner.adapt_max_weight",
        "train.precision",
        "train.batch_pieces",
        "train.trunk_cache_mb",
        "serve.factor_cache_mb",
    }
)


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
class Support:
    """A labelled source sentence that a window's weights were adapted to.

    Attributes:
        window: the window of the tagged sentence, 0 for its first.
        similarity: cosine of the two windows' vectors.
        text: of the source sentence.
        entities: its labels.
        place: "file:line" where training read it.
    """

    window: int
    similarity: float
    text: str
    entities: tuple[TaggedEntity, ...]
    place: str

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
    support: tuple[Support, ...] = ()
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


@dataclass(frozen=True)
class _Settings:
    """How a call wants its sentences tagged."""

    adapt: bool
    explain: bool  # plain tags as well, and the support sentences
    neighbours: int
    inner_lr: float


@dataclass(frozen=True)
class _Outcome:
    """One window's tag probabilities, and what they were adapted to."""

    adapted_WC: Tensor | None
    plain_WC: Tensor | None
    neighbours: Sequence[int] = ()
    similarities: Sequence[float] = ()


class AdaptiveTagger:
    """Tags text with weights that are adapted to every sentence. One instance may be shared by threads.

    Args:
        bundle: a loaded bundle.
        device: where the model runs.
        config: in place of the bundle's; differs from it in `FREE_KEYS` alone.

    Attributes:
        bundle: what it was made from.
        config: what it runs with.
        tags: the IOB2 tags it knows.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device, config: Config | None = None) -> None:
        self.bundle, self.config, self.tags = bundle, config or bundle.config, bundle.tags
        self.device = device
        self._model = bundle.model.to(device)
        self._sentence_encoder = bundle.sentence_encoder.to(device)
        self._pieces = PieceEncoder(bundle.tokenizer, max_pieces=self.config.model.max_pieces)
        self._source = Source(
            bundle.sentences,
            bundle.tags,
            pieces=self._pieces,
            model=self._model,
            budget_mb=self.config.train.trunk_cache_mb,
            batch_pieces=self.config.train.batch_pieces,
        )
        candidates = len(self._source.candidates(self.config.retrieval.candidates))
        if candidates != len(bundle.index):
            raise UserError(
                f"{bundle.path}: the index holds {len(bundle.index)} vectors but the source sentences make "
                f"{candidates} windows that may be support; the bundle was written by another version. Train it again."
            )
        self._cache = FactorCache(
            self._model,
            self._source,
            budget_mb=self.config.serve.factor_cache_mb,
            batch_pieces=self.config.train.batch_pieces,
        )
        # The kept trunk states, the kept factors and the model's hooks are shared by all threads.
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls, bundle: str | Path, *, device: str | torch.device = "auto", overrides: Sequence[str] = ()
    ) -> AdaptiveTagger:
        """Loads the bundle that a training run left.

        Args:
            bundle: its directory.
            device: auto (a GPU where there is one), cpu, cuda or cuda:N; the index goes with the model.
            overrides: `key=value` settings to use in place of the bundle's; see `FREE_KEYS`.

        Raises:
            UserError: not a bundle, a file of it is missing or changed, no such device, or a setting that cannot be
                changed after training.
        """
        place = _device(device)
        loaded = load_bundle(bundle, use_gpu="auto" if place.type == "cuda" else False)
        wanted = load_config([loaded.path / FILE_NAME], overrides, alone=True)
        refuse_learned_keys(loaded.config, wanted)
        return cls(loaded, device=place, config=wanted)

    def add_examples(self, sentences: Sequence[Sentence]) -> int:
        """Lets further labelled sentences, in any language, shape answers from now on; theta stays as it is.

        This is the cheapest form of the paper's low-resource setting: nothing is trained. The bundle on disk does not
        change.

        Args:
            sentences: with IOB2 tags, such as `read_corpus(...).sentences`. With retrieval.candidates=with_entities,
                those without entities are passed over, as they are among the source sentences.

        Returns:
            How many windows were added to the index.

        Raises:
            UserError: a sentence without tags, or with a tag that the tagger does not know; nothing was added.
        """
        for number, sentence in enumerate(sentences, 1):
            unknown = sorted(set(sentence.tags or ("",)) - set(self.tags)) if sentence.words else []
            if unknown:
                raise UserError(
                    f"{sentence.place or f'example {number}'}: "
                    + (f"tag {unknown[0]} is not one of {', '.join(self.tags)}" if unknown[0] else "it has no tags")
                )
        with self._lock, torch.no_grad(), autocast(self.config.train.precision, self.device):
            first = self._source.add(sentences)
            if first == len(self._source.windows):
                return 0
            vectors_MH = self._source.vectors(self._sentence_encoder, first=first)
            candidates = self._source.candidates(self.config.retrieval.candidates)
            new = candidates[candidates >= first]
            self.bundle.index.add(vectors_MH[new - first], new)
            return len(new)

    @property
    def cache_figures(self) -> CacheFigures:
        """How often support sentences' factors were at hand, and the memory they take."""
        return replace(self._cache.figures)

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types it knows."""
        return tuple(tag[2:] for tag in self.tags if tag.startswith("B-"))

    @overload
    def __call__(
        self,
        texts: str,
        *,
        adapt: bool = ...,
        neighbours: int | None = ...,
        inner_lr: float | None = ...,
        explain: bool = ...,
    ) -> list[dict[str, Any]]: ...

    @overload
    def __call__(
        self,
        texts: list[str] | tuple[str, ...],
        *,
        adapt: bool = ...,
        neighbours: int | None = ...,
        inner_lr: float | None = ...,
        explain: bool = ...,
    ) -> list[list[dict[str, Any]]]: ...

    def __call__(
        self,
        texts: str | list[str] | tuple[str, ...],
        *,
        adapt: bool = True,
        neighbours: int | None = None,
        inner_lr: float | None = None,
        explain: bool = False,
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """The entities of raw texts, as Hugging Face's token classification pipeline gives them.

        Args:
            texts: one text, or several.
            adapt: tag every sentence by weights adapted to it; otherwise by theta.
            neighbours: K, in place of the configuration's episodes.support_size.
            inner_lr: in place of the configuration's inner.lr.
            explain: every entity also has `plain`, the type it has without adaptation (None: it is not found then),
                and `support`, the source sentences that its sentence's weights were adapted to.

        Returns:
            For one text a list of entities, for several a list of such lists. An entity has entity_group, score,
            word, start and end; offsets count code points, and `word` is text[start:end].

        Raises:
            UserError: more neighbours than the index holds, or a setting that makes no sense.
        """
        several = [texts] if isinstance(texts, str) else texts
        tagged = self.tag_texts(several, adapt=adapt, neighbours=neighbours, inner_lr=inner_lr, explain=explain)
        found = [_explained(text) if explain else text.entities() for text in tagged]
        return found[0] if isinstance(texts, str) else found

    def tag_texts(
        self,
        texts: Sequence[str],
        *,
        adapt: bool = True,
        neighbours: int | None = None,
        inner_lr: float | None = None,
        explain: bool = False,
    ) -> list[TaggedText]:
        """Raw texts with the sentences found in them; arguments and errors as for a call."""
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"found {type(text).__name__} among the texts; expected str")
        places = [split_sentences(text) for text in texts]
        sentences = (sentence_from_text(t[start:end]) for t, p in zip(texts, places, strict=True) for start, end in p)
        tagged = iter(self._tag(sentences, self._settings(adapt, explain, neighbours, inner_lr)))
        return [
            TaggedText(text, tuple(next(tagged) for _ in found), tuple(start for start, _ in found))
            for text, found in zip(texts, places, strict=True)
        ]

    def tag_sentences(
        self,
        sentences: Sequence[Sentence],
        *,
        adapt: bool = True,
        neighbours: int | None = None,
        inner_lr: float | None = None,
        explain: bool = False,
    ) -> list[TaggedSentence]:
        """Sentences whose words are known, such as a corpus has; arguments and errors as for a call.

        With `explain` the plain tags and the support sentences are in the answers.
        """
        return list(self._tag(sentences, self._settings(adapt, explain, neighbours, inner_lr)))

    def probabilities(
        self,
        sentences: Sequence[Sentence],
        *,
        adapt: bool = True,
        neighbours: int | None = None,
        inner_lr: float | None = None,
    ) -> list[Tensor]:
        """Tag probabilities (W, C) of each sentence's words."""
        settings = self._settings(adapt, False, neighbours, inner_lr)
        empty = torch.empty(0, len(self.tags))
        return [
            torch.cat([empty, *(_chosen(outcome) for _, outcome in parts)])
            for group in _groups(sentences)
            for parts in self._by_sentence(group, settings)
        ]

    def _settings(self, adapt: bool, explain: bool, neighbours: int | None, inner_lr: float | None) -> _Settings:
        k = self.config.episodes.support_size if neighbours is None else neighbours
        lr = self.config.inner.lr if inner_lr is None else inner_lr
        if k < 1:
            raise UserError(f"neighbours={k}: at least 1 is needed; to tag without adaptation, say so (adapt=False)")
        if not (math.isfinite(lr) and lr >= 0):
            raise UserError(f"inner_lr={lr}: expected a number, 0 or greater")
        return _Settings(adapt, explain, k, lr)

    def _tag(self, sentences: Iterable[Sentence], settings: _Settings) -> Iterator[TaggedSentence]:
        for group in _groups(sentences):
            for sentence, parts in zip(group, self._by_sentence(group, settings), strict=True):
                yield self._tagged(sentence, parts, settings)

    def _by_sentence(self, group: Sequence[Sentence], settings: _Settings) -> list[list[tuple[Window, _Outcome]]]:
        """Each sentence's windows with what came out of them."""
        windows = self._pieces.windows(group)
        parts: list[list[tuple[Window, _Outcome]]] = [[] for _ in group]
        for run in _runs(windows):
            for window, outcome in zip(run, self._outcomes(run, settings), strict=True):
                parts[window.sentence].append((window, outcome))
        return parts

    @torch.no_grad()  # not inference mode: adaptation takes gradients through these states
    def _outcomes(self, windows: Sequence[Window], settings: _Settings) -> list[_Outcome]:
        batch_pieces = self.config.train.batch_pieces
        adapted: Sequence[Tensor | None] = [None] * len(windows)
        plain: Sequence[Tensor | None] = adapted
        rows: list[list[int]] = [[] for _ in windows]
        similarities: list[list[float]] = [[] for _ in windows]
        with self._lock, autocast(self.config.train.precision, self.device):
            encoder = self._sentence_encoder if settings.adapt else None
            states, vectors = trunk_states(self._model, windows, batch_pieces=batch_pieces, sentence_encoder=encoder)
            if vectors is not None:
                found = self.bundle.index.search(vectors.float().cpu().numpy(), settings.neighbours)
                similarities, rows = found[0].tolist(), found[1].tolist()
                inner = inner_loop(self.config.inner, max_weight=self.config.inner.adapt_max_weight)
                adapted = tag_windows(
                    self._model,
                    windows,
                    states,
                    batch_pieces=batch_pieces,
                    source=self._source,
                    neighbours=rows,
                    inner=replace(inner, lr=settings.inner_lr),
                    cache=self._cache,
                )
            if settings.explain or not settings.adapt:
                plain = tag_windows(self._model, windows, states, batch_pieces=batch_pieces)
        return [_Outcome(*parts) for parts in zip(adapted, plain, rows, similarities, strict=True)]

    def _tagged(
        self, sentence: Sentence, parts: Sequence[tuple[Window, _Outcome]], settings: _Settings
    ) -> TaggedSentence:
        shared = [flag for window, _ in parts for flag in _shared(window)]
        tags, found = self._decoded(sentence, [_chosen(outcome) for _, outcome in parts], shared)
        tagged = TaggedSentence(sentence, tags, found, len(parts), settings.adapt and bool(parts))
        if not settings.explain:
            return tagged
        plain = [outcome.plain_WC for _, outcome in parts if outcome.plain_WC is not None]
        plain_tags, plain_found = self._decoded(sentence, plain, shared)
        support = [
            self._support(number, index, similarity)
            for number, (_, outcome) in enumerate(parts)
            for index, similarity in zip(outcome.neighbours, outcome.similarities, strict=True)
        ]
        return replace(tagged, support=tuple(support), plain_tags=plain_tags, plain_entities=plain_found)

    def _decoded(
        self, sentence: Sentence, parts: Sequence[Tensor], shared: Sequence[bool]
    ) -> tuple[tuple[str, ...], tuple[TaggedEntity, ...]]:
        if not parts:
            return (), ()
        tags, spans = decode(torch.cat(list(parts)), self.tags, shared)
        return tuple(tags), tuple(_entity(sentence, Entity(s.type, s.start, s.end), s.score) for s in spans)

    def _support(self, window: int, index: int, similarity: float) -> Support:
        sentence = self._source.sentences[self._source.windows[index].sentence]
        labels = tuple(_entity(sentence, entity, None) for entity in entities(sentence.tags or ()))
        return Support(window, similarity, sentence.text, labels, sentence.place)


def refuse_learned_keys(trained: Config, wanted: Config) -> None:
    """Raises UserError where a setting was changed that is part of what a bundle has learned."""
    before = dotted(trained)
    for key, value in dotted(wanted).items():
        if value != before[key] and key not in FREE_KEYS:
            raise UserError(
                f"{key}={value} but this bundle was trained with {before[key]}, which cannot be changed any more. "
                f"Leave it out or train again. What can be changed: {', '.join(sorted(FREE_KEYS))}."
            )


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return pick_device("auto")
    if device in ("cpu", "cuda"):
        return pick_device(device == "cuda")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device}: expected auto, cpu, cuda or cuda:N") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={device} but torch sees {torch.cuda.device_count()} GPUs: choose another, or auto")
    return place


def _groups(sentences: Iterable[Sentence]) -> Iterator[list[Sentence]]:
    """Sentences in groups of bounded size."""
    group: list[Sentence] = []
    characters = 0
    for sentence in sentences:
        if group and (len(group) == GROUP_SENTENCES or characters + len(sentence.text) > GROUP_CHARACTERS):
            yield group
            group, characters = [], 0
        group.append(sentence)
        characters += len(sentence.text)
    if group:
        yield group


def _runs(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Windows in groups of bounded pieces."""
    run: list[Window] = []
    pieces = 0
    for window in windows:
        if run and pieces + len(window) > GROUP_PIECES:
            yield run
            run, pieces = [], 0
        run.append(window)
        pieces += len(window)
    if run:
        yield run


def _chosen(outcome: _Outcome) -> Tensor:
    chosen = outcome.plain_WC if outcome.adapted_WC is None else outcome.adapted_WC
    assert chosen is not None
    return chosen


def _shared(window: Window) -> list[bool]:
    """Whether each scored word has no piece of its own: it is read where the word before it is."""
    first = window.scored[0] - window.start
    pieces = window.first_pieces
    return [i > 0 and pieces[i] == pieces[i - 1] for i in range(first, first + len(window.scored_pieces()))]


def _entity(sentence: Sentence, entity: Entity, score: float | None) -> TaggedEntity:
    start, end = sentence.spans[entity.start][0], sentence.spans[entity.end - 1][1]
    return TaggedEntity(entity.type, start, end, score, (entity.start, entity.end))


def _explained(text: TaggedText) -> list[dict[str, Any]]:
    found = []
    for tagged, offset in zip(text.sentences, text.offsets, strict=True):
        plain = {(entity.start, entity.end): entity.type for entity in tagged.plain_entities or ()}
        support = [s.as_dict() for s in tagged.support]
        found += [
            {**e.as_dict(text.text, offset), "plain": plain.get((e.start, e.end)), "support": support}
            for e in tagged.entities
        ]
    return found
