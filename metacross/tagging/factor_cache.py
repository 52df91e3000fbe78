"""A cache of support factors: adapting to support sentences that were used before needs no backward.

With one inner step from theta, no dropout and the mean word loss, what a support sentence adds to the gradient does not
depend on the query nor on the other support sentences, except for its weight:

    loss of a support set = sum_k share_k * (mean word loss of sentence k),    share_k = its words / all their words

So the set's gradient is sum_k share_k * g_k, with g_k the gradient of sentence k alone. Its factors are those of the
sentences side by side, each piece weighted with its sentence's share, and its length comes from the products of pairs:
|sum_k share_k g_k|^2 = sum_kl share_k share_l (g_k . g_l). Those products are numbers, and are cached too. All this
holds for one theta. The maximum term would need a weight of its own; with it, as with several inner steps, the tagger
calls `algorithm.adapt` instead.

Shapes: E episodes, N support pieces of a row, K support sentences of a row, n pieces of one sentence, I and O a layer's
inputs and outputs, L layers that share a size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from cachetools import LRUCache
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

PAIR_BYTES = 120  # that a number in a dictionary takes, about
PAIRS = 512 * 512  # pairs of support pieces whose products are held at a time, for every layer


@dataclass
class CacheFigures:
    """What a cache has done so far; a support sentence counts once in a call, however many episodes it is in.

    Attributes:
        hits: sentences that were found in the cache.
        misses: sentences whose gradients had to be computed.
        evicted: sentences that were dropped to make room, or never cached for want of it.
        bytes: memory that the cache takes now.
    """

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    bytes: int = 0


class FactorCache:
    """Support factors under one theta, cached; the least recently used are dropped first. Not thread-safe.

    Args:
        model: holds theta, which must not change as long as the cache is in use.
        support: returns trunk states and tag ids of rows of support windows, by number, as `rows.pack` takes them.
        budget_mb: memory for the cache between calls, in MiB; a call needs further memory for its own sentences.
        batch_pieces: word pieces of one forward.

    Attributes:
        figures: what the cache has done so far.
    """

    def __init__(self, model: TagModel, support: Fetch, *, budget_mb: int, batch_pieces: int) -> None:
        self.figures = CacheFigures()
        self._model, self._support, self._batch_pieces = model, support, batch_pieces
        self._cache: LRUCache[int, _Gradient] = LRUCache(budget_mb << 20, lambda gradient: gradient.nbytes)
        self._layout: _Layout | None = None

    def __len__(self) -> int:
        return len(self._cache)

    @staticmethod
    def serves(inner: InnerLoop) -> bool:
        """Whether this inner loop's step is a weighted sum of the sentences' own gradients."""
        return inner.steps == 1 and inner.max_weight == 0 and not inner.second_order

    def fast_weights(self, rows: Sequence[Sequence[int]], *, inner_lr: float, normalized: bool) -> FastWeights:
        """Theta' of every row's episode, as `algorithm.adapt` finds it with one step on the row's windows.

        Args:
            rows: each episode's support, as numbers of source windows.
            inner_lr: alpha; with `normalized` the length of a step.
            normalized: a step of fixed length.
        """
        used = self._gradients(sorted({i for row in rows for i in row}))
        layout = self._layout
        assert layout is not None  # the first gradient set it
        gradients = [[used[i] for i in row] for row in rows]
        shares = [_shares(row) for row in gradients]
        inputs = _side_by_side([[gradient.inputs for gradient in row] for row in gradients])
        grads = _side_by_side([[gradient.grads for gradient in row] for row in gradients])
        norms_EP = torch.stack(
            [
                torch.stack([share * gradient.norms_P for share, gradient in zip(part, row, strict=True)]).sum(0)
                for part, row in zip(shares, gradients, strict=True)
            ]
        )
        step_E = norms_EP.new_full((len(rows),), -inner_lr)
        if normalized:
            squared = [
                _squared_length(self._dots(row, gradients[e], inputs, grads, e), shares[e])
                for e, row in enumerate(rows)
            ]
            step_E = step_E * inverse_length(norms_EP.new_tensor(squared))
        step_EN = _by_piece(gradients, shares, next(iter(grads.values())).shape[2]).to(step_E) * step_E[:, None]
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
        self._keep(used)
        return FastWeights(linears, norms)

    def _gradients(self, wanted: Sequence[int]) -> dict[int, _Gradient]:
        """The sentences' gradients, by number: those from the cache, and the others, computed together."""
        gradients = {i: self._cache[i] for i in wanted if i in self._cache}
        missing = [i for i in wanted if i not in gradients]
        self.figures.hits += len(gradients)
        self.figures.misses += len(missing)
        support = [row[0] for row in self._support([[i] for i in missing])] if missing else []
        lengths = [len(hidden_TH) for hidden_TH, _ in support]
        order = sorted(range(len(missing)), key=lambda at: (lengths[at], at))
        for run in budgeted(lengths, order, self._batch_pieces, padding_slack(self._model.device)):
            computed = self._computed([support[at] for at in run])
            gradients |= {missing[at]: gradient for at, gradient in zip(run, computed, strict=True)}
        return gradients

    def _keep(self, used: Mapping[int, _Gradient]) -> None:
        """Puts the gradients that a call used into the cache, and drops what no longer fits.

        Only at the end of a call, since gradients grow by the products of pairs; here they are measured again.
        """
        candidates = len(self._cache.keys() | used.keys())
        for number, gradient in used.items():
            self._cache.pop(number, None)
            with suppress(ValueError):  # larger than the whole cache
                self._cache[number] = gradient
        self.figures.evicted += candidates - len(self._cache)
        self.figures.bytes = int(self._cache.currsize)

    def _computed(self, sentences: Sequence[tuple[Tensor, Tensor]]) -> list[_Gradient]:
        """The gradient of each sentence's own mean word loss at theta, by one forward and one backward."""
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
            out.append(_Gradient(n, words[e], inputs, grads, norms_EP[e].clone()))
        return out

    def _dots(
        self,
        row: Sequence[int],
        gradients: Sequence[_Gradient],
        inputs: dict[int, Tensor],
        grads: dict[int, Tensor],
        e: int,
    ) -> list[list[float]]:
        """Products (K, K) of the gradients of a row's sentences. If one is not cached yet, all are computed.

        Args:
            row: the sentences' numbers.
            gradients: theirs.
            inputs: all rows' inputs side by side, by size (L, E, N, I).
            grads: all rows' gradients side by side, by size (L, E, N, O).
            e: the row's index in these.
        """
        pairs = [(min(a, b), max(a, b)) for a in row for b in row]
        owner = dict(zip(row, gradients, strict=True))
        if any(high not in owner[low].dots for low, high in pairs):
            assert self._layout is not None
            pieces = sum(gradient.pieces for gradient in gradients)
            dots_KK = self._layout.dots(
                gradients,
                {s: t_LENI[:, e, :pieces] for s, t_LENI in inputs.items()},
                {s: t_LENO[:, e, :pieces] for s, t_LENO in grads.items()},
            )
            for a, line in zip(row, dots_KK, strict=True):
                for b, dot in zip(row, line, strict=True):
                    if a <= b:
                        # A product that is cached stays: computed among other sentences it may differ in its last bit.
                        owner[a].dots.setdefault(b, dot)
        return [[owner[min(a, b)].dots[max(a, b)] for b in row] for a in row]


@dataclass
class _Gradient:
    """The gradient of one support sentence's mean word loss, and its products with other sentences' gradients."""

    pieces: int
    words: int
    inputs: dict[int, Tensor]  # by size: (L, n, I)
    grads: dict[int, Tensor]  # by size: (L, n, O)
    norms_P: Tensor  # all LayerNorms' scales and shifts
    dots: dict[int, float] = field(default_factory=dict)  # products with itself and with sentences of higher numbers

    @property
    def nbytes(self) -> int:
        tensors = [*self.inputs.values(), *self.grads.values(), self.norms_P]
        return sum(t.nbytes for t in tensors) + PAIR_BYTES * len(self.dots)


class _Slot(NamedTuple):
    """Where a linear layer's two factors are: (size, index in the stack of tensors of that size)."""

    inputs: tuple[int, int]
    grads: tuple[int, int]


class _Layout:
    """How a model's factors are stacked by size: a sentence's are then a few tensors, which are copied at once."""

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
        self.norms: dict[str, tuple[slice, slice | None]] = {}  # slices of norms_P: scale, shift
        at = 0
        for name, pair in gradient.norms.items():
            scale, shift = (None if v is None else slice(at, at := at + v.shape[1]) for v in pair)
            assert scale is not None
            self.norms[name] = scale, shift

    def dots(
        self, gradients: Sequence[_Gradient], inputs: dict[int, Tensor], grads: dict[int, Tensor]
    ) -> list[list[float]]:
        """Products (K, K) of sentences' gradients, from Gram matrices of their factors side by side.

        Args:
            gradients: the sentences', K of them.
            inputs: their inputs by size, (L, N, I).
            grads: their gradients by size, (L, N, O).
        """
        norms_KP = torch.stack([gradient.norms_P for gradient in gradients])
        norms_KP = norms_KP.to(torch.promote_types(norms_KP.dtype, torch.float32))
        pieces_K = torch.tensor([gradient.pieces for gradient in gradients])
        owner_N = torch.arange(len(gradients)).repeat_interleave(pieces_K)
        owner_KN = functional.one_hot(owner_N, len(gradients)).T.to(norms_KP)
        with torch.autocast(norms_KP.device.type, enabled=False):
            dots_KK = norms_KP @ norms_KP.T
            # A part of the pieces at a time: the products of all pairs would grow with the square of the support.
            step = max(1, PAIRS // len(owner_N))
            for start in range(0, len(owner_N), step):
                rows = slice(start, start + step)
                products_MN = self._products(rows, inputs, grads, norms_KP)
                dots_KK += owner_KN[:, rows] @ products_MN @ owner_KN.T
        dots: list[list[float]] = dots_KK.tolist()
        return dots

    def _products(self, rows: slice, inputs: dict[int, Tensor], grads: dict[int, Tensor], like: Tensor) -> Tensor:
        """Products (M, N) of some pieces' gradients with all pieces', summed over the layers.

        Args:
            rows: which pieces.
            inputs: as for `dots`.
            grads: as for `dots`.
            like: a tensor of the type and on the device to compute with.
        """
        grams = {size: _gram(stack_LNI, rows, like.dtype) for size, stack_LNI in inputs.items()}
        products_MN = like.new_zeros(())
        for size, names in self.grad_names.items():
            slots = [self.slots[name].inputs for name in names]
            scores_LMN = torch.stack([grams[s][at] for s, at in slots])
            scores_LMN += like.new_tensor([float(name in self._biased) for name in names])[:, None, None]
            products_MN = products_MN + (scores_LMN * _gram(grads[size], rows, like.dtype)).sum(0)
        return products_MN


def _appended(stacks: dict[int, list[str]], size: int, name: str) -> tuple[int, int]:
    stack = stacks.setdefault(size, [])
    stack.append(name)
    return size, len(stack) - 1


def _gram(stack_LNI: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
    """Rows (L, M, N) of Gram matrices. bf16 factors are multiplied in bf16, and only their products are widened."""
    stack_LNI = stack_LNI if stack_LNI.dtype == torch.bfloat16 else stack_LNI.to(dtype)
    return torch.bmm(stack_LNI[:, rows], stack_LNI.transpose(1, 2)).to(dtype)


def _stacked(tensors: Mapping[str, Tensor], names: Sequence[str], row: int, length: int) -> Tensor:
    """One row of the named layers' tensors, (L, n, size), in the type that matrix products run in.

    The products would convert it anyway, so bf16 loses nothing and takes half the memory. It is a copy, so that the
    layers' own tensors, which hold all rows and padding, can be freed.
    """
    stack = torch.stack([tensors[name][row, :length] for name in names])
    kind = stack.device.type
    return stack.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else stack


def _shares(row: Sequence[_Gradient]) -> list[float]:
    """Which part of a row's words is in each of its sentences."""
    total = max(sum(gradient.words for gradient in row), 1)
    return [gradient.words / total for gradient in row]


def _squared_length(dots: Sequence[Sequence[float]], shares: Sequence[float]) -> float:
    return sum(a * b * dot for a, line in zip(shares, dots, strict=True) for b, dot in zip(shares, line, strict=True))


def _by_piece(rows: Sequence[Sequence[_Gradient]], shares: Sequence[Sequence[float]], length: int) -> Tensor:
    """Each support piece's share (E, N), which is its sentence's; 0 on padding."""
    out_EN = torch.zeros(len(rows), length, dtype=torch.float64)
    for e, (row, part) in enumerate(zip(rows, shares, strict=True)):
        at = 0
        for gradient, share in zip(row, part, strict=True):
            out_EN[e, at : (at := at + gradient.pieces)] = share
    return out_EN


def _side_by_side(rows: Sequence[Sequence[dict[int, Tensor]]]) -> dict[int, Tensor]:
    """By size: every row's sentences one after the other, (L, E, N, size), followed by zeros."""
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
