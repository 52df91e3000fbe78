"""The words of adopted sentences that vote on the tags of similar words, encoded by the new bundle's theta.

Shapes: M words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from metacross.bundle import Bundle
from metacross.config import Config
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast
from metacross.encoder.rows import trunk_states
from metacross.encoder.windows import PieceEncoder
from metacross.retrieval.labelled_words import O_WORDS, EncodedWords
from metacross.retrieval.pools import Candidate
from metacross.sequences import groups, spread
from metacross.tagging.window_tagger import GROUP_PIECES
from metacross.tagging.word_encoding import encode_words

# A language's words that vote, at most: 48 and 12 MiB of vectors of the embedded encoder, which a search reads.
MOST_BY_PEOPLE, MOST_BY_MACHINE = 1 << 15, 1 << 13


@torch.no_grad()
def voting_words(
    bundle: Bundle, first: int, sentences: Sequence[Sentence], pieces: PieceEncoder, config: Config
) -> EncodedWords | None:
    """The words of a bundle's adopted sentences, of many from sentences spread evenly over them; None without any.

    Of every language there are at most about MOST_BY_PEOPLE that people labelled, and MOST_BY_MACHINE others.

    Args:
        bundle: whose theta encodes them.
        first: how many source sentences there are; they stand before those of adopted languages.
        sentences: all that the new bundle will have.
        pieces: cuts them into windows.
        config: how they are encoded.
    """
    chosen = {i for part in _alike(sentences, first) for i in _bounded(part, sentences)}
    numbered = [(i, window) for i, window in enumerate(pieces.windows(sentences)) if window.sentence in chosen]
    tag_index, batch_pieces = {tag: i for i, tag in enumerate(bundle.tags)}, config.train.batch_pieces
    found: list[EncodedWords] = []
    with autocast(config.train.precision, bundle.model.device):
        for group in groups(numbered, size=lambda pair: len(pair[1]), most=GROUP_PIECES):
            found += encode_words(
                bundle.model,
                [Candidate(window, sentences[window.sentence]) for _, window in group],
                [number for number, _ in group],
                trunk_states(bundle.model, [window for _, window in group], batch_pieces=batch_pieces)[0],
                tag_index=tag_index,
                batch_pieces=batch_pieces,
            )
    return EncodedWords(*map(np.concatenate, zip(*found, strict=True))) if found else None


def _alike(sentences: Sequence[Sentence], first: int) -> Iterator[list[int]]:
    """The numbers of each language's adopted sentences, those that people labelled apart from a machine's."""
    kinds: dict[tuple[str, bool], list[int]] = {}
    for i in range(first, len(sentences)):
        machine = sentences[i].machine
        kinds.setdefault((machine.language if machine else sentences[i].example_of, machine is None), []).append(i)
    yield from kinds.values()


def _bounded(numbers: Sequence[int], sentences: Sequence[Sentence]) -> list[int]:
    """As many of these sentences, all of one kind and spread evenly, as have about as many voting words as may be."""
    by_people = sentences[numbers[0]].machine is None
    tags = Counter(tag == "O" for i in numbers for tag in sentences[i].tags or ())
    voting = tags[False] + tags[True] / (1 if by_people else O_WORDS)
    most = (MOST_BY_PEOPLE if by_people else MOST_BY_MACHINE) / max(voting, 1)
    return [numbers[i] for i in spread(len(numbers), max(1, min(len(numbers), int(most * len(numbers)))))]
