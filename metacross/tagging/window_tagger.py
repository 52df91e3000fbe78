"""Tagging many windows, each by its own fast weights or all by theta.

Shapes: T word pieces, W words, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from metacross.algorithm import THETA, tag
from metacross.encoder.device import padding_slack
from metacross.encoder.model import TagModel
from metacross.encoder.rows import budgeted, pack
from metacross.encoder.windows import Window
from metacross.tagging.adaptation import Adaptation

Timed = Callable[[str], AbstractContextManager[None]]


def tag_windows(
    model: TagModel,
    windows: Sequence[Window],
    states: Sequence[Tensor],
    *,
    batch_pieces: int,
    adaptation: Adaptation | None = None,
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
        tick: is told how many are done.
        timed: the stages "adapt" and "tag" run inside of what it gives for them.
    """
    out: list[Tensor] = [torch.empty(0)] * len(windows)
    lengths = [len(window) for window in windows]
    adapted = [i for i in range(len(windows)) if adaptation is not None and adaptation.rows[i]]
    if adaptation is not None:
        lengths = [length + pieces for length, pieces in zip(lengths, adaptation.pieces, strict=True)]
    for part in (sorted(set(range(len(windows))) - set(adapted)), adapted):
        for run in budgeted(
            lengths, sorted(part, key=lambda i: (lengths[i], i)), batch_pieces, padding_slack(model.device)
        ):
            fast_weights = THETA
            if adaptation is not None and part is adapted:
                with timed("adapt"):
                    fast_weights = adaptation.fast_weights([adaptation.rows[i] for i in run])
            with timed("tag"):
                query = pack([[(states[i], torch.empty(len(windows[i]), dtype=torch.long))] for i in run])
                probabilities_ETC = tag(model, query, fast_weights).cpu()
            for row, i in enumerate(run):
                out[i] = probabilities_ETC[row, list(windows[i].scored_pieces())]
            if tick is not None:
                tick(len(run))
    return out
