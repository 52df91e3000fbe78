"""What has to be done before the first meta-step: from a configuration to the parts that a `Learner` works with.

Corpora are read, the encoder is loaded, the source sentences are encoded and indexed (or what `metacross index` left is
opened), development sentences are looked up, and the episodes are laid out. Every worker does all of it.

Shapes: M source windows, K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from metacross.config import Config
from metacross.corpora.from_config import read_dev, read_source
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast
from metacross.encoder.loading import LoadedEncoder, load_encoder
from metacross.errors import UserError
from metacross.events import Note, Preparation, Show
from metacross.retrieval.index import VectorIndex, factory_string
from metacross.retrieval.prepared import SourceDigest, encoder_digest, made_from, open_prepared
from metacross.retrieval.source import Source, neighbours_of_itself, tag_set
from metacross.training.dev_set import DevSet
from metacross.training.episodes import EpisodeSource
from metacross.training.team import Team

SOURCE_DEV = ""  # the source language's key among the development sets; target languages have their codes


@dataclass(frozen=True)
class Parts:
    """What a `Learner` works with.

    Attributes:
        config: the run's configuration.
        device: where the model runs.
        tags: the tag set, IOB2.
        encoder: the model and what belongs to it.
        source: the labelled source sentences.
        index: of the source windows that may be support.
        episodes: the meta-batches.
        dev_sets: by language; the source language's under `SOURCE_DEV`.
    """

    config: Config
    device: torch.device
    tags: tuple[str, ...]
    encoder: LoadedEncoder
    source: Source
    index: VectorIndex
    episodes: EpisodeSource
    dev_sets: Mapping[str, DevSet]


def prepare(config: Config, *, device: torch.device, team: Team, report: Show) -> Parts:
    """Makes the parts.

    Args:
        config: the run's configuration.
        device: where the model is to run.
        team: the workers of the run.
        report: gets `Preparation` events. What it raises ends the preparation: so a run is stopped before its first
            step.

    Raises:
        UserError: corpora, encoder or settings do not go together; the message names which and the fix.
    """
    sentences, tags, dev_sentences = _read_corpora(config, report)
    encoder = load_encoder(config, tags, device=device)
    if config.train.method == "metacross" and config.loss.mask_ratio > 0 and encoder.pieces.mask is None:
        raise UserError("this encoder's tokenizer has no mask piece: set loss.mask_ratio=0")
    with autocast(config.train.precision, device):
        source = Source(
            sentences,
            tags,
            pieces=encoder.pieces,
            model=encoder.model,
            budget_mb=config.train.trunk_cache_mb,
            batch_pieces=config.train.batch_pieces,
        )
        if config.retrieval.prepared:
            index, neighbours_MK = _open_prepared(config, source, encoder, device)
        else:
            index, neighbours_MK = _encode_source(config, source, encoder, device, report)
        dev_sets = _look_up_dev(config, dev_sentences, tags, encoder, source, index, team, report)
    episodes = EpisodeSource(
        source.windows,
        sentences,
        neighbours_MK,
        seed=config.train.seed,
        meta_batch_size=config.episodes.meta_batch_size,
        mask_ratio=0.0 if config.train.method == "base" else config.loss.mask_ratio,
    )
    return Parts(config, device, tags, encoder, source, index, episodes, dev_sets)


def _read_corpora(config: Config, report: Show) -> tuple[list[Sentence], tuple[str, ...], dict[str, list[Sentence]]]:
    """The source sentences, their tag set, and development sentences by language."""
    report(Preparation("reading corpora", done=0, total=1))

    def tell(oddity: str) -> None:
        report(Note(oddity))

    sentences = read_source(config, tell)
    tags = tag_set(sentences)
    dev = {SOURCE_DEV: read_dev(config, config.data.source_dev, config.data.source_language, tags, tell)}
    dev |= {language: read_dev(config, file, language, tags, tell) for language, file in config.data.target_dev.items()}
    report(Preparation("reading corpora", done=1, total=1))
    return sentences, tags, dev


def _encode_source(
    config: Config, source: Source, encoder: LoadedEncoder, device: torch.device, report: Show
) -> tuple[VectorIndex, NDArray[np.int64]]:
    """The index of the source windows that may be support, and each window's neighbours (M, K)."""
    retrieval = config.retrieval
    count = _counter(report, "encoding source", len(source.windows))
    vectors_MH = source.vectors(encoder.sentence_encoder, tick=count)
    candidates = source.candidates(retrieval.candidates)
    index = VectorIndex(
        vectors_MH[candidates],
        candidates,
        use_gpu=_gpu_for_index(device),
        factory=factory_string(retrieval.index, len(candidates), vectors_MH.shape[1]),
        lists_searched=retrieval.lists_searched,
    )
    return index, neighbours_of_itself(source, index, vectors_MH, config.episodes.support_size)


def _open_prepared(
    config: Config, source: Source, encoder: LoadedEncoder, device: torch.device
) -> tuple[VectorIndex, NDArray[np.int64]]:
    """What `_encode_source` returns, as `metacross index` left it; refused where it was made from something else."""
    expected = made_from(config, source=SourceDigest(source.sentences), encoder=encoder_digest(encoder))
    prepared = open_prepared(Path(config.retrieval.prepared), expected)
    neighbours_MK = prepared.neighbours(config.episodes.support_size)
    return prepared.index(use_gpu=_gpu_for_index(device)), neighbours_MK


def _look_up_dev(
    config: Config,
    dev_sentences: Mapping[str, Sequence[Sentence]],
    tags: Sequence[str],
    encoder: LoadedEncoder,
    source: Source,
    index: VectorIndex,
    team: Team,
    report: Show,
) -> dict[str, DevSet]:
    """The development sets by language."""
    count = _counter(report, "encoding dev", sum(map(len, dev_sentences.values())))
    count(0)
    dev_sets: dict[str, DevSet] = {}
    for language, sentences in dev_sentences.items():
        dev_sets[language] = DevSet(
            sentences,
            tags,
            pieces=encoder.pieces,
            model=encoder.model,
            sentence_encoder=encoder.sentence_encoder,
            source=source,
            index=index,
            support_size=config.episodes.support_size,
            batch_pieces=config.train.batch_pieces,
            team=team,
        )
        count(len(sentences))
    return dev_sets


def _gpu_for_index(device: torch.device) -> bool | str:
    """Whether FAISS may use a GPU: only where the model does, so that train.use_gpu=false keeps a run off it."""
    return False if device.type == "cpu" else "auto"


def _counter(report: Show, what: str, total: int) -> Callable[[int], None]:
    """A function that takes how many more are done, and reports how many are done altogether."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(Preparation(what, done, total))

    return count
