"""What each labelled word of the support changed in an answer, from the factors of the step.

The step theta' - theta is a sum over the support's word pieces: in a linear layer piece n adds step_n G_n A_n^T. To
first order it changes the log-probability of an entity's tags by its inner product with that log-probability's
gradient at theta, which has factors too, the layer's inputs x and the gradients g at its outputs:

    change by piece n = sum over layers and pieces t:  step_n (x_t . A_n + 1) (g_t . G_n)

This is TracIn (Pruthi et al., 2020) for one step that was really taken. LayerNorm's scales and shifts, vectors that all
pieces move together, are not taken apart and do not count here; nor do the votes of labelled words.

Shapes: R entities, E episodes, T word pieces of a window, N support pieces, I and O a layer's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from metacross.algorithm import THETA
from metacross.encoder.model import TagModel
from metacross.encoder.rows import pack
from metacross.encoder.windows import Window
from metacross.fast_weights import FastLayers, FastWeights, LowRankGradient, low_rank_gradient
from metacross.tagging.decoding import shared_pieces, tagged_words
from metacross.tagging.tag_sequences import TagChains

MOST_ENTITIES = 8  # of a window, whose influences are found: each costs a forward and a backward of the window


@dataclass(frozen=True)
class EntityInfluence:
    """What support pieces changed in the log-probability of an entity's tags.

    Attributes:
        words: the entity's (first, end), counted in the window's sentence.
        change_N: by each support piece, the support sentences' side by side; natural logarithm.
    """

    words: tuple[int, int]
    change_N: Tensor


@dataclass(frozen=True)
class SentenceInfluence:
    """What a support sentence changed in the log-probability of an entity's tags.

    Attributes:
        words: the entity's (first, end), counted in the tagged sentence.
        change: by all pieces of the support sentence's window.
        by_word: by each of its words that are in the window, by the word's number in the support sentence.
    """

    words: tuple[int, int]
    change: float
    by_word: Mapping[int, float]


def entity_influences(
    model: TagModel,
    window: Window,
    states_TH: Tensor,
    answers: Sequence[Tensor],
    *,
    tags: Sequence[str],
    fast_weights: FastWeights,
    episode: int,
) -> list[EntityInfluence]:
    """What the support changed in the entities of a window, of the first MOST_ENTITIES of them.

    Args:
        model: theta.
        window: the window.
        states_TH: its trunk states.
        answers: tag probabilities (W, C) of its scored words, one answer or several: an entity of a later one counts
            if it overlaps none of those before.
        tags: the tags that columns stand for.
        fast_weights: theta' of some windows.
        episode: which of them is this window's.
    """
    targets = _targets(window, answers, tags)[:MOST_ENTITIES]
    if not targets:
        return []
    rows = pack([[(states_TH, torch.empty(len(window), dtype=torch.long))]] * len(targets))
    with torch.enable_grad(), model.fast_layers.running(THETA, record=True) as recording:
        log_RTC = _wide(model.logits(rows)).log_softmax(2)
        of_entities = [log_RTC[row, target.pieces, target.tag_ids].sum() for row, target in enumerate(targets)]
        total = torch.stack(of_entities).sum()
    gradient = low_rank_gradient(model.fast_layers, recording, total)
    change_RN = change_by_piece(model.fast_layers, fast_weights, episode, gradient).cpu()
    at = window.scored[0]
    return [
        EntityInfluence((at + target.first, at + target.end), change_N)
        for target, change_N in zip(targets, change_RN, strict=True)
    ]


def change_by_piece(layers: FastLayers, fast_weights: FastWeights, episode: int, gradient: LowRankGradient) -> Tensor:
    """What each support piece of an episode changes in R functions (R, N), to first order, by the linear layers.

    Args:
        layers: the adapted layers.
        fast_weights: theta'.
        episode: whose support.
        gradient: of each function, at theta.
    """
    changes = []
    for name, steps in fast_weights.linears.items():
        x_RTI, g_RTO = _wide(gradient.inputs[name]), _wide(gradient.grads[name])
        for factors in steps:
            inputs_NI, grads_NO = _wide(factors.inputs_ENI[episode]), _wide(factors.grads_ENO[episode])
            with torch.autocast(x_RTI.device.type, enabled=False):
                scores_RTN = x_RTI @ inputs_NI.T
                if layers.layers[name].bias is not None:
                    scores_RTN = scores_RTN + 1
                changes.append((scores_RTN * (g_RTO @ grads_NO.T)).sum(1) * _wide(factors.step_EN[episode]))
    return torch.stack(changes).sum(0)


def by_sentence(influences: Sequence[EntityInfluence], windows: Sequence[Window]) -> list[list[SentenceInfluence]]:
    """For each support window, in their order side by side, what it changed in every entity."""
    out = []
    for window, (start, end) in zip(windows, pairwise(accumulate(map(len, windows), initial=0)), strict=True):
        ends = [*window.first_pieces[1:], len(window) - 1]
        words = [(start + first, start + end) for first, end in zip(window.first_pieces, ends, strict=True)]
        found = []
        for one in influences:
            by_word = {window.start + w: float(one.change_N[a:b].sum()) for w, (a, b) in enumerate(words)}
            found.append(SentenceInfluence(one.words, float(one.change_N[start:end].sum()), by_word))
        out.append(found)
    return out


class _Target(NamedTuple):
    """An entity: its scored words (first, end), and the tags of those that have a piece of their own, on that piece."""

    first: int
    end: int
    pieces: list[int]
    tag_ids: list[int]


def _targets(window: Window, answers: Sequence[Tensor], tags: Sequence[str]) -> list[_Target]:
    """The entities that the answers find in a window, in order."""
    pieces, shared = window.scored_pieces(), shared_pieces(window)
    chains = TagChains([tagged_words([(window, answer_WC)]) for answer_WC in answers], tags)
    found: list[_Target] = []
    for segment in chain.from_iterable(chains.segments()):
        taken = any(segment.start < other.end and other.first < segment.end for other in found)
        if segment.type == "O" or taken:
            continue
        own = [w for w in range(segment.start, segment.end) if not shared[w] or w == segment.start]
        tag_ids = [tags.index(f"{'B' if w == segment.start else 'I'}-{segment.type}") for w in own]
        found.append(_Target(segment.start, segment.end, [pieces[w] for w in own], tag_ids))
    return sorted(found)


def _wide(x: Tensor) -> Tensor:
    """In at least fp32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
