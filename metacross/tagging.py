"""Tagging many windows, each by its own fast weights or all by theta.

Shapes: T word pieces, W words, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metacross.algorithm import THETA, InnerLoop, adapt, tag
from metacross.encoding import Window
from metacross.factor_cache import FactorCache
from metacross.model import TagModel
from metacross.rows import budgeted, pack
from metacross.source import Source


def tag_windows(
    model: TagModel,
    windows: Sequence[Window],
    states: Sequence[Tensor],
    *,
    batch_pieces: int,
    source: Source | None = None,
    neighbours: Sequence[Sequence[int]] | None = None,
    inner: InnerLoop | None = None,
    cache: FactorCache | None = None,
    tick: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """Tag probabilities (W, C) of each window's scored words, on the CPU.

    With `source`, `neighbours` and `inner` every window is tagged by weights adapted to its own neighbours, all
    windows of a batch in one forward; without, by theta. A `cache` of theta's spares the backward where the inner loop
    allows it. Batches are bounded by their padded pieces and formed by
    length; what else is in a batch changes no answer (up to float rounding).
    """
    out: list[Tensor] = [torch.empty(0)] * len(windows)
    if source is None or neighbours is None or inner is None:
        lengths = [len(window) for window in windows]
    else:
        lengths = [len(w) + source.pieces(row) for w, row in zip(windows, neighbours, strict=True)]
    order = sorted(range(len(windows)), key=lambda i: (lengths[i], i))
    for run in budgeted(lengths, order, batch_pieces):
        fast_weights = THETA
        if source is not None and neighbours is not None and inner is not None:
            rows = [neighbours[i] for i in run]
            if cache is not None and cache.serves(inner):
                fast_weights = cache.fast_weights(rows, inner_lr=inner.lr, normalized=inner.normalized)
            else:
                fast_weights = adapt(model, pack(source.support(rows)), inner)
        query = pack([[(states[i], torch.empty(len(windows[i]), dtype=torch.long))] for i in run])
        probabilities_ETC = tag(model, query, fast_weights).cpu()
        for row, i in enumerate(run):
            out[i] = probabilities_ETC[row, list(windows[i].scored_pieces())]
        if tick is not None:
            tick(len(run))
    return out
