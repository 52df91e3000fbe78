"""Meta-batches to time: random pieces, or the sentences of a corpus with their true lengths.

Shapes: E episodes, K support sentences of each, T word pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification, PreTrainedModel

from metacross.corpora.reader import read_corpus
from metacross.corpora.refusals import require_entities
from metacross.corpora.sentence import Sentence
from metacross.encoder import attention
from metacross.encoder.embedded import embedded_encoder
from metacross.encoder.loading import load_classifier
from metacross.encoder.model import TagModel
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import IGNORED, PieceEncoder, Window
from metacross.errors import UserError
from metacross.retrieval.index import VectorIndex
from metacross.retrieval.source import Source, neighbours_of_itself, tag_set
from metacross.training.episodes import EpisodeSource

RANDOM_TAGS = ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")
FROZEN_LAYERS = 4
RANDOM_ENCODERS: dict[str, tuple[dict[str, Any], int]] = {  # BERT sizes and frozen layers
    "bert-base": ({"vocab_size": 30522}, FROZEN_LAYERS),
    "tiny": (
        {
            "vocab_size": 500,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 64,
        },
        1,
    ),
}
MAX_PIECES = 128
TRUNK_CACHE_MB = 1024  # only while neighbours are looked up
BATCH_PIECES = 2048


@dataclass(frozen=True)
class Example:
    """One labelled sentence as word pieces."""

    window: Window
    piece_ids_T: Tensor
    tag_ids_T: Tensor

    def __len__(self) -> int:
        return len(self.piece_ids_T)


@dataclass(frozen=True)
class MetaBatch:
    """E episodes: K support sentences and one query each."""

    support_EK: tuple[tuple[Example, ...], ...]
    query_E: tuple[Example, ...]

    def pieces(self) -> tuple[int, int]:
        """Word pieces of all support sentences and of all queries."""
        return sum(len(x) for row in self.support_EK for x in row), sum(map(len, self.query_E))


def example(piece_ids: Sequence[int], tag_ids_T: Tensor) -> Example:
    """An example of given pieces."""
    window = Window(0, tuple(piece_ids), (), 0, (0, 0))
    return Example(window, torch.tensor(window.piece_ids), tag_ids_T)


def random_example(length: int, *, vocabulary: int, tags: int, generator: torch.Generator) -> Example:
    """Random pieces and tags; the ends, and 3 in 10 of the pieces between them, carry no tag, as later pieces do."""
    piece_ids_T = torch.randint(0, vocabulary, (length,), generator=generator)
    tag_ids_T = torch.randint(0, tags, (length,), generator=generator)
    tag_ids_T[torch.rand(length, generator=generator) < 0.3] = IGNORED
    tag_ids_T[0] = tag_ids_T[-1] = IGNORED
    tag_ids_T[1] = 0
    return example(piece_ids_T.tolist(), tag_ids_T)


def random_batches(
    count: int, *, episodes: int, support_size: int, pieces: int, vocabulary: int, seed: int
) -> list[MetaBatch]:
    """Meta-batches of sentences of `pieces` random pieces each."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Example:
        return random_example(pieces, vocabulary=vocabulary, tags=len(RANDOM_TAGS), generator=generator)

    return [
        MetaBatch(
            tuple(tuple(draw() for _ in range(support_size)) for _ in range(episodes)),
            tuple(draw() for _ in range(episodes)),
        )
        for _ in range(count)
    ]


def corpus_batches(
    path: Path,
    count: int,
    *,
    encoder: str,
    vocabulary: int,
    episodes: int,
    support_size: int,
    neighbours: str,
    sentences: int,
    seed: int,
) -> tuple[list[MetaBatch], tuple[str, ...]]:
    """Meta-batches as training would form them (episodes.py) out of a corpus, unmasked; and its tag set.

    Args:
        path: any corpus that metacross reads.
        count: how many; they are the first of a run with this seed.
        encoder: whose tokenizer cuts the sentences. `bert-base` and `tiny` have random weights and no tokenizer: they
            take the embedded encoder's pieces, modulo their own vocabulary (lengths are true, ids mean nothing).
        vocabulary: of the model that is timed.
        episodes: E.
        support_size: K.
        neighbours: `retrieval` by the embedded encoder (or the given one), or `random` others.
        sentences: of the corpus that take part, drawn at random; looking up neighbours takes time for each.
        seed: of the sentences, the random neighbours and the episodes.
    """
    corpus = read_corpus(path)
    require_entities(corpus)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(corpus.sentences))[:sentences])
    chosen = [corpus.sentences[i] for i in drawn]
    if len(chosen) <= support_size:
        raise UserError(f"{path}: {len(chosen)} sentences are too few for episodes of {support_size} others")
    tags = tag_set(corpus.sentences)
    encoder_path = _tokenizer_path(encoder)
    pieces = PieceEncoder(AutoTokenizer.from_pretrained(encoder_path), max_pieces=MAX_PIECES)
    windows = pieces.windows(chosen)
    if neighbours == "retrieval":
        neighbours_MK = _retrieved(encoder_path, chosen, tags, pieces, support_size)
    else:
        offsets_MK = np.stack([1 + rng.permutation(len(windows) - 1)[:support_size] for _ in windows])
        neighbours_MK = (np.arange(len(windows))[:, None] + offsets_MK) % len(windows)
    source = EpisodeSource(windows, chosen, neighbours_MK, seed=seed, meta_batch_size=episodes, mask_ratio=0.0)
    tag_index = {tag: i for i, tag in enumerate(tags)}

    def read(i: int) -> Example:
        ids_T = torch.full((len(windows[i]),), IGNORED)
        for word, piece in zip(range(*windows[i].scored), windows[i].scored_pieces(), strict=True):
            ids_T[piece] = tag_index[(chosen[windows[i].sentence].tags or ())[word]]
        return example([p % vocabulary for p in windows[i].piece_ids], ids_T)

    batches = []
    for step in range(count):
        batch = source.meta_batch(step)
        support_EK = tuple(tuple(read(i) for i in e.support) for e in batch)
        batches.append(MetaBatch(support_EK, tuple(read(e.query) for e in batch)))
    return batches, tags


def make_classifier(encoder: str, tags: Sequence[str], *, seed: int) -> tuple[PreTrainedModel, int]:
    """The tagger to be timed, and how many of its layers are frozen.

    Args:
        encoder: `bert-base` and `tiny` with random weights, `embedded`, or the directory of an encoder.
        tags: of its head.
        seed: of random weights.
    """
    if encoder not in RANDOM_ENCODERS:
        return load_classifier(_tokenizer_path(encoder), tags, seed=seed), FROZEN_LAYERS
    sizes, frozen = RANDOM_ENCODERS[encoder]
    torch.manual_seed(seed)
    sizes = {**sizes, "num_labels": len(tags), "attn_implementation": attention.NAME}
    return BertForTokenClassification(BertConfig(**sizes)), frozen


def vocabulary_of(encoder: str) -> int:
    """Word pieces that the encoder's embeddings know."""
    if encoder in RANDOM_ENCODERS:
        return int(RANDOM_ENCODERS[encoder][0]["vocab_size"])
    return len(AutoTokenizer.from_pretrained(_tokenizer_path(encoder)))


def _tokenizer_path(encoder: str) -> str | Path:
    return embedded_encoder() if encoder in (*RANDOM_ENCODERS, "embedded") else encoder


def _retrieved(
    encoder_path: str | Path, sentences: Sequence[Sentence], tags: Sequence[str], pieces: PieceEncoder, k: int
) -> NDArray[np.int64]:
    model = TagModel(load_classifier(encoder_path, tags, seed=0), frozen_layers=4)
    encoder = SentenceEncoder(model, layer=len(model.layers), pooling="mean")
    source = Source(sentences, tags, pieces=pieces, model=model, budget_mb=TRUNK_CACHE_MB, batch_pieces=BATCH_PIECES)
    vectors_MH = source.vectors(encoder)
    return neighbours_of_itself(source, VectorIndex(vectors_MH, use_gpu=False), vectors_MH, k)
