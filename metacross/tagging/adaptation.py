"""Windows tagged under fast weights of their own: what each is adapted to, and the forward that adapts and tags.

Shapes: T word pieces, W words, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from metacross.algorithm import THETA, InnerLoop, tag_with_states
from metacross.config import InnerConfig
from metacross.encoder.model import TagModel
from metacross.encoder.rows import forwards, pack
from metacross.encoder.windows import Window
from metacross.fast_weights import FastWeights
from metacross.retrieval.index import Vectors
from metacross.tagging.word_encoding import word_vectors

# The numbers of windows, their words' probabilities (W, C) and vectors (W, H) -> probabilities after the votes
Vote = Callable[[Sequence[int], Sequence[Tensor], Sequence[Vectors]], Sequence[Tensor]]
# The numbers of windows, theta' of each, their words' probabilities (W, C)
Observe = Callable[[Sequence[int], FastWeights, Sequence[Tensor]], None]
Groups = Sequence[Sequence[int]]  # numbers of windows, of each group of a forward
Found = tuple[Tensor, list[Tensor]]  # a group's tag probabilities (E, T, C), and its states after each layer
Timed = Callable[[str], AbstractContextManager[None]]  # a stage's name -> what times it


def inner_loop(config: InnerConfig, *, max_weight: float, second_order: bool = False) -> InnerLoop:
    """The inner loop of a configuration."""
    return InnerLoop(
        steps=config.steps,
        lr=config.lr,
        normalized=config.step == "normalized",
        max_weight=max_weight,
        second_order=second_order,
    )


@dataclass(frozen=True)
class Adaptation:
    """Each window's support, and how it becomes weights.

    Attributes:
        rows: a row of support sentences a window, by number; one with an empty row is tagged by theta.
        pieces: word pieces of each row.
        fast_weights: finds the weights of groups of rows, none of them empty.
        observe: called with the numbers of windows, their weights and their probabilities; None: nobody looks.
    """

    rows: Sequence[Sequence[int]]
    pieces: Sequence[int]
    fast_weights: Callable[[Sequence[Sequence[Sequence[int]]]], Sequence[FastWeights]]
    observe: Observe | None = None


def tag_windows(
    model: TagModel,
    windows: Sequence[Window],
    states: Sequence[Tensor],
    *,
    batch_pieces: int,
    adaptation: Adaptation | None = None,
    vote: Vote | None = None,
    tick: Callable[[int], None] | None = None,
    timed: Timed = lambda stage: nullcontext(),
) -> list[Tensor]:
    """Tag probabilities (W, C) of each window's scored words, on the CPU.

    With an `adaptation` every window is tagged by weights of its own, all windows of a batch in one forward; without,
    by theta. Batches are bounded by their padded pieces and formed by length; what else is in a batch changes no
    answer (up to float rounding).

    Args:
        model: theta.
        windows: to be tagged.
        states: their trunk states (T, H).
        batch_pieces: word pieces of one forward, support's included.
        adaptation: of these windows.
        vote: changes the probabilities of words by the votes of similar words; None: nobody votes.
        tick: called with the number of windows just done.
        timed: called with a stage's name, "adapt", "tag" or "words"; returns a context manager that times it.
    """
    out: list[Tensor] = [torch.empty(0)] * len(windows)
    lengths = [len(window) for window in windows]
    adapted = [i for i in range(len(windows)) if adaptation is not None and adaptation.rows[i]]
    besides = None if adaptation is None else adaptation.pieces
    for part in (sorted(set(range(len(windows))) - set(adapted)), adapted):
        # Padding of support costs little, so that groups are made by the windows' own lengths.
        order = sorted(part, key=lambda i: (lengths[i], besides[i] if besides else 0, i))
        for groups in forwards(model, lengths, order, batch_pieces, besides):
            fast_weights: Sequence[FastWeights] = [THETA] * len(groups)
            if adaptation is not None and part is adapted:
                with timed("adapt"):
                    fast_weights = adaptation.fast_weights([[adaptation.rows[i] for i in group] for group in groups])
            with timed("tag"):
                queries = [
                    pack([[(states[i], torch.empty(len(windows[i]), dtype=torch.long))] for i in group])
                    for group in groups
                ]
                found = tag_with_states(model, queries, fast_weights)
            chosen = [i for group in groups for i in group]
            answers = _by_word(groups, found, windows)
            if vote is not None:
                with timed("words"):
                    # All at once, since each vote reads all labelled words.
                    answers = vote(chosen, answers, _vectors(groups, found, windows))
            for i, own_WC in zip(chosen, answers, strict=True):
                out[i] = own_WC
            if adaptation is not None and adaptation.observe is not None and part is adapted:
                for group, weights in zip(groups, fast_weights, strict=True):
                    adaptation.observe(group, weights, [out[i] for i in group])
            if tick is not None:
                tick(len(chosen))
    return out


def _by_word(groups: Groups, found: Sequence[Found], windows: Sequence[Window]) -> Sequence[Tensor]:
    """Probabilities (W, C) of each window's scored words, on the CPU."""
    return [
        own_TC[list(windows[i].scored_pieces())]
        for group, (probabilities_ETC, _) in zip(groups, found, strict=True)
        for i, own_TC in zip(group, probabilities_ETC.cpu(), strict=True)
    ]


def _vectors(groups: Groups, found: Sequence[Found], windows: Sequence[Window]) -> list[Vectors]:
    """The vectors (W, H) of each window's scored words."""
    parts = [word_vectors(states, [windows[i] for i in own]) for own, (_, states) in zip(groups, found, strict=True)]
    return [vectors_WH for part in parts for vectors_WH in part]
