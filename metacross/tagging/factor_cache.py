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
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import torch
from cachetools import LRUCache
from torch import Tensor

from metacross.algorithm import THETA, InnerLoop, episode_losses
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.rows import forwards, pack, padded_length
from metacross.encoder.windows import IGNORED
from metacross.fast_weights import (
    Factors,
    FastLayers,
    FastWeights,
    NormShift,
    PieceGradients,
    inverse_length,
    piece_gradients,
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
        return self.fast_weights_of([rows], inner_lr=inner_lr, normalized=normalized)[0]

    def fast_weights_of(
        self, groups: Sequence[Sequence[Sequence[int]]], *, inner_lr: float, normalized: bool
    ) -> list[FastWeights]:
        """The same for several groups of rows; a sentence that several of them need is computed once."""
        used = self._gradients(sorted({i for rows in groups for row in rows for i in row}))
        found = [self._of_group(rows, used, inner_lr=inner_lr, normalized=normalized) for rows in groups]
        self._keep(used)
        return found

    def _of_group(
        self, rows: Sequence[Sequence[int]], used: Mapping[int, _Gradient], *, inner_lr: float, normalized: bool
    ) -> FastWeights:
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
            dots = self._dots(rows, gradients, inputs, grads)
            squared = [_squared_length(own, part) for own, part in zip(dots, shares, strict=True)]
            step_E = step_E * inverse_length(norms_EP.new_tensor(squared))
        step_EN = _by_piece(gradients, shares, next(iter(grads.values())).shape[2]).to(step_E) * step_E[:, None]
        return layout.fast_weights(inputs, grads, step_EN, norms_EP * step_E[:, None])

    def _gradients(self, wanted: Sequence[int]) -> dict[int, _Gradient]:
        """The sentences' gradients, by number: those from the cache, and the others, computed together."""
        gradients = {i: self._cache[i] for i in wanted if i in self._cache}
        missing = [i for i in wanted if i not in gradients]
        self.figures.hits += len(gradients)
        self.figures.misses += len(missing)
        support = [row[0] for row in self._support([[i] for i in missing])] if missing else []
        lengths = [len(hidden_TH) for hidden_TH, _ in support]
        order = sorted(range(len(missing)), key=lambda at: (lengths[at], at))
        for groups in forwards(self._model, lengths, order, self._batch_pieces):
            computed = self._computed([[support[at] for at in group] for group in groups])
            numbers = [missing[at] for group in groups for at in group]
            gradients |= dict(zip(numbers, computed, strict=True))
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

    def _computed(self, groups: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> list[_Gradient]:
        """The gradient of each sentence's own mean word loss at theta, by one forward and one backward."""
        layers = self._model.fast_layers
        packed = [pack([[sentence] for sentence in group]) for group in groups]
        with torch.enable_grad(), layers.running(THETA, record=True) as recording:
            logits = self._model.recorded_logits(packed)
            losses = [episode_losses(own, rows, max_weight=0) for own, rows in zip(logits, packed, strict=True)]
            loss = torch.cat(losses).sum()
        gradient = piece_gradients(layers, recording, loss)
        if self._layout is None:
            self._layout = _Layout(layers, gradient)
        layout = self._layout
        places = _places(packed)
        # What pieces add to the norms' gradients, summed over each sentence's pieces.
        norms_EP = torch.cat([_sums(v, packed) for pair in gradient.norms.values() for v in pair if v is not None], 1)
        words = [count for rows in packed for count in (rows.tag_ids_BT != IGNORED).sum(1).tolist()]
        out = []
        for e, (hidden_TH, _) in enumerate(chain.from_iterable(groups)):
            pieces = slice(places[e].start, places[e].start + len(hidden_TH))
            inputs, grads = layout.stacked(gradient, pieces)
            out.append(_Gradient(len(hidden_TH), words[e], inputs, grads, norms_EP[e].clone()))
        return out

    def _dots(
        self,
        rows: Sequence[Sequence[int]],
        gradients: Sequence[Sequence[_Gradient]],
        inputs: dict[int, Tensor],
        grads: dict[int, Tensor],
    ) -> list[list[list[float]]]:
        """Products (K, K) of the gradients of each row's sentences. If one is not cached, all of its row are computed.

        Args:
            rows: the sentences' numbers.
            gradients: theirs.
            inputs: all rows' inputs side by side, by size (L, E, N, I).
            grads: all rows' gradients side by side, by size (L, E, N, O).
        """
        assert self._layout is not None
        owners = [dict(zip(row, own, strict=True)) for row, own in zip(rows, gradients, strict=True)]
        unknown = [
            e for e, row in enumerate(rows) if any(max(a, b) not in owners[e][min(a, b)].dots for a in row for b in row)
        ]
        if unknown:
            if len(unknown) < len(rows):
                inputs = {size: t_LENI[:, unknown] for size, t_LENI in inputs.items()}
                grads = {size: t_LENO[:, unknown] for size, t_LENO in grads.items()}
            found = self._layout.dots([gradients[e] for e in unknown], inputs, grads)
            for e, dots_KK in zip(unknown, found, strict=True):
                for a, line in zip(rows[e], dots_KK, strict=False):  # behind the row's sentences there are zeros
                    for b, dot in zip(rows[e], line, strict=False):
                        if a <= b:
                            # A product that is cached stays: computed among others it may differ in its last bit.
                            owners[e][a].dots.setdefault(b, dot)
        return [
            [[owner[min(a, b)].dots[max(a, b)] for b in row] for a in row]
            for owner, row in zip(owners, rows, strict=True)
        ]


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
    """Where the two factors of a product are: (size, index in the stack of tensors of that size).

    The product may be of several layers that share an input, their outputs side by side.
    """

    inputs: tuple[int, int]
    grads: tuple[int, int]
    biased: bool
    outputs: tuple[int, ...]  # of each layer


class _Layout:
    """How a model's factors are stacked by size: a sentence's are then a few tensors, which are copied at once."""

    def __init__(self, layers: FastLayers, gradient: PieceGradients) -> None:
        self._slots: dict[tuple[str, ...], _Slot] = {}
        self._of_size: tuple[dict[int, list[tuple[str, ...]]], dict[int, list[tuple[str, ...]]]] = {}, {}
        for names, (x_PI, grad_PO) in gradient.products.items():
            own = [layers.layers[name] for name in names]
            places = [
                _appended(by_size, t.shape[1], names) for by_size, t in zip(self._of_size, (x_PI, grad_PO), strict=True)
            ]
            outputs = tuple(int(layer.weight.shape[0]) for layer in own)
            self._slots[names] = _Slot(places[0], places[1], own[0].bias is not None, outputs)
        self._norms: dict[str, tuple[slice, slice | None]] = {}  # slices of norms_P: scale, shift
        at = 0
        for name, pair in gradient.norms.items():
            scale, shift = (None if v is None else slice(at, at := at + v.shape[1]) for v in pair)
            assert scale is not None
            self._norms[name] = scale, shift

    def stacked(self, gradient: PieceGradients, pieces: slice) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """A sentence's inputs (L, n, I) and gradients (L, n, O) by size, in the type that matrix products run in.

        The products would convert them anyway, so bf16 loses nothing and takes half the memory. They are copies, so
        that the layers' own tensors, which hold all sentences and padding, can be freed.
        """
        out = []
        for which, by_size in enumerate(self._of_size):
            stacks = {
                size: torch.stack([gradient.products[names][which][pieces] for names in of_size])
                for size, of_size in by_size.items()
            }
            out.append({size: _in_type_of_products(stack) for size, stack in stacks.items()})
        return out[0], out[1]

    def fast_weights(
        self, inputs: dict[int, Tensor], grads: dict[int, Tensor], step_EN: Tensor, norms_EP: Tensor
    ) -> FastWeights:
        """Theta' of E episodes.

        Args:
            inputs: by size (L, E, N, I).
            grads: by size (L, E, N, O).
            step_EN: by which a piece's gradient is multiplied.
            norms_EP: what is added to the LayerNorms' scales and shifts.
        """
        linears, joined = {}, {}
        for names, slot in self._slots.items():
            # One view for each input: layers that share it must share its tensor.
            inputs_ENI, grads_ENO = inputs[slot.inputs[0]][slot.inputs[1]], grads[slot.grads[0]][slot.grads[1]]
            if len(names) > 1:
                joined[names] = Factors(inputs_ENI, grads_ENO, step_EN)
            for name, own_ENO in zip(names, torch.split_with_sizes(grads_ENO, slot.outputs, 2), strict=True):
                linears[name] = (Factors(inputs_ENI, own_ENO, step_EN),)
        norms = {
            name: NormShift(norms_EP[:, scale], None if shift is None else norms_EP[:, shift])
            for name, (scale, shift) in self._norms.items()
        }
        return FastWeights(linears, norms, joined)

    def dots(
        self, rows: Sequence[Sequence[_Gradient]], inputs: dict[int, Tensor], grads: dict[int, Tensor]
    ) -> list[list[list[float]]]:
        """Products (K, K) of the gradients of each row's sentences, from Gram matrices of their factors side by side.

        Args:
            rows: each episode's sentences, K at most.
            inputs: their inputs by size, (L, E, N, I).
            grads: their gradients by size, (L, E, N, O).
        """
        length, longest = next(iter(inputs.values())).shape[2], max(map(len, rows))
        some_P = rows[0][0].norms_P
        norms_EKP = some_P.new_zeros((len(rows), longest, len(some_P)))
        for e, row in enumerate(rows):
            norms_EKP[e, : len(row)] = torch.stack([gradient.norms_P for gradient in row])
        norms_EKP = norms_EKP.to(torch.promote_types(norms_EKP.dtype, torch.float32))
        owner_EKN = _owners(rows, longest, length).to(norms_EKP)
        with torch.autocast(norms_EKP.device.type, enabled=False):
            dots_EKK = torch.bmm(norms_EKP, norms_EKP.transpose(1, 2))
            # A part of the pairs at a time: those of all pieces would grow with the square of the support.
            at_once = max(1, PAIRS // length**2)
            for start in range(0, len(rows), at_once):
                part = slice(start, start + at_once)
                pieces = max(sum(gradient.pieces for gradient in row) for row in rows[part])
                # Only a row that is taken apart leaves padding out, since that takes a copy.
                kept = slice(None) if length**2 <= PAIRS else slice(pieces)
                own_inputs, own_grads = (
                    {size: stack[:, part, kept] for size, stack in stacks.items()} for stacks in (inputs, grads)
                )
                own_EKN = owner_EKN[part, :, kept]
                step = max(1, PAIRS // own_EKN.shape[2]) if at_once == 1 else own_EKN.shape[2]
                for first in range(0, own_EKN.shape[2], step):
                    lines = slice(first, first + step)
                    products_EMN = self._products(lines, own_inputs, own_grads, norms_EKP.dtype)
                    dots_EKK[part] += own_EKN[:, :, lines] @ products_EMN @ own_EKN.transpose(1, 2)
        dots: list[list[list[float]]] = dots_EKK.tolist()
        return dots

    def _products(
        self, lines: slice, inputs: dict[int, Tensor], grads: dict[int, Tensor], dtype: torch.dtype
    ) -> Tensor:
        """Products (E, M, N) of some pieces' gradients with all pieces' of the same row, summed over the layers.

        Args:
            lines: which pieces.
            inputs: as for `dots`.
            grads: as for `dots`.
            dtype: to add in.
        """
        grams = {size: _gram(stack_LENI, lines, dtype) for size, stack_LENI in inputs.items()}
        total: Tensor | None = None
        for size, of_size in self._of_size[1].items():
            slots = [self._slots[names] for names in of_size]
            scores_LEMN = torch.stack([grams[slot.inputs[0]][slot.inputs[1]] for slot in slots])
            scores_LEMN += scores_LEMN.new_tensor([float(slot.biased) for slot in slots])[:, None, None, None]
            part_EMN = scores_LEMN.mul_(_gram(grads[size], lines, dtype)).sum(0)
            total = part_EMN if total is None else total + part_EMN
        assert total is not None
        return total


def _appended(stacks: dict[int, list[tuple[str, ...]]], size: int, names: tuple[str, ...]) -> tuple[int, int]:
    stack = stacks.setdefault(size, [])
    stack.append(names)
    return size, len(stack) - 1


def _gram(stack_LENI: Tensor, lines: slice, dtype: torch.dtype) -> Tensor:
    """Lines (L, E, M, N) of Gram matrices. bf16 factors are multiplied in bf16, and only their products are widened."""
    stack_LENI = stack_LENI if stack_LENI.dtype == torch.bfloat16 else stack_LENI.to(dtype)
    return torch.matmul(stack_LENI[:, :, lines], stack_LENI.transpose(2, 3)).to(dtype)


def _in_type_of_products(x: Tensor) -> Tensor:
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _places(groups: Sequence[Rows]) -> list[slice]:
    """Which of all groups' pieces, one row after the other, are each row's; padding included."""
    lengths = [rows.tag_ids_BT.shape[1] for rows in groups for _ in rows.tag_ids_BT]
    return [slice(start, end) for start, end in pairwise(accumulate(lengths, initial=0))]


def _sums(x_PO: Tensor, groups: Sequence[Rows]) -> Tensor:
    """Sums (E, O) over each row's pieces; padding adds nothing, since no loss depends on it."""
    sums, start = [], 0
    for rows in groups:
        end = start + rows.tag_ids_BT.numel()
        sums.append(x_PO[start:end].view(*rows.tag_ids_BT.shape, -1).sum(1))
        start = end
    return torch.cat(sums)


def _owners(rows: Sequence[Sequence[_Gradient]], longest: int, length: int) -> Tensor:
    """Whether a piece (N) is of a row's sentence (K), (E, K, N); `longest` is K and `length` N."""
    out_EKN = torch.zeros(len(rows), longest, length, dtype=torch.bool)
    for e, row in enumerate(rows):
        at = 0
        for k, gradient in enumerate(row):
            out_EKN[e, k, at : (at := at + gradient.pieces)] = True
    return out_EKN


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
