"""The words of adopted sentences that vote on the tags of similar words, encoded by the new bundle's theta.

Shapes: M words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from metacross.bundle import Bundle
from metacross.config import Config
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast
from metacross.encoder.rows import trunk_states
from metacross.encoder.windows import PieceEncoder
from metacross.retrieval.labelled_words import EncodedWords
from metacross.retrieval.pools import Candidate
from metacross.sequences import groups, spread
from metacross.tagging.word_encoding import encode_words

MOST_WORDS = 1 << 15  # of a language: 48 MiB of vectors of the embedded encoder, and a search takes as many products
GROUP_PIECES = 1 << 15  # word pieces of windows that are encoded together


@torch.no_grad()
def voting_words(
    bundle: Bundle, sentences: Sequence[Sentence], pieces: PieceEncoder, config: Config
) -> EncodedWords | None:
    """The words of adopted sentences, those of large texts from sentences spread evenly over them; None without any.

    Args:
        bundle: whose theta encodes them.
        sentences: examples and machine-labelled ones.
        pieces: cuts them into windows.
        config: how they are encoded.
    """
    chosen = [sentence for part in _by_kind(sentences) for sentence in _bounded(part)]
    candidates = [Candidate(window, chosen[window.sentence]) for window in pieces.windows(chosen)]
    tag_index, batch_pieces = {tag: i for i, tag in enumerate(bundle.tags)}, config.train.batch_pieces
    found: list[EncodedWords] = []
    with autocast(config.train.precision, bundle.model.device):
        for group in groups(candidates, size=lambda candidate: len(candidate.window), most=GROUP_PIECES):
            windows = [candidate.window for candidate in group]
            states, _ = trunk_states(bundle.model, windows, batch_pieces=batch_pieces)
            found += encode_words(bundle.model, group, states, tag_index=tag_index, batch_pieces=batch_pieces)
    if not found:
        return None
    vectors, tag_ids = zip(*found, strict=True)
    return EncodedWords(np.concatenate(vectors), np.concatenate(tag_ids))


def _by_kind(sentences: Sequence[Sentence]) -> Iterator[list[Sentence]]:
    """The sentences of each language, examples and machine-labelled ones apart."""
    kinds: dict[tuple[str, bool], list[Sentence]] = {}
    for sentence in sentences:
        machine = sentence.machine
        key = (machine.language if machine else sentence.example_of, machine is not None)
        kinds.setdefault(key, []).append(sentence)
    yield from kinds.values()


def _bounded(sentences: Sequence[Sentence]) -> list[Sentence]:
    """As many of the sentences as have about MOST_WORDS words."""
    words = sum(len(sentence.words) for sentence in sentences)
    most = max(1, MOST_WORDS * len(sentences) // max(words, 1))
    return [sentences[i] for i in spread(len(sentences), min(most, len(sentences)))]
