"""How the gradients of support sentences are kept: the factors of each product, and the products of pairs of them.

A sentence to be tagged needs its support sentences' factors side by side, 4 to 6 MB of them. They are put so for one
product at a time, right before it needs them: then they are read from memory once, and the product finds them in the
processor's cache.

Shapes: E episodes, N support pieces of a row, M some of these, K support sentences of a row, n pieces of one sentence,
P pieces of many sentences, I and O a product's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from metacross.encoder.rows import PIECE_STEP
from metacross.fast_weights import Factors, FastLayers, FastWeights, NormShift, PieceGradients

PAIR_BYTES = 120  # that a number in a dictionary takes, about
PAIRS = 512 * 512  # pairs of support pieces whose products are held at a time


@dataclass
class SentenceGradient:
    """The gradient of one support sentence's mean word loss, and its products with other sentences' gradients.

    Attributes:
        pieces: n.
        words: how many of its words have a tag.
        factors: of each product, its inputs (n, I) and the gradients at its outputs (n, O).
        norms_P: gradients of all LayerNorms' scales and shifts.
        dots: products with itself and with sentences of higher numbers, by these.
    """

    pieces: int
    words: int
    factors: Sequence[tuple[Tensor, Tensor]]
    norms_P: Tensor
    dots: dict[int, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self._tensor_bytes + PAIR_BYTES * len(self.dots)

    @cached_property
    def _tensor_bytes(self) -> int:
        return self.norms_P.nbytes + sum(inputs_nI.nbytes + grads_nO.nbytes for inputs_nI, grads_nO in self.factors)


class SideBySide:
    """Rows of support sentences, whose factors stand one after the other, followed by zeros.

    Args:
        rows: each episode's sentences, one at least.
        step: all rows are as long as the longest of them, rounded up to a multiple of this.
    """

    def __init__(self, rows: Sequence[Sequence[SentenceGradient]], *, step: int = PIECE_STEP) -> None:
        lengths = [sum(gradient.pieces for gradient in row) for row in rows]
        self.length = -(-max(lengths) // step) * step
        self._rows, self._padding = rows, [self.length - length for length in lengths]

    def factors(self, product: int) -> tuple[Tensor, Tensor]:
        """A product's inputs (E, N, I) and gradients (E, N, O), by its number; they are copied at every call."""
        return self._stacked(product, 0), self._stacked(product, 1)

    def _stacked(self, product: int, which: int) -> Tensor:
        some_nI = self._rows[0][0].factors[product][which]
        zeros = some_nI.new_zeros(max(self._padding), some_nI.shape[1])
        parts = []
        for row, padding in zip(self._rows, self._padding, strict=True):
            parts += [gradient.factors[product][which] for gradient in row]
            parts.append(zeros[:padding])
        return torch.cat(parts).view(len(self._rows), self.length, -1)


class _Product(NamedTuple):
    """A product of one layer, or of several that share an input, with their outputs side by side."""

    number: int  # among all products
    biased: bool
    outputs: tuple[int, ...]  # of each layer


class FactorLayout:
    """Which products a model's factors are of, in which order.

    Args:
        layers: the model's.
        gradient: any that was recorded in them; it tells which products there are.
    """

    def __init__(self, layers: FastLayers, gradient: PieceGradients) -> None:
        self._products: dict[tuple[str, ...], _Product] = {}
        for number, names in enumerate(gradient.products):
            own = [layers.layers[name] for name in names]
            outputs = tuple(int(layer.weight.shape[0]) for layer in own)
            self._products[names] = _Product(number, own[0].bias is not None, outputs)
        self._norms: dict[str, tuple[slice, slice | None]] = {}  # slices of norms_P: scale, shift
        at = 0
        for name, pair in gradient.norms.items():
            scale, shift = (None if v is None else slice(at, at := at + v.shape[1]) for v in pair)
            assert scale is not None
            self._norms[name] = scale, shift

    def by_sentence(self, gradient: PieceGradients, places: Sequence[slice]) -> list[list[tuple[Tensor, Tensor]]]:
        """Each sentence's factors, in the type that matrix products run in.

        The products would convert them anyway, so bf16 loses nothing and takes half the memory. They are copies, so
        that the layers' own tensors, which hold all sentences and padding, can be freed.

        Args:
            gradient: of all sentences.
            places: which pieces are each sentence's.
        """
        out: list[list[tuple[Tensor, Tensor]]] = [[] for _ in places]
        for x_PI, grad_PO in gradient.products.values():
            typed_PI, typed_PO = _in_type_of_products(x_PI), _in_type_of_products(grad_PO)
            for own, place in zip(out, places, strict=True):
                own.append((typed_PI[place].clone(), typed_PO[place].clone()))
        return out

    def fast_weights(self, factors: SideBySide, step_EN: Tensor, norms_EP: Tensor) -> FastWeights:
        """Theta' of E episodes.

        Args:
            factors: the episodes'.
            step_EN: by which a piece's gradient is multiplied.
            norms_EP: what is added to the LayerNorms' scales and shifts.
        """
        typed_EN = _in_type_of_products(step_EN)  # once, and not in every product

        def of_product(names: tuple[str, ...]) -> Factors:
            return Factors(*factors.factors(self._products[names].number), typed_EN)

        norms = {
            name: NormShift(norms_EP[:, scale], None if shift is None else norms_EP[:, shift])
            for name, (scale, shift) in self._norms.items()
        }
        outputs = {names: product.outputs for names, product in self._products.items()}
        return FastWeights(_OfLayers(outputs, of_product), norms, _OfProducts(outputs, of_product))

    def dots(self, rows: Sequence[Sequence[SentenceGradient]]) -> list[list[list[float]]]:
        """Products (K, K) of the gradients of each row's sentences, from Gram matrices of their factors side by side.

        Args:
            rows: each episode's sentences, K at most.
        """
        longest = max(map(len, rows))
        some_P = rows[0][0].norms_P
        norms_EKP = some_P.new_zeros((len(rows), longest, len(some_P)))
        for e, row in enumerate(rows):
            norms_EKP[e, : len(row)] = torch.stack([gradient.norms_P for gradient in row])
        norms_EKP = norms_EKP.to(torch.promote_types(norms_EKP.dtype, torch.float32))
        with torch.autocast(norms_EKP.device.type, enabled=False):
            dots_EKK = torch.bmm(norms_EKP, norms_EKP.transpose(1, 2))
            # A part of the pairs at a time: those of all pieces would grow with the square of the support.
            length = SideBySide(rows).length
            at_once = max(1, PAIRS // length**2)
            for start in range(0, len(rows), at_once):
                part = slice(start, start + at_once)
                # Only a row that is taken apart has no padding: there are many such lengths.
                factors = SideBySide(rows[part], step=PIECE_STEP if length**2 <= PAIRS else 1)
                owner_EKN = _owners(rows[part], longest, factors.length).to(norms_EKP)
                step = max(1, PAIRS // factors.length) if at_once == 1 else factors.length
                for first in range(0, factors.length, step):
                    lines = slice(first, first + step)
                    products_EMN = self._pairs(lines, factors, norms_EKP.dtype)
                    dots_EKK[part] += owner_EKN[:, :, lines] @ products_EMN @ owner_EKN.transpose(1, 2)
        dots: list[list[list[float]]] = dots_EKK.tolist()
        return dots

    def _pairs(self, lines: slice, factors: SideBySide, dtype: torch.dtype) -> Tensor:
        """Products (E, M, N) of some pieces' gradients with all pieces' of the same row, summed over all products.

        Args:
            lines: which pieces.
            factors: of the rows.
            dtype: to add in.
        """
        total: Tensor | None = None
        for product in self._products.values():
            inputs_ENI, grads_ENO = factors.factors(product.number)
            pairs_EMN = _gram(inputs_ENI, lines, dtype)
            if product.biased:
                pairs_EMN += 1
            pairs_EMN *= _gram(grads_ENO, lines, dtype)
            total = pairs_EMN if total is None else total.add_(pairs_EMN)
        assert total is not None
        return total


class _OfProducts(Mapping[tuple[str, ...], Factors]):
    """The factors of each product, put side by side when they are asked for.

    Args:
        outputs: of each layer, by the names of the layers of a product.
        of_product: makes the factors of one.
    """

    def __init__(
        self, outputs: Mapping[tuple[str, ...], Sequence[int]], of_product: Callable[[tuple[str, ...]], Factors]
    ) -> None:
        self._outputs, self._of_product = outputs, of_product

    def __getitem__(self, names: tuple[str, ...]) -> Factors:
        if names not in self._outputs:
            raise KeyError(names)
        return self._of_product(names)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


class _OfLayers(Mapping[str, tuple[Factors, ...]]):
    """The same by layer. The last product's factors stay, since layers that share an input are asked for in turn.

    Arguments as for `_OfProducts`.
    """

    def __init__(
        self, outputs: Mapping[tuple[str, ...], Sequence[int]], of_product: Callable[[tuple[str, ...]], Factors]
    ) -> None:
        self._products = {name: names for names in outputs for name in names}
        self._outputs, self._of_product = outputs, of_product
        self._last: dict[str, tuple[Factors, ...]] = {}

    def __getitem__(self, name: str) -> tuple[Factors, ...]:
        if name not in self._last:
            names = self._products[name]
            self._last = {}  # frees the memory first
            all_ = self._of_product(names)
            parts = torch.split_with_sizes(all_.grads_ENO, list(self._outputs[names]), 2)
            self._last = {
                own: (Factors(all_.inputs_ENI, grads_ENO, all_.step_EN),)
                for own, grads_ENO in zip(names, parts, strict=True)
            }
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._products)

    def __len__(self) -> int:
        return len(self._products)


def _gram(x_ENI: Tensor, lines: slice, dtype: torch.dtype) -> Tensor:
    """Lines (E, M, N) of Gram matrices. bf16 factors are multiplied in bf16, and only their products are widened."""
    x_ENI = x_ENI if x_ENI.dtype == torch.bfloat16 else x_ENI.to(dtype)
    return torch.bmm(x_ENI[:, lines], x_ENI.transpose(1, 2)).to(dtype)


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
