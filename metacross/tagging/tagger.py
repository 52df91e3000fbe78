"""The tagger that adapts itself to every sentence: look up its nearest labelled sentences, adapt, tag.

No Ray: this is what users call, what `metacross evaluate` and `metacross tag` run, and what the service wraps.

Shapes: W words, C tags, K neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from metacross.bundle import Bundle, load_bundle, refuse_learned_keys
from metacross.config import Config
from metacross.config_loading import FILE_NAME, load_config
from metacross.corpora.arguments import refuse_no_sentences, refuse_no_texts
from metacross.corpora.schemes import types_of
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import hold_in, named_device, product_dtype
from metacross.encoder.rows import trunk_states
from metacross.encoder.windows import PieceEncoder, Window
from metacross.errors import UserError
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import Candidate, ExamplePool, Pool, SourcePool
from metacross.retrieval.support import SupportLookup
from metacross.sequences import groups
from metacross.tagging.adaptation import Timed
from metacross.tagging.answers import TaggedSentence, TaggedText
from metacross.tagging.assembly import tagged_sentences
from metacross.tagging.cut_texts import CutTexts, Item, sentences_of, tagged_texts
from metacross.tagging.decoding import tagged_words
from metacross.tagging.factor_cache import CacheFigures
from metacross.tagging.huggingface import entity_keys, explained_entities
from metacross.tagging.tag_sequences import TagChains
from metacross.tagging.window_tagger import GROUP_PIECES, Settings, TaggedWindow, WindowTagger

# What is held in memory at a time: texts are taken in groups of sentences, and windows in groups of word pieces.
GROUP_SENTENCES = 256
GROUP_CHARACTERS = 1 << 16


class AdaptiveTagger:
    """Tags text with weights that are adapted to every sentence. One instance may be shared by threads.

    Args:
        bundle: a loaded bundle.
        device: where the model runs.
        config: in place of the bundle's; differs from it in `bundle.FREE_KEYS` alone.
        pool: where the bundle's source sentences are searched; in this process, unless something else is given.
        timed: called with a stage's name (encode, search, adapt, tag); returns a context manager that times it.

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
        model, sentence_encoder = bundle.model.to(device), bundle.sentence_encoder.to(device)
        self._pieces = PieceEncoder(bundle.tokenizer, max_pieces=self.config.model.max_pieces)
        if pool is None:  # an empty one is a pool, too
            which = self.config.retrieval.candidates
            pool = SourcePool(bundle.sentences, bundle.index, pieces=self._pieces, which=which, place=bundle.path)
        self._support = SupportLookup(
            pool,
            ExamplePool(sentence_encoder.size),
            tags=bundle.tags,
            trunk=lambda windows: trunk_states(model, windows, batch_pieces=self.config.train.batch_pieces)[0],
            budget_mb=self.config.train.trunk_cache_mb,
        )
        self._windows = WindowTagger(
            model, sentence_encoder, self._support, tags=bundle.tags, config=self.config, timed=timed
        )
        if bundle.words is not None:
            self._windows.add_words(bundle.words)

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
            pool: makes the pool in which the bundle's source sentences are searched; they are then not loaded here.
            timed: called with a stage's name; returns a context manager that times it.

        Raises:
            UserError: not a bundle, a file of it is missing or changed, no such device, or a setting that cannot be
                changed after training.
        """
        place = named_device(device)
        loaded = load_bundle(bundle, use_gpu="auto" if place.type == "cuda" else False, source=pool is None)
        wanted = load_config([loaded.path / FILE_NAME], overrides, alone=True)
        refuse_learned_keys(loaded.config, wanted)
        loaded.model.choose_inner_layers(wanted.inner.layers)
        loaded.model.fuse()
        if (dtype := product_dtype(wanted.train.precision, place)) is not None:
            hold_in(loaded.model, dtype)
            hold_in(loaded.sentence_encoder, dtype)
        return cls(loaded, device=place, config=wanted, pool=pool(loaded) if pool else None, timed=timed)

    def add_examples(self, sentences: Sequence[Sentence]) -> list[list[int]]:
        """Lets further labelled sentences, in any language, shape answers from now on; theta stays as it is.

        This is the cheapest form of the paper's low-resource setting: nothing is trained. Sentences may become support,
        and their words vote on the tags of similar words (`retrieval.labelled_words`). The bundle on disk does not
        change.

        Args:
            sentences: with IOB2 tags, such as `read_corpus(...).sentences`. With retrieval.candidates=with_entities,
                those without entities cannot become support, as among the source sentences, but their words vote.

        Returns:
            Each sentence's windows that were added, by number, for `remove_examples`.

        Raises:
            TypeError: what was given are no sentences.
            UserError: a sentence without tags, or with a tag that the tagger does not know; nothing was added.
        """
        refuse_no_sentences(sentences)
        for number, sentence in enumerate(sentences, 1):
            unknown = sorted(set(sentence.tags or ("",)) - set(self.tags)) if sentence.words else []
            if unknown:
                raise UserError(
                    f"{sentence.place or f'example {number}'}: "
                    + (f"tag {unknown[0]} is not one of {', '.join(self.tags)}" if unknown[0] else "it has no tags")
                )
        candidates = [Candidate(window, sentences[window.sentence]) for window in self._pieces.windows(sentences)]
        # All are encoded before the first is taken in: a failure leaves everything as it was.
        in_groups = groups(candidates, size=lambda candidate: len(candidate.window), most=GROUP_PIECES)
        encoded = [self._windows.encode_examples(group) for group in in_groups]
        added: list[list[int]] = [[] for _ in sentences]
        for part in encoded:
            for candidate, number in zip(part.candidates, self._windows.add_examples(part), strict=True):
                added[candidate.window.sentence].append(number)
        return added

    def vectors(self, windows: Sequence[Window]) -> Vectors:
        """The unit vectors (B, H) by which windows are looked up."""
        return self._windows.encode(windows)[1]

    def remove_examples(self, windows: Sequence[int]) -> None:
        """Forgets examples, by the numbers that `add_examples` gave for their windows."""
        self._windows.remove_examples(windows)

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
        return self._windows.cache_figures

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types it knows."""
        return types_of(self.tags)

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
            TypeError: what was given are no texts.
            UserError: more neighbours than the index holds, or a setting that makes no sense.
        """
        refuse_no_texts(texts, or_one=True)
        several = [texts] if isinstance(texts, str) else texts
        tagged = self.tag_texts(several, adapt=adapt, neighbours=neighbours, inner_lr=inner_lr, explain=explain)
        found = [
            explained_entities(text) if explain else [entity_keys(entity) for entity in text.entities()]
            for text in tagged
        ]
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
        """Several raw texts with the sentences found in them; arguments and errors as for a call."""
        refuse_no_texts(texts, or_one=False)
        settings = self.settings(adapt=adapt, neighbours=neighbours, inner_lr=inner_lr, explain=explain)
        return self.tag_each([(text, settings) for text in texts])

    def tag_each(self, items: Sequence[Item]) -> list[TaggedText]:
        """Texts, or sentences whose words are known, each as it wants; all of them together in few forwards.

        Args:
            items: with settings as `settings` makes them.

        Raises:
            UserError: more neighbours than the index holds.
        """
        sentences, places = sentences_of(items)
        return tagged_texts(items, places, self._tag(sentences))

    def cut(self, items: Sequence[Item]) -> CutTexts:
        """Texts, or sentences whose words are known, cut into windows, of which `tag_windows` tags any at any time.

        Args:
            items: with settings as `settings` makes them.
        """
        sentences, places = sentences_of(items)
        windows = self._cut_windows(sentences)
        return CutTexts(items, sentences, places, windows, self.tags, self.bundle.score_temperature)

    def look_up(self, windows: Sequence[TaggedWindow]) -> None:
        """Looks up the neighbours of windows ahead of `tag_windows`, which costs less for many at once.

        Raises:
            UserError: more neighbours than the index holds.
        """
        self._windows.look_up(windows)

    def tag_windows(self, windows: Sequence[TaggedWindow]) -> None:
        """Tags windows of texts that `cut` has cut. Which of them are tagged together changes no answer.

        Raises:
            UserError: more neighbours than the index holds.
        """
        self._windows.tag(windows)

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
        refuse_no_sentences(sentences)
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
            torch.cat([empty, *(tagged.chosen_WC for tagged in windows)])
            for windows in self._tagged_windows(sentences, settings)
        ]

    def chains(self, sentences: Sequence[Sentence], *, adapt: bool = True) -> TagChains:
        """Sentences whose tags can be decoded and whose scores can be calibrated; arguments as for a call."""
        settings = self.settings(adapt=adapt)
        words = [
            tagged_words([(tagged.window, tagged.chosen_WC) for tagged in windows])
            for windows in self._tagged_windows(sentences, settings)
        ]
        return TagChains(words, self.tags)

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
            yield from tagged_sentences(
                group, self._by_sentence(group), self.tags, temperature=self.bundle.score_temperature
            )

    def _tagged_windows(self, sentences: Sequence[Sentence], settings: Settings) -> Iterator[list[TaggedWindow]]:
        """Each sentence's windows, all of them tagged with the same settings."""
        for group in _groups((sentence, settings) for sentence in sentences):
            yield from self._by_sentence(group)

    def _by_sentence(self, group: Sequence[tuple[Sentence, Settings]]) -> list[list[TaggedWindow]]:
        """Each sentence's windows, tagged."""
        windows = self._cut_windows(group)
        self._windows.tag(windows)
        by_sentence: list[list[TaggedWindow]] = [[] for _ in group]
        for tagged in windows:
            by_sentence[tagged.window.sentence].append(tagged)
        return by_sentence

    def _cut_windows(self, sentences: Sequence[tuple[Sentence, Settings]]) -> list[TaggedWindow]:
        windows = self._pieces.windows([sentence for sentence, _ in sentences])
        return [TaggedWindow(window, sentences[window.sentence][1]) for window in windows]


def _groups(sentences: Iterable[tuple[Sentence, Settings]]) -> Iterator[list[tuple[Sentence, Settings]]]:
    return groups(sentences, size=lambda pair: len(pair[0].text), most=GROUP_CHARACTERS, most_items=GROUP_SENTENCES)
