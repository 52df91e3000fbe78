"""Support factors, computed once for each support sentence and kept: with them adaptation needs no backward.

With one inner step from theta, no dropout and the mean word loss, what a support sentence adds to the gradient does not
depend on the query nor on the other support sentences, but for how much it counts:

    loss of a support set = sum_k share_k * (mean word loss of sentence k),    share_k = its words / all their words

So the set's gradient is sum_k share_k * g_k, with g_k the gradient of sentence k alone. Its factors are those of the
sentences side by side, each piece weighted with its sentence's share, and its length comes from the products of pairs:
|sum_k share_k g_k|^2 = sum_kl share_k share_l (g_k . g_l). Those are numbers, and are kept too. All this holds for one
theta. The maximum term would need a share of its own; with it, as with several inner steps, `algorithm.adapt` is used.

Shapes: E episodes, N support pieces of a row, K support sentences of a row, n pieces of one sentence, I and O a layer's
inputs and outputs, L layers that share a size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from metacross.algorithm import THETA, InnerLoop, episode_losses
from metacross.encoder.device import padding_slack
from metacross.encoder.model import TagModel
from metacross.encoder.rows import budgeted, pack, padded_length
from metacross.encoder.windows import IGNORED
from metacross.fast_weights import (
    Factors,
    FastLayers,
    FastWeights,
    LowRankGradient,
    NormShift,
    inverse_length,
    low_rank_gradient,
)

Fetch = Callable[[Sequence[Sequence[int]]], list[list[tuple[Tensor, Tensor]]]]

PAIR_BYTES = 120  # of a number in a dictionary, about


@dataclass
class CacheFigures:
    """What a cache did so far; a support sentence counts once in a call, however many episodes it is in."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    bytes: int = 0  # of what is kept now


class FactorCache:
    """Support factors under one theta; the least recently used make room. Not for threads.

    Args:
        model: holds theta, which must not change as long as the cache is in use.
        support: trunk states and tag ids of rows of support windows, by number, as `rows.pack` takes them.
        budget_mb: memory for what is kept; what one call needs at once comes on top.
        batch_pieces: word pieces of one forward.

    Attributes:
        figures: hits, misses and bytes.
    """

    def __init__(self, model: TagModel, support: Fetch, *, budget_mb: int, batch_pieces: int) -> None:
        self.figures = CacheFigures()
        self._model, self._support, self._batch_pieces = model, support, batch_pieces
        self._budget = budget_mb << 20
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._layout: _Layout | None = None

    def __len__(self) -> int:
        return len(self._kept)

    @staticmethod
    def serves(inner: InnerLoop) -> bool:
        """Whether this inner loop's step can be put together from sentences' own gradients."""
        return inner.steps == 1 and inner.max_weight == 0 and not inner.second_order

    def fast_weights(self, rows: Sequence[Sequence[int]], *, inner_lr: float, normalized: bool) -> FastWeights:
        """Theta' of every row's episode, as `algorithm.adapt` finds it with one step on the row's windows.

        Args:
            rows: each episode's support, as numbers of source windows.
            inner_lr: alpha; with `normalized` the length of a step.
            normalized: a step of fixed length.
        """
        found = self._found(sorted({i for row in rows for i in row}))
        layout = self._layout
        assert layout is not None  # something was found
        every = [[found[i] for i in row] for row in rows]
        shares = [_shares(row) for row in every]
        inputs = _side_by_side([[kept.inputs for kept in row] for row in every])
        grads = _side_by_side([[kept.grads for kept in row] for row in every])
        norms_EP = torch.stack(
            [
                torch.stack([share * kept.norms_P for share, kept in zip(part, row, strict=True)]).sum(0)
                for part, row in zip(shares, every, strict=True)
            ]
        )
        step_E = norms_EP.new_full((len(rows),), -inner_lr)
        if normalized:
            squared = [
                _squared_length(self._dots(row, every[e], inputs, grads, e), shares[e]) for e, row in enumerate(rows)
            ]
            step_E = step_E * inverse_length(norms_EP.new_tensor(squared))
        step_EN = _by_piece(every, shares, next(iter(grads.values())).shape[2]).to(step_E) * step_E[:, None]
        # One view for each factor: layers that share an input must share its tensor.
        views = {(size, at): stack_LENI[at] for size, stack_LENI in inputs.items() for at in range(len(stack_LENI))}
        linears = {
            name: (Factors(views[slot.inputs], grads[slot.grads[0]][slot.grads[1]], step_EN),)
            for name, slot in layout.slots.items()
        }
        norms_EP = norms_EP * step_E[:, None]
        norms = {
            name: NormShift(norms_EP[:, scale], None if shift is None else norms_EP[:, shift])
            for name, (scale, shift) in layout.norms.items()
        }
        self._make_room()
        return FastWeights(linears, norms)

    def _found(self, wanted: Sequence[int]) -> dict[int, _Kept]:
        """The sentences' gradients: those kept, and the others computed together."""
        found = {i: self._kept[i] for i in wanted if i in self._kept}
        for i in found:
            self._kept.move_to_end(i)
        missing = [i for i in wanted if i not in found]
        self.figures.hits += len(found)
        self.figures.misses += len(missing)
        support = [row[0] for row in self._support([[i] for i in missing])] if missing else []
        lengths = [len(hidden_TH) for hidden_TH, _ in support]
        order = sorted(range(len(missing)), key=lambda at: (lengths[at], at))
        for run in budgeted(lengths, order, self._batch_pieces, padding_slack(self._model.device)):
            for at, kept in zip(run, self._computed([support[at] for at in run]), strict=True):
                found[missing[at]] = self._kept[missing[at]] = kept
                self.figures.bytes += kept.nbytes
        return found

    def _computed(self, sentences: Sequence[tuple[Tensor, Tensor]]) -> list[_Kept]:
        """Each sentence's gradient of its own mean word loss at theta: one forward, one backward."""
        rows = pack([[sentence] for sentence in sentences])
        with torch.enable_grad(), self._model.fast_layers.running(THETA, record=True) as recording:
            loss = episode_losses(self._model.logits(rows), rows, max_weight=0).sum()
        gradient = low_rank_gradient(self._model.fast_layers, recording, loss)
        if self._layout is None:
            self._layout = _Layout(self._model.fast_layers, gradient)
        layout = self._layout
        norms_EP = torch.cat([v for pair in gradient.norms.values() for v in pair if v is not None], dim=1)
        words = (rows.tag_ids_BT != IGNORED).sum(1).tolist()
        out = []
        for e, (hidden_TH, _) in enumerate(sentences):
            n = len(hidden_TH)
            inputs = {s: _stacked(gradient.inputs, names, e, n) for s, names in layout.input_names.items()}
            grads = {s: _stacked(gradient.grads, names, e, n) for s, names in layout.grad_names.items()}
            out.append(_Kept(n, words[e], inputs, grads, norms_EP[e].clone()))
        return out

    def _dots(
        self,
        row: Sequence[int],
        kept: Sequence[_Kept],
        inputs: dict[int, Tensor],
        grads: dict[int, Tensor],
        e: int,
    ) -> list[list[float]]:
        """Products (K, K) of the gradients of a row's sentences; computed where one is not known."""
        pairs = [(min(a, b), max(a, b)) for a in row for b in row]
        owner = dict(zip(row, kept, strict=True))
        if any(high not in owner[low].dots for low, high in pairs):
            assert self._layout is not None
            pieces = sum(k.pieces for k in kept)
            dots_KK = self._layout.dots(
                kept,
                {s: t_LENI[:, e, :pieces] for s, t_LENI in inputs.items()},
                {s: t_LENO[:, e, :pieces] for s, t_LENO in grads.items()},
            )
            for a, line in zip(row, dots_KK, strict=True):
                for b, dot in zip(row, line, strict=True):
                    if a <= b and b not in owner[a].dots:
                        owner[a].dots[b] = dot
                        self.figures.bytes += PAIR_BYTES
        return [[owner[min(a, b)].dots[max(a, b)] for b in row] for a in row]

    def _make_room(self) -> None:
        while self.figures.bytes > self._budget and self._kept:
            _, dropped = self._kept.popitem(last=False)
            self.figures.bytes -= dropped.nbytes
            self.figures.evicted += 1


@dataclass
class _Kept:
    """One support sentence's gradient, of the mean over its own words."""

    pieces: int
    words: int
    inputs: dict[int, Tensor]  # by size: (L, n, I)
    grads: dict[int, Tensor]  # by size: (L, n, O)
    norms_P: Tensor  # all LayerNorms' scales and shifts
    dots: dict[int, float] = field(default_factory=dict)  # with itself and with sentences of higher numbers

    @property
    def nbytes(self) -> int:
        tensors = [*self.inputs.values(), *self.grads.values(), self.norms_P]
        return sum(t.nbytes for t in tensors) + PAIR_BYTES * len(self.dots)


class _Slot(NamedTuple):
    """Where a linear layer's two factors stand: (size, place in the stack of tensors of that size)."""

    inputs: tuple[int, int]
    grads: tuple[int, int]


class _Layout:
    """How a model's factors are stacked by size, so that a sentence's are a few tensors and move in few copies."""

    def __init__(self, layers: FastLayers, gradient: LowRankGradient) -> None:
        self.slots: dict[str, _Slot] = {}
        self.input_names: dict[int, list[str]] = {}  # by size: one layer for each distinct input
        self.grad_names: dict[int, list[str]] = {}
        self._biased = {name for name in gradient.grads if layers.layers[name].bias is not None}
        seen: dict[int, tuple[int, int]] = {}
        for name, inputs_ENI in gradient.inputs.items():
            if id(inputs_ENI) not in seen:
                seen[id(inputs_ENI)] = _appended(self.input_names, inputs_ENI.shape[2], name)
            self.slots[name] = _Slot(
                seen[id(inputs_ENI)], _appended(self.grad_names, gradient.grads[name].shape[2], name)
            )
        self.norms: dict[str, tuple[slice, slice | None]] = {}  # where scale and shift stand in a _Kept's norms_P
        at = 0
        for name, pair in gradient.norms.items():
            scale, shift = (None if v is None else slice(at, at := at + v.shape[1]) for v in pair)
            assert scale is not None
            self.norms[name] = scale, shift

    def dots(self, kept: Sequence[_Kept], inputs: dict[int, Tensor], grads: dict[int, Tensor]) -> list[list[float]]:
        """Products (K, K) of sentences' gradients, from Gram matrices of their factors side by side.

        Args:
            kept: the sentences, K of them.
            inputs: their inputs by size, (L, N, I).
            grads: their gradients by size, (L, N, O).
        """
        norms_KP = torch.stack([k.norms_P for k in kept])
        norms_KP = norms_KP.to(torch.promote_types(norms_KP.dtype, torch.float32))
        with torch.autocast(norms_KP.device.type, enabled=False):
            grams = {size: _gram(stack_LNI, norms_KP.dtype) for size, stack_LNI in inputs.items()}
            products_NN = norms_KP.new_zeros(())
            for size, names in self.grad_names.items():
                slots = [self.slots[name].inputs for name in names]
                scores_LNN = torch.stack([grams[s][at] for s, at in slots])
                scores_LNN += norms_KP.new_tensor([float(name in self._biased) for name in names])[:, None, None]
                products_NN = products_NN + (scores_LNN * _gram(grads[size], norms_KP.dtype)).sum(0)
            owner_N = torch.arange(len(kept)).repeat_interleave(torch.tensor([k.pieces for k in kept]))
            owner_KN = functional.one_hot(owner_N, len(kept)).T.to(norms_KP)
            dots_KK = owner_KN @ products_NN @ owner_KN.T + norms_KP @ norms_KP.T
        found: list[list[float]] = dots_KK.tolist()
        return found


def _appended(stacks: dict[int, list[str]], size: int, name: str) -> tuple[int, int]:
    stack = stacks.setdefault(size, [])
    stack.append(name)
    return size, len(stack) - 1


def _gram(stack_LNI: Tensor, dtype: torch.dtype) -> Tensor:
    """(L, N, N); bf16 factors are multiplied as such, and their products only then widened."""
    stack_LNI = stack_LNI if stack_LNI.dtype == torch.bfloat16 else stack_LNI.to(dtype)
    return torch.bmm(stack_LNI, stack_LNI.transpose(1, 2)).to(dtype)


def _stacked(tensors: Mapping[str, Tensor], names: Sequence[str], row: int, length: int) -> Tensor:
    """A row's (L, n, size) in the precision that matrix products run in; bf16 takes half the memory, and loses nothing.

    A copy: the layers' own tensors, of all rows and with padding, can go.
    """
    stack = torch.stack([tensors[name][row, :length] for name in names])
    kind = stack.device.type
    return stack.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else stack


def _shares(row: Sequence[_Kept]) -> list[float]:
    """How much of a row's words are in each of its sentences."""
    total = max(sum(kept.words for kept in row), 1)
    return [kept.words / total for kept in row]


def _squared_length(dots: Sequence[Sequence[float]], shares: Sequence[float]) -> float:
    return sum(a * b * dot for a, line in zip(shares, dots, strict=True) for b, dot in zip(shares, line, strict=True))


def _by_piece(rows: Sequence[Sequence[_Kept]], shares: Sequence[Sequence[float]], length: int) -> Tensor:
    """Each support piece's share (E, N): its sentence's; 0 on padding."""
    out_EN = torch.zeros(len(rows), length, dtype=torch.float64)
    for e, (row, part) in enumerate(zip(rows, shares, strict=True)):
        at = 0
        for kept, share in zip(row, part, strict=True):
            out_EN[e, at : (at := at + kept.pieces)] = share
    return out_EN


def _side_by_side(rows: Sequence[Sequence[dict[int, Tensor]]]) -> dict[int, Tensor]:
    """By size: every row's sentences one after the other, (L, E, N, size), zeros behind them."""
    out = {}
    for size, first in rows[0][0].items():
        lengths = [sum(part[size].shape[1] for part in row) for row in rows]
        stack_LENI = first.new_empty((len(first), len(rows), padded_length(max(lengths)), size))
        for e, row in enumerate(rows):
            at = 0
            for part in row:
                stack_LENI[:, e, at : (at := at + part[size].shape[1])] = part[size]
            stack_LENI[:, e, at:] = 0
        out[size] = stack_LENI
    return out
