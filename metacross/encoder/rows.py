"""Windows in rows: running the frozen trunk once per window, and packing its states side by side.

Shapes: B rows, T word pieces, H hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from metacross.encoder.device import padding_slack
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import IGNORED, Window

# Rows are padded to multiples of this. The CPU library caches a kernel per shape, so there should be few shapes.
PIECE_STEP = 8


def budgeted(
    lengths: Sequence[int],
    order: Sequence[int],
    budget: int,
    slack: float = math.inf,
    besides: Sequence[int] | None = None,
) -> Iterator[list[int]]:
    """Cuts `order` into runs whose padded size (rows * longest) stays within `budget`. A run has at least one row.

    Args:
        lengths: of all rows, in word pieces.
        order: numbers of the rows, in the order they are to run.
        budget: word pieces that a run may have, padding included.
        slack: word pieces of padding that a run may have; see `device.padding_slack`.
        besides: word pieces that come with each row, in rows of their own; they count for the budget only.
    """
    run: list[int] = []
    longest = real = most_besides = 0
    for i in order:
        length, own_besides = padded_length(lengths[i]), padded_length(besides[i]) if besides else 0
        size = max(longest, length) * (len(run) + 1)
        all_ = size + max(most_besides, own_besides) * (len(run) + 1)
        if run and (all_ > budget or size - real - length > slack):
            yield run
            run, longest, real, most_besides = [], 0, 0, 0
        run.append(i)
        longest, most_besides = max(longest, length), max(most_besides, own_besides)
        real += length
    if run:
        yield run


def forwards(
    model: TagModel,
    lengths: Sequence[int],
    order: Sequence[int],
    budget: int,
    besides: Sequence[int] | None = None,
) -> Iterator[list[list[int]]]:
    """Cuts `order` into forwards, and each into groups of rows that are padded to the same length.

    Arguments as for `budgeted`. A model that is not fused has one group in each forward.
    """
    slack = padding_slack(model.device, fused=model.fused)
    if not model.fused:
        yield from ([run] for run in budgeted(lengths, order, budget, slack, besides))
        return
    for run in budgeted(lengths, order, budget, besides=besides):
        yield list(budgeted(lengths, run, budget, slack))


@torch.no_grad()
def trunk_states(
    model: TagModel,
    windows: Sequence[Window],
    *,
    batch_pieces: int,
    sentence_encoder: SentenceEncoder | None = None,
    tick: Callable[[int], None] | None = None,
) -> tuple[list[Tensor], Tensor | None]:
    """Runs windows through the trunk, sorted by length so that there is little padding.

    Args:
        model: whose trunk runs.
        windows: the windows.
        batch_pieces: word pieces of one forward, padding included.
        sentence_encoder: makes the windows' vectors, if they are wanted.
        tick: called after each forward with the number of windows in it.

    Returns:
        The states (T, H) of every window, and with a `sentence_encoder` the windows' unit vectors (B, H), else None.
    """
    states: list[Tensor | None] = [None] * len(windows)
    vectors: list[Tensor | None] = [None] * len(windows)
    lengths = [len(window) for window in windows]
    order = sorted(range(len(windows)), key=lengths.__getitem__)
    for groups in forwards(model, lengths, order, batch_pieces):
        laid_out = [_laid_out([windows[i] for i in group], model.device) for group in groups]
        for group, (piece_ids_BT, segments_BT), hidden_BTH in zip(
            groups, laid_out, model.trunks(laid_out), strict=True
        ):
            if sentence_encoder is not None:
                positions_BT = torch.arange(piece_ids_BT.shape[1], device=model.device) * segments_BT
                vectors_BH = sentence_encoder.vectors(
                    Rows(hidden_BTH, segments_BT, positions_BT, segments_BT, sentences=1)
                )
                for row, i in enumerate(group):
                    vectors[i] = vectors_BH[row]
            for row, i in enumerate(group):
                states[i] = hidden_BTH[row, : lengths[i]].clone()
            if tick is not None:
                tick(len(group))
    stacked = torch.stack([v for v in vectors if v is not None]) if sentence_encoder and windows else None
    return [state for state in states if state is not None], stacked


def _laid_out(windows: Sequence[Window], device: torch.device) -> tuple[Tensor, Tensor]:
    """Piece ids and segments (B, T) of windows, one a row."""
    piece_ids_BT = torch.zeros((len(windows), padded_length(max(map(len, windows)))), dtype=torch.long)
    segments_BT = torch.zeros_like(piece_ids_BT)
    for row, window in enumerate(windows):
        piece_ids_BT[row, : len(window)] = torch.tensor(window.piece_ids)
        segments_BT[row, : len(window)] = 1
    return piece_ids_BT.to(device), segments_BT.to(device)


def pack(groups: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> Rows:
    """Packs sentences into rows.

    Args:
        groups: for each row its sentences: trunk states (T, H) and tag ids (T,).

    Returns:
        One row per group, its sentences side by side, padded at the end.
    """
    lengths = [sum(len(hidden_TH) for hidden_TH, _ in group) for group in groups]
    longest = padded_length(max(lengths))
    first_TH = groups[0][0][0]
    hidden_BTH = first_TH.new_zeros((len(groups), longest, first_TH.shape[1]))
    segments_BT = torch.zeros((len(groups), longest), dtype=torch.long)
    positions_BT = torch.zeros_like(segments_BT)
    tag_ids_BT = torch.full_like(segments_BT, IGNORED)
    for row, group in enumerate(groups):
        at = 0
        for number, (hidden_TH, tag_ids_T) in enumerate(group, 1):
            columns = slice(at, at := at + len(hidden_TH))
            hidden_BTH[row, columns] = hidden_TH
            segments_BT[row, columns] = number
            positions_BT[row, columns] = torch.arange(len(hidden_TH))
            tag_ids_BT[row, columns] = tag_ids_T
    device = first_TH.device
    sentences = max(map(len, groups))
    return Rows(hidden_BTH, segments_BT.to(device), positions_BT.to(device), tag_ids_BT.to(device), sentences)


def padded_length(length: int) -> int:
    """The length that a row of so many pieces is padded to."""
    return -(-length // PIECE_STEP) * PIECE_STEP
