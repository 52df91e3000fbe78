"""Labelled windows to labelled words: the vectors of their words, by theta, and their tags.

Shapes: M labelled words, W words, H vector size, T word pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from metacross.algorithm import THETA, tag_with_states
from metacross.corpora.sentence import Sentence
from metacross.encoder.model import TagModel
from metacross.encoder.rows import forwards, pack
from metacross.encoder.windows import IGNORED, Window, tag_ids
from metacross.retrieval.index import Ids, Vectors
from metacross.retrieval.labelled_words import O_ID, O_WORDS, EncodedWords
from metacross.retrieval.pools import Candidate

WORD_LAYERS = 3  # the last ones, whose states make a word's vector


def encode_words(
    model: TagModel,
    candidates: Sequence[Candidate],
    numbers: Sequence[int],
    states: Sequence[Tensor],
    *,
    tag_index: Mapping[str, int],
    batch_pieces: int,
) -> list[EncodedWords]:
    """Each window's labelled words; of those that a machine labelled a choice, see `_chosen`.

    Args:
        model: theta.
        candidates: the windows with their labelled sentences.
        numbers: the windows'.
        states: the windows' trunk states (T, H).
        tag_index: tag -> tag id.
        batch_pieces: word pieces of one forward.
    """
    found: dict[int, EncodedWords] = {}
    lengths = [len(candidate.window) for candidate in candidates]
    order = sorted(range(len(candidates)), key=lambda i: (lengths[i], i))
    for groups in forwards(model, lengths, order, batch_pieces):
        rows = [pack([[(states[i], torch.empty(lengths[i], dtype=torch.long))] for i in group]) for group in groups]
        vectors: list[Vectors] = []
        for group, (_, layer_states) in zip(groups, tag_with_states(model, rows, [THETA] * len(rows)), strict=True):
            vectors += word_vectors(layer_states, [candidates[i].window for i in group])
        for i, vectors_WH in zip(chain.from_iterable(groups), vectors, strict=True):
            window, sentence = candidates[i].window, candidates[i].sentence
            tag_ids_W = tag_ids(window, sentence, tag_index)[list(window.scored_pieces())].numpy()
            chosen_W = _chosen(window, sentence, tag_ids_W)
            tag_ids_M, vectors_MH = tag_ids_W[chosen_W], vectors_WH[chosen_W]
            machine_M = np.full(len(tag_ids_M), sentence.machine is not None)
            found[i] = EncodedWords(vectors_MH, tag_ids_M, np.full_like(tag_ids_M, numbers[i]), machine_M)
    return [found[i] for i in range(len(candidates))]


def _chosen(window: Window, sentence: Sentence, tag_ids_W: Ids) -> NDArray[np.bool_]:
    """Which of a window's words may vote.

    Not those whose tag a machine was not sure of. Of a machine's O words one in O_WORDS may; which it is depends on the
    sentence and the word's place in it alone.
    """
    chosen_W: NDArray[np.bool_] = tag_ids_W != IGNORED
    if sentence.machine is not None:
        places_W = np.arange(*window.scored) + zlib.crc32(sentence.text.encode("utf-8", "surrogatepass"))
        chosen_W &= (tag_ids_W != O_ID) | (places_W % O_WORDS == 0)
    return chosen_W


def word_vectors(states: Sequence[Tensor], windows: Sequence[Window]) -> list[Vectors]:
    """Unit vectors (W, H) of each window's scored words, by which similar words are found.

    They are means of the states of a word's first piece after the last layers: those of the very last one alone say
    little else than the tag.

    Args:
        states: after each layer, (B, T, H); a row a window.
        windows: the windows.
    """
    pieces = [list(window.scored_pieces()) for window in windows]
    last = states[-WORD_LAYERS:]
    of_words = [torch.cat([layer_BTH[row, own] for row, own in enumerate(pieces)]).float() for layer_BTH in last]
    unit_WH = functional.normalize(torch.stack(of_words).mean(0), dim=1).cpu()
    return [np.asarray(part.numpy(), dtype=np.float32) for part in torch.split(unit_WH, [len(own) for own in pieces])]
