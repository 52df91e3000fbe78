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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from metacross.algorithm import InnerLoop, adapt
from metacross.bundle import Bundle, load_bundle, refuse_learned_keys
from metacross.config import FILE_NAME, Config, load_config
from metacross.corpora.sentence import Entity, Sentence, sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.encoder.device import autocast, named_device, product_dtype
from metacross.encoder.loading import hold_in
from metacross.encoder.rows import pack, runs, trunk_states
from metacross.encoder.windows import PieceEncoder, Window
from metacross.errors import UserError
from metacross.fast_weights import FastWeights
from metacross.retrieval.index import Vectors
from metacross.retrieval.support import Candidate, ExamplePool, Neighbour, Pool, SourcePool, Support, may_be_support
from metacross.tagging.adaptation import Adaptation, inner_loop
from metacross.tagging.answers import SupportSentence, TaggedEntity, TaggedSentence, TaggedText, entity_in, labels_of
from metacross.tagging.decoding import decode
from metacross.tagging.factor_cache import CacheFigures, FactorCache
from metacross.tagging.window_tagger import Timed, tag_windows

# What is held in memory at a time: texts are taken in groups of sentences, and windows in groups of word pieces.
GROUP_SENTENCES = 256
GROUP_CHARACTERS = 1 << 16
GROUP_PIECES = 1 << 15


@dataclass(frozen=True)
class Settings:
    """How a text wants to be tagged; `AdaptiveTagger.settings` makes one that is checked.

    Attributes:
        adapt: by weights adapted to every sentence; otherwise by theta.
        explain: plain tags as well, and the support sentences.
        neighbours: K.
        inner_lr: alpha.
    """

    adapt: bool
    explain: bool
    neighbours: int
    inner_lr: float


@dataclass
class _Outcome:
    """One window's tag probabilities, and what they were adapted to."""

    adapted_WC: Tensor | None = None
    plain_WC: Tensor | None = None
    neighbours: Sequence[Neighbour] = ()
    candidates: Sequence[Candidate] = ()  # the neighbours' sentences, where they are to be shown

    @property
    def chosen_WC(self) -> Tensor:
        chosen = self.plain_WC if self.adapted_WC is None else self.adapted_WC
        assert chosen is not None
        return chosen


@dataclass(frozen=True)
class _Part:
    """A window of a sentence, how it is to be tagged, and what came out."""

    window: Window
    settings: Settings
    outcome: _Outcome


class AdaptiveTagger:
    """Tags text with weights that are adapted to every sentence. One instance may be shared by threads.

    Args:
        bundle: a loaded bundle.
        device: where the model runs.
        config: in place of the bundle's; differs from it in `bundle.FREE_KEYS` alone.
        pool: where the bundle's source sentences are searched; here, unless something else is given.
        timed: the stages of an answer run inside of what it gives for them: encode, search, adapt, tag.

    Attributes:
        bundle: what it was made from.
        config: what it runs with.
        tags: the IOB2 tags it knows.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: torch.device,
        config: Config | None = None,
        pool: Pool | None = None,
        timed: Timed = lambda stage: nullcontext(),
    ) -> None:
        self.bundle, self.config, self.tags = bundle, config or bundle.config, bundle.tags
        self.device = device
        self._timed = timed
        self._model = bundle.model.to(device)
        self._sentence_encoder = bundle.sentence_encoder.to(device)
        self._pieces = PieceEncoder(bundle.tokenizer, max_pieces=self.config.model.max_pieces)
        source = pool or SourcePool(
            bundle.sentences,
            bundle.index,
            pieces=self._pieces,
            which=self.config.retrieval.candidates,
            place=bundle.path,
        )
        self._support = Support(
            source,
            ExamplePool(self._sentence_encoder.size),
            tags=bundle.tags,
            trunk=lambda windows: trunk_states(self._model, windows, batch_pieces=self.config.train.batch_pieces)[0],
            budget_mb=self.config.train.trunk_cache_mb,
        )
        self._cache = FactorCache(
            self._model,
            self._support.support,
            budget_mb=self.config.serve.factor_cache_mb,
            batch_pieces=self.config.train.batch_pieces,
        )
        # Kept trunk states and factors, and the model's hooks, are shared by all threads.
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        bundle: str | Path,
        *,
        device: str | torch.device = "auto",
        overrides: Sequence[str] = (),
        pool: Callable[[Bundle], Pool] | None = None,
        timed: Timed = lambda stage: nullcontext(),
    ) -> AdaptiveTagger:
        """Loads the bundle that a training run left; its linear layers are held in the type of products, see `hold_in`.

        Args:
            bundle: its directory.
            device: auto (a GPU where there is one), cpu, cuda or cuda:N; the index goes with the model.
            overrides: `key=value` settings to use in place of the bundle's; see `bundle.FREE_KEYS`.
            pool: gives the place where the bundle's source sentences are searched; they are then not loaded here.
            timed: see above.

        Raises:
            UserError: not a bundle, a file of it is missing or changed, no such device, or a setting that cannot be
                changed after training.
        """
        place = named_device(device)
        loaded = load_bundle(bundle, use_gpu="auto" if place.type == "cuda" else False, source=pool is None)
        wanted = load_config([loaded.path / FILE_NAME], overrides, alone=True)
        refuse_learned_keys(loaded.config, wanted)
        if (dtype := product_dtype(wanted.train.precision, place)) is not None:
            hold_in(loaded.model, dtype)
            hold_in(loaded.sentence_encoder, dtype)
        return cls(loaded, device=place, config=wanted, pool=pool(loaded) if pool else None, timed=timed)

    def add_examples(self, sentences: Sequence[Sentence]) -> list[list[int]]:
        """Lets further labelled sentences, in any language, shape answers from now on; theta stays as it is.

        This is the cheapest form of the paper's low-resource setting: nothing is trained. The bundle on disk does not
        change.

        Args:
            sentences: with IOB2 tags, such as `read_corpus(...).sentences`. With retrieval.candidates=with_entities,
                those without entities are passed over, as they are among the source sentences.

        Returns:
            Each sentence's windows that were added, by number, for `remove_examples`.

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
        which = self.config.retrieval.candidates
        windows = [w for w in self._pieces.windows(sentences) if may_be_support(w, sentences[w.sentence], which)]
        added: list[list[int]] = [[] for _ in sentences]
        # All vectors before the first is taken in: a failure leaves everything as it was.
        vectors = [self._vectors(run) for run in runs(windows, len, GROUP_PIECES)]
        if windows:
            candidates = [Candidate(window, sentences[window.sentence]) for window in windows]
            with self._lock:
                numbers = self._support.examples.add(candidates, np.concatenate(vectors))
            for window, number in zip(windows, numbers, strict=True):
                added[window.sentence].append(number)
        return added

    def _vectors(self, windows: Sequence[Window]) -> Vectors:
        with self._lock, self._precision():
            return self._encoded(windows)[1]

    def remove_examples(self, windows: Sequence[int]) -> None:
        """Forgets examples, by the numbers that `add_examples` gave for their windows."""
        with self._lock:
            self._support.examples.remove(windows)

    def __len__(self) -> int:
        """How many windows may be support."""
        return len(self._support)

    @property
    def example_count(self) -> int:
        """How many of these are examples."""
        return len(self._support.examples)

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
        settings = self.settings(adapt=adapt, neighbours=neighbours, inner_lr=inner_lr, explain=explain)
        return self.tag_each([(text, settings) for text in texts])

    def tag_each(self, items: Sequence[tuple[str | Sentence, Settings]]) -> list[TaggedText]:
        """Texts, or sentences whose words are known, each as it wants; all of them together in few forwards.

        Args:
            items: with settings as `settings` makes them.

        Raises:
            UserError: more neighbours than the index holds.
        """
        places: list[list[tuple[int, int]]] = []
        every: list[tuple[Sentence, Settings]] = []
        for item, settings in items:
            if isinstance(item, Sentence):
                places.append([(0, len(item.text))])
                every.append((item, settings))
            elif isinstance(item, str):
                places.append(split_sentences(item))
                every += [(sentence_from_text(item[start:end]), settings) for start, end in places[-1]]
            else:
                raise TypeError(f"found {type(item).__name__} among the texts; expected str")
        tagged = self._tag(every)
        return [
            TaggedText(
                item.text if isinstance(item, Sentence) else item,
                tuple(next(tagged) for _ in found),
                tuple(start for start, _ in found),
            )
            for (item, _), found in zip(items, places, strict=True)
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
        settings = self.settings(adapt=adapt, neighbours=neighbours, inner_lr=inner_lr, explain=explain)
        return list(self._tag((sentence, settings) for sentence in sentences))

    def probabilities(
        self,
        sentences: Sequence[Sentence],
        *,
        adapt: bool = True,
        neighbours: int | None = None,
        inner_lr: float | None = None,
    ) -> list[Tensor]:
        """Tag probabilities (W, C) of each sentence's words."""
        settings = self.settings(adapt=adapt, neighbours=neighbours, inner_lr=inner_lr)
        empty = torch.empty(0, len(self.tags))
        return [
            torch.cat([empty, *(part.outcome.chosen_WC for part in parts)])
            for group in _groups((sentence, settings) for sentence in sentences)
            for parts in self._by_sentence(group)
        ]

    def settings(
        self,
        *,
        adapt: bool = True,
        explain: bool = False,
        neighbours: int | None = None,
        inner_lr: float | None = None,
    ) -> Settings:
        """How a text is to be tagged; what is not given is the configuration's.

        Raises:
            UserError: a setting that makes no sense.
        """
        k = self.config.episodes.support_size if neighbours is None else neighbours
        lr = self.config.inner.lr if inner_lr is None else inner_lr
        if k < 1:
            raise UserError(f"neighbours={k}: at least 1 is needed; to tag without adaptation, say so (adapt=False)")
        if not (math.isfinite(lr) and lr >= 0):
            raise UserError(f"inner_lr={lr}: expected a number, 0 or greater")
        return Settings(adapt, explain, k, lr)

    def _tag(self, sentences: Iterable[tuple[Sentence, Settings]]) -> Iterator[TaggedSentence]:
        for group in _groups(sentences):
            for (sentence, settings), parts in zip(group, self._by_sentence(group), strict=True):
                yield self._tagged(sentence, [(part.window, part.outcome) for part in parts], settings)

    def _by_sentence(self, group: Sequence[tuple[Sentence, Settings]]) -> list[list[_Part]]:
        """Each sentence's windows with what came out of them."""
        by_sentence: list[list[_Part]] = [[] for _ in group]
        every = [_Part(w, group[w.sentence][1], _Outcome()) for w in self._pieces.windows([s for s, _ in group])]
        for part in every:
            by_sentence[part.window.sentence].append(part)
        for run in runs(every, lambda part: len(part.window), GROUP_PIECES):
            self._fill(run)
        return by_sentence

    def _fill(self, parts: Sequence[_Part]) -> None:
        """Finds the outcomes of windows that are tagged together."""
        adapted = [part for part in parts if part.settings.adapt]
        others = [part for part in parts if not part.settings.adapt]
        with self._lock, self._precision():
            if adapted:
                states, vectors_BH = self._encoded([part.window for part in adapted])
                with self._timed("search"):
                    self._search(adapted, vectors_BH)
                for lr in sorted({part.settings.inner_lr for part in adapted}):
                    same = [i for i, part in enumerate(adapted) if part.settings.inner_lr == lr]
                    found = self._tag_windows([adapted[i] for i in same], [states[i] for i in same], inner_lr=lr)
                    for i, found_WC in zip(same, found, strict=True):
                        adapted[i].outcome.adapted_WC = found_WC
                explained = [i for i, part in enumerate(adapted) if part.settings.explain]
                plain = self._tag_windows([adapted[i] for i in explained], [states[i] for i in explained])
                for i, found_WC in zip(explained, plain, strict=True):
                    adapted[i].outcome.plain_WC = found_WC
            if others:
                with self._timed("encode"):
                    states, _ = trunk_states(
                        self._model, [p.window for p in others], batch_pieces=self.config.train.batch_pieces
                    )
                for part, found_WC in zip(others, self._tag_windows(others, states), strict=True):
                    part.outcome.plain_WC = found_WC

    def _encoded(self, windows: Sequence[Window]) -> tuple[list[Tensor], Vectors]:
        """Trunk states of windows, and their unit vectors (B, H)."""
        with self._timed("encode"):
            states, vectors_BH = trunk_states(
                self._model,
                windows,
                batch_pieces=self.config.train.batch_pieces,
                sentence_encoder=self._sentence_encoder,
            )
            assert vectors_BH is not None
            return states, vectors_BH.float().cpu().numpy()

    def _search(self, parts: Sequence[_Part], vectors_BH: Vectors) -> None:
        most = max(part.settings.neighbours for part in parts)
        for part, row in zip(parts, self._support.search(vectors_BH, most), strict=True):
            part.outcome.neighbours = row[: part.settings.neighbours]
        shown = [part.outcome for part in parts if part.settings.explain]
        found = iter(self._support.candidates([n.number for outcome in shown for n in outcome.neighbours]))
        for outcome in shown:
            outcome.candidates = [next(found) for _ in outcome.neighbours]

    def _tag_windows(
        self, parts: Sequence[_Part], states: Sequence[Tensor], *, inner_lr: float | None = None
    ) -> list[Tensor]:
        """Tag probabilities of each window, by theta or, with `inner_lr`, by weights adapted to its neighbours."""
        adaptation = None
        if inner_lr is not None:
            inner = inner_loop(self.config.inner, max_weight=self.config.inner.adapt_max_weight)
            rows = [part.outcome.neighbours for part in parts]
            adaptation = Adaptation(
                [[neighbour.number for neighbour in row] for row in rows],
                [sum(neighbour.pieces for neighbour in row) for row in rows],
                partial(self._fast_weights, inner=replace(inner, lr=inner_lr)),
            )
        return tag_windows(
            self._model,
            [part.window for part in parts],
            states,
            batch_pieces=self.config.train.batch_pieces,
            adaptation=adaptation,
            timed=self._timed,
        )

    def _fast_weights(self, rows: Sequence[Sequence[int]], *, inner: InnerLoop) -> FastWeights:
        if self._cache.serves(inner):
            return self._cache.fast_weights(rows, inner_lr=inner.lr, normalized=inner.normalized)
        return adapt(self._model, pack(self._support.support(rows)), inner)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        # Not inference mode: adaptation takes gradients through these states.
        with torch.no_grad(), autocast(self.config.train.precision, self.device):
            yield

    def _tagged(
        self, sentence: Sentence, parts: Sequence[tuple[Window, _Outcome]], settings: Settings
    ) -> TaggedSentence:
        shared = [flag for window, _ in parts for flag in _shared(window)]
        tags, found = self._decoded(sentence, [outcome.chosen_WC for _, outcome in parts], shared)
        adapted = any(outcome.neighbours for _, outcome in parts)
        tagged = TaggedSentence(sentence, tags, found, len(parts), adapted)
        if not settings.explain:
            return tagged
        plain = [outcome.plain_WC for _, outcome in parts if outcome.plain_WC is not None]
        plain_tags, plain_found = self._decoded(sentence, plain, shared)
        support = [
            _support_sentence(w, neighbour, c.sentence)
            for w, (_, outcome) in enumerate(parts)
            for neighbour, c in zip(outcome.neighbours, outcome.candidates, strict=True)
        ]
        return replace(tagged, support=tuple(support), plain_tags=plain_tags, plain_entities=plain_found)

    def _decoded(
        self, sentence: Sentence, parts: Sequence[Tensor], shared: Sequence[bool]
    ) -> tuple[tuple[str, ...], tuple[TaggedEntity, ...]]:
        if not parts:
            return (), ()
        tags, spans = decode(torch.cat(list(parts)), self.tags, shared)
        return tuple(tags), tuple(entity_in(sentence, Entity(s.type, s.start, s.end), s.score) for s in spans)


def _support_sentence(window: int, found: Neighbour, sentence: Sentence) -> SupportSentence:
    labels = labels_of(sentence)
    return SupportSentence(window, found.similarity, sentence.text, labels, sentence.place, found.number)


def _groups(sentences: Iterable[tuple[Sentence, Settings]]) -> Iterator[list[tuple[Sentence, Settings]]]:
    """Sentences in groups of bounded size."""
    group: list[tuple[Sentence, Settings]] = []
    characters = 0
    for sentence, settings in sentences:
        if group and (len(group) == GROUP_SENTENCES or characters + len(sentence.text) > GROUP_CHARACTERS):
            yield group
            group, characters = [], 0
        group.append((sentence, settings))
        characters += len(sentence.text)
    if group:
        yield group


def _shared(window: Window) -> list[bool]:
    """Whether each scored word has no piece of its own: it is read where the word before it is."""
    first = window.scored[0] - window.start
    pieces = window.first_pieces
    return [i > 0 and pieces[i] == pieces[i - 1] for i in range(first, first + len(window.scored_pieces()))]


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
