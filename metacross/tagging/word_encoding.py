"""Labelled windows to labelled words: the vectors of their words, by theta, and the tags that people gave.

Shapes: M labelled words, W words, H vector size, T word pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metacross.algorithm import tag_with_states
from metacross.encoder.device import padding_slack
from metacross.encoder.model import TagModel
from metacross.encoder.rows import budgeted, pack
from metacross.encoder.windows import IGNORED, Window, tag_ids
from metacross.retrieval.index import Vectors
from metacross.retrieval.labelled_words import EncodedWords
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
    """Each window's labelled words. Words that a machine labelled are left out: they do not vote (docs/decisions.md).

    Args:
        model: theta.
        candidates: the windows with their labelled sentences.
        numbers: the windows'.
        states: the windows' trunk states (T, H).
        tag_index: tag -> tag id.
        batch_pieces: word pieces of one forward.
    """
    none = np.empty(0, dtype=np.int64)
    found = [EncodedWords(np.empty((0, states_TH.shape[1]), np.float32), none, none) for states_TH in states]
    lengths = [len(candidate.window) for candidate in candidates]
    by_people = [i for i, candidate in enumerate(candidates) if candidate.sentence.machine is None]
    order = sorted(by_people, key=lambda i: (lengths[i], i))
    for run in budgeted(lengths, order, batch_pieces, padding_slack(model.device)):
        rows = pack([[(states[i], torch.empty(lengths[i], dtype=torch.long))] for i in run])
        _, layer_states = tag_with_states(model, rows)
        vectors = word_vectors(layer_states, [candidates[i].window for i in run])
        for i, vectors_WH in zip(run, vectors, strict=True):
            window, sentence = candidates[i].window, candidates[i].sentence
            tag_ids_W = tag_ids(window, sentence, tag_index)[list(window.scored_pieces())].numpy()
            tag_ids_M = tag_ids_W[tag_ids_W != IGNORED]
            vectors_MH = vectors_WH[tag_ids_W != IGNORED]
            found[i] = EncodedWords(vectors_MH, tag_ids_M, np.full_like(tag_ids_M, numbers[i]))
    return found


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
