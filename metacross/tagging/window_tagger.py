"""Windows tagged by weights adapted to each of them: encoded, looked up, adapted, tagged, in batches.

The unit of adaptation is the window: a sentence that fits into the encoder is one window, a longer one has several,
each with neighbours of its own. What else is in a batch changes no answer.

Shapes: B windows, W words, C tags, H vector size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metacross.algorithm import InnerLoop, adapt
from metacross.config import Config
from metacross.encoder.device import autocast
from metacross.encoder.model import TagModel
from metacross.encoder.rows import pack, trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import Window
from metacross.fast_weights import FastWeights
from metacross.retrieval.index import Vectors
from metacross.retrieval.labelled_words import O_ID, EncodedWords, LabelledWords, Votes
from metacross.retrieval.pools import Candidate, Neighbour
from metacross.retrieval.support import SupportLookup
from metacross.sequences import groups
from metacross.tagging.adaptation import Adaptation, Timed, inner_loop, tag_windows
from metacross.tagging.factor_cache import CacheFigures, FactorCache
from metacross.tagging.influence import EntityInfluence, entity_influences
from metacross.tagging.word_encoding import encode_words

SHOWN = 3  # labelled words that are shown of those that voted on a word
GROUP_PIECES = 1 << 15  # word pieces of the windows that are held in memory at a time


@dataclass(frozen=True)
class Settings:
    """How a text is to be tagged; `AdaptiveTagger.settings` makes one that is checked.

    Attributes:
        adapt: by weights adapted to every sentence; otherwise by theta.
        explain: also without adaptation, and with the support sentences.
        neighbours: K.
        inner_lr: alpha.
        influences: with `explain`, also what each support sentence changed in each entity.
    """

    adapt: bool
    explain: bool
    neighbours: int
    inner_lr: float
    influences: bool = True


@dataclass(frozen=True)
class Encoded:
    """What a window's neighbours are looked up by, and what it is tagged from.

    Attributes:
        states_TH: its trunk states.
        vector_H: its unit vector.
    """

    states_TH: Tensor
    vector_H: Vectors


@dataclass
class TaggedWindow:
    """A window, how it is to be tagged, and what `WindowTagger` fills in.

    Attributes:
        window: of a sentence.
        settings: how to tag it.
        encoded: from when its neighbours are looked up until it is tagged.
        looked_up_in: the version of the labelled windows in which its neighbours were looked up.
        adapted_WC: tag probabilities of its scored words by adapted weights; None where it was not adapted.
        plain_WC: the same by theta; None where that was not asked for.
        neighbours: what the weights were adapted to, most similar first.
        candidates: the neighbours' labelled sentences, where they are to be shown.
        votes: of labelled words on its words, where they are to be shown; None: there were none.
        voters: the labelled windows that these words stand in, by number: of words in entities alone, see `voters_of`.
        influences: of the neighbours on its entities, where they are to be shown.
        voting: numbers of the labelled windows whose words counted on its words in entities.
        missing: numbers of the index's shards that its neighbours were not looked up in, because they did not answer.
    """

    window: Window
    settings: Settings
    encoded: Encoded | None = None
    looked_up_in: int | None = None
    adapted_WC: Tensor | None = None
    plain_WC: Tensor | None = None
    neighbours: Sequence[Neighbour] = field(default_factory=tuple)
    candidates: Sequence[Candidate] = field(default_factory=tuple)
    votes: Votes | None = None
    voters: Mapping[int, Candidate] = field(default_factory=dict)
    influences: Sequence[EntityInfluence] = ()
    voting: Sequence[int] = ()
    missing: tuple[int, ...] = ()

    @property
    def chosen_WC(self) -> Tensor:
        """The probabilities that decide."""
        chosen = self.plain_WC if self.adapted_WC is None else self.adapted_WC
        assert chosen is not None
        return chosen


@dataclass(frozen=True)
class EncodedExamples:
    """Labelled windows, ready to be added.

    Attributes:
        candidates: the windows.
        vectors_BH: their unit vectors, by which they are found.
        words: each window's words.
    """

    candidates: Sequence[Candidate]
    vectors_BH: Vectors
    words: Sequence[EncodedWords]


def voters_of(tagged: TaggedWindow) -> dict[int, list[int]]:
    """The windows whose words count most on each of a window's words, by the word's place among those that are scored.

    Only words that are likeliest in an entity, with the votes or without.
    """
    if tagged.votes is None or tagged.plain_WC is None:
        return {}
    in_entity_W = (tagged.chosen_WC.argmax(1) != O_ID) | (tagged.plain_WC.argmax(1) != O_ID)
    shown_WK, counts_WK = tagged.votes.windows_WK[:, :SHOWN], tagged.votes.counts_WK[:, :SHOWN]
    return {w: shown_WK[w][counts_WK[w] > 0].tolist() for w in in_entity_W.nonzero()[:, 0].tolist()}


class WindowTagger:
    """Tags windows, each as its settings say. One instance may be shared by threads.

    Args:
        model: theta.
        sentence_encoder: finds the vectors that windows are looked up by.
        support: what may be support.
        tags: the tag set, IOB2.
        config: precision, batch size, inner loop and memory.
        timed: called with a stage's name (encode, search, adapt, tag); returns a context manager that times it.
    """

    def __init__(
        self,
        model: TagModel,
        sentence_encoder: SentenceEncoder,
        support: SupportLookup,
        *,
        tags: Sequence[str],
        config: Config,
        timed: Timed = lambda stage: nullcontext(),
    ) -> None:
        self._model, self._sentence_encoder, self._support = model, sentence_encoder, support
        self._config, self._timed = config, timed
        self._cache = FactorCache(
            model,
            support.support,
            budget_mb=config.serve.factor_cache_mb,
            batch_pieces=config.train.batch_pieces,
        )
        self._tag_index = {tag: i for i, tag in enumerate(tags)}
        self._words = LabelledWords(model.classifier.config.hidden_size, **config.words.model_dump())
        self._words_of: dict[int, list[int]] = {}  # an example window's number -> its words' numbers
        self._version = 0  # of the labelled windows: how often examples came or went
        # Cached trunk states and factors, and the model's hooks, are shared by all threads.
        self._lock = threading.Lock()

    @property
    def cache_figures(self) -> CacheFigures:
        """How often support sentences' factors were at hand, and the memory they take."""
        return replace(self._cache.figures)

    def look_up(self, windows: Sequence[TaggedWindow]) -> None:
        """Finds the neighbours of windows that are to be adapted, ahead of `tag`, in fewer forwards and searches.

        If examples come or go before they are tagged, `tag` searches again.

        Raises:
            UserError: more neighbours than there are labelled windows.
        """
        adapted = [tagged for tagged in windows if tagged.settings.adapt]
        for group in groups(adapted, size=lambda tagged: len(tagged.window), most=GROUP_PIECES):
            with self._lock, self.precision():
                self._look_up(group)

    def tag(self, windows: Sequence[TaggedWindow]) -> None:
        """Fills in what was found in each window.

        Raises:
            UserError: more neighbours than there are labelled windows.
        """
        for group in groups(windows, size=lambda tagged: len(tagged.window), most=GROUP_PIECES):
            with self._lock, self.precision():
                self._tag_adapted([tagged for tagged in group if tagged.settings.adapt])
                self._tag_plain([tagged for tagged in group if not tagged.settings.adapt])

    def encode_examples(self, candidates: Sequence[Candidate]) -> EncodedExamples:
        """Labelled windows, ready to be added."""
        windows = [candidate.window for candidate in candidates]
        with self._lock, self.precision():
            states, vectors_BH = self.encode(windows)
            words = encode_words(
                self._model,
                candidates,
                [0] * len(candidates),  # they are numbered when they are added
                states,
                tag_index=self._tag_index,
                batch_pieces=self._config.train.batch_pieces,
            )
        return EncodedExamples(candidates, vectors_BH, words)

    def add_examples(self, examples: EncodedExamples) -> list[int]:
        """Lets labelled windows be support, and their words vote, from now on; returns the windows' numbers."""
        with self._lock:
            which = self._config.retrieval.candidates
            self._version += 1
            numbers = self._support.examples.add(examples.candidates, examples.vectors_BH, which)
            for number, words in zip(numbers, examples.words, strict=True):
                numbered = words._replace(windows_M=np.full_like(words.windows_M, number))
                self._words_of[number] = self._words.add(numbered)
        return numbers

    def remove_examples(self, numbers: Sequence[int]) -> None:
        """Forgets labelled windows that `add_examples` took in."""
        with self._lock:
            self._version += 1
            self._support.examples.remove(numbers)
            self._words.remove([word for number in numbers for word in self._words_of.pop(number)])

    def add_words(self, words: EncodedWords) -> None:
        """Lets words vote from now on, and for good."""
        with self._lock:
            self._words.add(words)

    def _tag_adapted(self, windows: Sequence[TaggedWindow]) -> None:
        if not windows:
            return
        states = [encoded.states_TH for encoded in self._look_up(windows)]
        explained = [i for i, tagged in enumerate(windows) if tagged.settings.explain]
        plain = self._probabilities([windows[i] for i in explained], [states[i] for i in explained])
        for i, found_WC in zip(explained, plain, strict=True):
            windows[i].plain_WC = found_WC
        # One learning rate at a time: the factors of a batch are scaled together.
        for lr in sorted({tagged.settings.inner_lr for tagged in windows}):
            same = [i for i, tagged in enumerate(windows) if tagged.settings.inner_lr == lr]
            found = self._probabilities([windows[i] for i in same], [states[i] for i in same], inner_lr=lr)
            for i, found_WC in zip(same, found, strict=True):
                windows[i].adapted_WC = found_WC
        self._find_voters([windows[i] for i in explained])
        for tagged in windows:
            tagged.encoded = None

    def _look_up(self, windows: Sequence[TaggedWindow]) -> list[Encoded]:
        """Encodes the windows that are not yet, and finds neighbours where that was not done among those of now."""
        new = [tagged for tagged in windows if tagged.encoded is None]
        if new:
            states, vectors_BH = self.encode([tagged.window for tagged in new])
            for tagged, states_TH, vector_H in zip(new, states, vectors_BH, strict=True):
                tagged.encoded, tagged.looked_up_in = Encoded(states_TH, vector_H), None
        encoded = [tagged.encoded for tagged in windows if tagged.encoded is not None]
        open_ = [i for i, tagged in enumerate(windows) if tagged.looked_up_in != self._version]
        if open_:
            with self._timed("search"):
                self._search([windows[i] for i in open_], np.stack([encoded[i].vector_H for i in open_]))
        return encoded

    def _tag_plain(self, windows: Sequence[TaggedWindow]) -> None:
        if not windows:
            return
        with self._timed("encode"):
            states, _ = trunk_states(
                self._model, [tagged.window for tagged in windows], batch_pieces=self._config.train.batch_pieces
            )
        for tagged, found_WC in zip(windows, self._probabilities(windows, states), strict=True):
            tagged.plain_WC = found_WC

    def encode(self, windows: Sequence[Window]) -> tuple[list[Tensor], Vectors]:
        """Trunk states of windows, and their unit vectors (B, H)."""
        with self._timed("encode"):
            states, vectors_BH = trunk_states(
                self._model,
                windows,
                batch_pieces=self._config.train.batch_pieces,
                sentence_encoder=self._sentence_encoder,
            )
            assert vectors_BH is not None
            return states, vectors_BH.float().cpu().numpy()

    def _search(self, windows: Sequence[TaggedWindow], vectors_BH: Vectors) -> None:
        most = max(tagged.settings.neighbours for tagged in windows)
        for tagged, row in zip(windows, self._support.search(vectors_BH, most), strict=True):
            tagged.neighbours = row[: tagged.settings.neighbours]
            tagged.looked_up_in = self._version
            tagged.missing = self._support.source.missing()
        explained = [tagged for tagged in windows if tagged.settings.explain]
        found = iter(self._support.candidates([n.number for tagged in explained for n in tagged.neighbours]))
        for tagged in explained:
            tagged.candidates = [next(found) for _ in tagged.neighbours]

    def _find_voters(self, windows: Sequence[TaggedWindow]) -> None:
        """Looks up the labelled sentences whose words voted on words that are in entities, or were without votes."""
        numbers = [set().union(*voters_of(tagged).values()) for tagged in windows]
        every = sorted(set().union(*numbers))
        found = dict(zip(every, self._support.candidates(every), strict=True)) if every else {}
        for tagged, own in zip(windows, numbers, strict=True):
            tagged.voters = {number: found[number] for number in own}

    def _probabilities(
        self, windows: Sequence[TaggedWindow], states: Sequence[Tensor], *, inner_lr: float | None = None
    ) -> list[Tensor]:
        """Tag probabilities of each window, by theta or, with `inner_lr`, by weights adapted to its neighbours."""
        adaptation = None
        if inner_lr:  # a step of length 0 is none
            inner = inner_loop(self._config.inner, max_weight=self._config.inner.adapt_max_weight)
            adaptation = Adaptation(
                [[neighbour.number for neighbour in tagged.neighbours] for tagged in windows],
                [sum(neighbour.pieces for neighbour in tagged.neighbours) for tagged in windows],
                partial(self._fast_weights, inner=replace(inner, lr=inner_lr)),
                observe=partial(self._find_influences, windows, states),
            )
        return tag_windows(
            self._model,
            [tagged.window for tagged in windows],
            states,
            batch_pieces=self._config.train.batch_pieces,
            adaptation=adaptation,
            # Words vote on what the examples are to shape. Plain tags are those without them.
            vote=partial(self._vote, windows) if inner_lr is not None and self._words.vote else None,
            timed=self._timed,
        )

    def _vote(
        self,
        windows: Sequence[TaggedWindow],
        chosen: Sequence[int],
        probabilities: Sequence[Tensor],
        vectors: Sequence[Vectors],
    ) -> Sequence[Tensor]:
        """Probabilities (W, C) of some of the windows after the votes, which are kept where they are to be shown."""
        before_WC = torch.cat(list(probabilities))
        votes = self._words.votes(np.concatenate(vectors), before_WC)
        lengths = [len(vectors_WH) for vectors_WH in vectors]
        blended = torch.split(votes.blended(before_WC), lengths)
        for i, own, blended_WC in zip(chosen, votes.split(lengths), blended, strict=True):
            windows[i].votes = own if windows[i].settings.explain else None
            windows[i].voting = own.heard(blended_WC.argmax(1) != O_ID, most=SHOWN)
        return blended

    def _find_influences(
        self,
        windows: Sequence[TaggedWindow],
        states: Sequence[Tensor],
        chosen: Sequence[int],
        fast_weights: FastWeights,
        probabilities: Sequence[Tensor],
    ) -> None:
        """Finds what the neighbours changed in the entities of some of the windows, where that is to be shown."""
        for episode, (i, adapted_WC) in enumerate(zip(chosen, probabilities, strict=True)):
            tagged = windows[i]
            if tagged.settings.explain and tagged.settings.influences and tagged.plain_WC is not None:
                tagged.influences = entity_influences(
                    self._model,
                    tagged.window,
                    states[i],
                    [adapted_WC, tagged.plain_WC],
                    tags=list(self._tag_index),
                    fast_weights=fast_weights,
                    episode=episode,
                )

    def _fast_weights(self, groups: Sequence[Sequence[Sequence[int]]], *, inner: InnerLoop) -> Sequence[FastWeights]:
        if self._cache.serves(inner):
            return self._cache.fast_weights_of(groups, inner_lr=inner.lr, normalized=inner.normalized)
        return [adapt(self._model, pack(self._support.support(rows)), inner) for rows in groups]

    @contextmanager
    def precision(self) -> Iterator[None]:
        """The block runs without gradients, its matrix products in the configured type."""
        # Not inference mode: adaptation takes gradients through these states.
        with torch.no_grad(), autocast(self._config.train.precision, self._model.device):
            yield
