"""How the gradients of support sentences are kept: their factors in a few stacks, and the products of pairs of them.

Layers of a size share a stack, so a sentence's factors are a few tensors, which are copied at once.

Shapes: E episodes, N support pieces of a row, K support sentences of a row, n pieces of one sentence, I and O a layer's
inputs and outputs, L layers that share a size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from metacross.encoder.rows import padded_length
from metacross.fast_weights import Factors, FastLayers, FastWeights, NormShift, PieceGradients

PAIR_BYTES = 120  # that a number in a dictionary takes, about
PAIRS = 512 * 512  # pairs of support pieces whose products are held at a time, for every layer


@dataclass
class SentenceGradient:
    """The gradient of one support sentence's mean word loss, and its products with other sentences' gradients.

    Attributes:
        pieces: n.
        words: how many of its words have a tag.
        inputs: of the layers, by size: (L, n, I).
        grads: at the layers' outputs, by size: (L, n, O).
        norms_P: gradients of all LayerNorms' scales and shifts.
        dots: products with itself and with sentences of higher numbers, by these.
    """

    pieces: int
    words: int
    inputs: dict[int, Tensor]
    grads: dict[int, Tensor]
    norms_P: Tensor
    dots: dict[int, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
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


class FactorLayout:
    """How a model's factors are stacked by size.

    Args:
        layers: the model's.
        gradient: any that was recorded in them; it tells which factors there are, and how large they are.
    """

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
        self, rows: Sequence[Sequence[SentenceGradient]], inputs: dict[int, Tensor], grads: dict[int, Tensor]
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


def side_by_side(rows: Sequence[Sequence[dict[int, Tensor]]]) -> dict[int, Tensor]:
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


def _owners(rows: Sequence[Sequence[SentenceGradient]], longest: int, length: int) -> Tensor:
    """Whether a piece (N) is of a row's sentence (K), (E, K, N); `longest` is K and `length` N."""
    out_EKN = torch.zeros(len(rows), longest, length, dtype=torch.bool)
    for e, row in enumerate(rows):
        at = 0
        for k, gradient in enumerate(row):
            out_EKN[e, k, at : (at := at + gradient.pieces)] = True
    return out_EKN
