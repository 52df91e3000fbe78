"""Layers of BERT's kind run in fewer and faster operations than transformers' own modules take.

What is computed is the same: attention, a norm, two linear layers, a norm. There are these differences.

1. Query, key and value are one product.
2. On a CPU, bf16 weights are laid out for oneDNN once, and not in every product. A product gives the same bits.
3. Attention is torch's fused kernel, on views of the product. In bf16 it keeps scores in fp32, so the last bits of a
   result differ from those of `encoder.attention`. Before a backward it runs in fp32: in bf16 its backward is slow.
4. The type of products is chosen once for all layers, and not by autocast in every operation.
5. Groups of rows that differ in length run together, their pieces behind each other without padding between groups.
   Only attention and what fast weights add takes one group after another.
6. A backward computes the gradients at outputs, of which fast weights are made, and none of weights.

What is made of the weights is made once. That they have changed could not be told for certain (torch's fused optimizers
and writes through `data` leave a parameter's version as it was), so only models whose weights are final run fused.

Shapes: B rows of a group, T word pieces of a row, P word pieces of all groups, H hidden size, A heads, D size of a
head, I and O a product's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from metacross.encoder.families import LayerParts
from metacross.fast_weights import Correction, normalised

# Layers that share an input, the input (P, I), and what they make of it, side by side (P, O)
Record = Callable[[Sequence[nn.Module], Tensor, Tensor], None]

# The pieces of several groups are padded to a multiple of this: oneDNN makes a kernel for every new number of them,
# which takes up to two milliseconds, so there should be few.
PIECES_STEP = 32


class FusedLayers:
    """Runs layers of one family, whose weights do not change. It has copies of them, of the type that it is used with.

    Args:
        parts: where the family's layers keep their parts.
    """

    def __init__(self, parts: LayerParts) -> None:
        self._parts = parts
        self._fused: WeakKeyDictionary[nn.Module, _FusedLayer] = WeakKeyDictionary()

    def __deepcopy__(self, memo: dict[int, Any]) -> FusedLayers:
        return FusedLayers(self._parts)  # what was made of other layers is of no use to a copy

    def states(
        self,
        layers: Iterable[nn.Module],
        groups: Sequence[Tensor],
        allowed: Sequence[Tensor],
        corrections: Sequence[Correction] | None,
        record: Record | None = None,
    ) -> list[list[Tensor]]:
        """For each group the states (B, T, H) that go into the first layer, and those that come out of each.

        Args:
            layers: of the family.
            groups: states (B, T, H) below them.
            allowed: for each group whether a piece may attend to another (B, 1, T, T); to one at least.
            corrections: what fast weights change in each group; None: nothing.
            record: called for all linear layers and norms; then a backward may follow. Not together with corrections.
        """
        kind = groups[0].device.type
        cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        states = [[group_BTH] for group_BTH in groups]
        runs: dict[torch.dtype, _Run] = {}
        with torch.autocast(kind, enabled=False), torch.set_grad_enabled(record is not None):
            x_PH = _behind_each_other(groups)
            for layer in layers:
                if layer not in self._fused:
                    self._fused[layer] = _FusedLayer(layer, self._parts)
                fused = self._fused[layer]
                dtype = cast or fused.dtype
                if dtype not in runs:
                    runs[dtype] = _Run.of(dtype, allowed, corrections, record)
                x_PH = fused(x_PH, runs[dtype])
                for own, state_BTH in zip(states, runs[dtype].by_group(x_PH), strict=True):
                    own.append(state_BTH)
        return states


@dataclass(frozen=True)
class _Run:
    """One forward.

    Attributes:
        dtype: of products.
        shapes: (B, T) of each group.
        masks: of each group, added to attention's scores (B, 1, T, T).
        corrections: see `FusedLayers.states`.
        record: see `FusedLayers.states`.
    """

    dtype: torch.dtype
    shapes: Sequence[tuple[int, int]]
    masks: Sequence[Tensor]
    corrections: Sequence[Correction] | None
    record: Record | None

    @classmethod
    def of(
        cls,
        dtype: torch.dtype,
        allowed: Sequence[Tensor],
        corrections: Sequence[Correction] | None,
        record: Record | None,
    ) -> _Run:
        """Arguments as for `FusedLayers.states`."""
        masks = []
        for allowed_B1TT in allowed:
            type_of_scores = dtype if record is None else torch.promote_types(dtype, torch.float32)
            none = torch.zeros(allowed_B1TT.shape, dtype=type_of_scores, device=allowed_B1TT.device)
            masks.append(none.masked_fill_(~allowed_B1TT, -torch.inf))
        shapes = [(mask_B1TT.shape[0], mask_B1TT.shape[2]) for mask_B1TT in masks]
        return cls(dtype, shapes, masks, corrections, record)

    def by_group(self, x_PI: Tensor) -> list[Tensor]:
        """Views (B, T, I) of each group's pieces."""
        if len(self.shapes) == 1:
            return [x_PI.view(*self.shapes[0], -1)]
        sizes = [rows * pieces for rows, pieces in self.shapes]
        parts = torch.split_with_sizes(x_PI, [*sizes, len(x_PI) - sum(sizes)])
        return [part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=False)]


class _FusedLayer:
    """One layer; see the top of this module."""

    def __init__(self, layer: nn.Module, parts: LayerParts) -> None:
        attention: Any = layer.get_submodule(parts.attention)
        self._head_size, self._scaling = int(attention.attention_head_size), float(attention.scaling)
        self._attending = _Product([layer.get_submodule(name) for name in (parts.query, parts.key, parts.value)])
        self._mixing = _Product([layer.get_submodule(parts.mixing)])
        self._inner = _Product([layer.get_submodule(parts.inner)])
        self._outer = _Product([layer.get_submodule(parts.outer)])
        self._activation = layer.get_submodule(parts.activation)
        self._attention_norm, self._norm = (layer.get_submodule(name) for name in (parts.attention_norm, parts.norm))

    @property
    def dtype(self) -> torch.dtype:
        """That the weights have."""
        return self._mixing.layers[0].weight.dtype

    def __call__(self, x_PH: Tensor, run: _Run) -> Tensor:
        attending_PO = self._attending(x_PH.to(run.dtype), run)
        mixed_PH = self._mixing(self._attention(attending_PO, run), run)
        attended_PH = _normed(self._attention_norm, mixed_PH, x_PH, run)
        inner_PO = self._inner(attended_PH.to(run.dtype), run)
        outer_PH = self._outer(self._activation(inner_PO), run)
        return _normed(self._norm, outer_PH, attended_PH, run)

    def _attention(self, attending_PO: Tensor, run: _Run) -> Tensor:
        """Values weighted by attention (P, H), from queries, keys and values side by side."""
        mixed = []
        for group_BTO, mask_B1TT in zip(run.by_group(attending_PO), run.masks, strict=True):
            heads_BT3AD = group_BTO.to(mask_B1TT.dtype).view(*group_BTO.shape[:2], 3, -1, self._head_size)
            query_BATD, key_BATD, value_BATD = heads_BT3AD.permute(2, 0, 3, 1, 4).unbind(0)
            mixed_BATD = functional.scaled_dot_product_attention(
                query_BATD, key_BATD, value_BATD, attn_mask=mask_B1TT, scale=self._scaling
            )
            mixed.append(mixed_BATD.transpose(1, 2).to(run.dtype).flatten(2))
        return _behind_each_other(mixed)


class _Product:
    """Linear layers that share an input, as one product."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = [layer for layer in layers if isinstance(layer, nn.Linear)]
        self._made_for: tuple[torch.dtype, torch.device] | None = None
        self._forward: _Weight | None = None
        self._backward: _Weight | None = None

    def __call__(self, x_PI: Tensor, run: _Run) -> Tensor:
        """The layers' outputs side by side (P, O)."""
        if self._made_for != (x_PI.dtype, x_PI.device):
            self._forward = self._backward = None
            self._made_for = x_PI.dtype, x_PI.device
        if self._forward is None:
            self._forward = self._weight(x_PI.dtype)
        if run.record is not None:
            return self._recorded(x_PI, self._forward, run.record)
        y_PO = self._forward(x_PI)
        if run.corrections is not None:
            parts = zip(run.corrections, run.by_group(x_PI), run.by_group(y_PO), strict=True)
            for correction, x_BTI, y_BTO in parts:
                correction.add(self.layers, x_BTI, y_BTO)
        return y_PO

    def _recorded(self, x_PI: Tensor, forward: _Weight, record: Record) -> Tensor:
        if self._backward is None:
            self._backward = self._weight(x_PI.dtype, transposed=True)
        y_PO: Tensor = _DifferentiableProduct.apply(x_PI, forward, self._backward)  # type: ignore[no-untyped-call]
        if not y_PO.requires_grad:  # nothing below it does
            y_PO.requires_grad_()
        record(self.layers, x_PI, y_PO)
        return y_PO

    def _weight(self, dtype: torch.dtype, *, transposed: bool = False) -> _Weight:
        """The layers' weights as one; the layers stay as they are. Transposed there is no bias."""
        weights = [layer.weight.detach().to(dtype) for layer in self.layers]
        biases = [layer.bias.detach().to(dtype) for layer in self.layers if layer.bias is not None]
        weight_OI = torch.cat(weights) if len(weights) > 1 else weights[0]
        if transposed:
            return _Weight(weight_OI.T.contiguous(), None)
        return _Weight(weight_OI, (torch.cat(biases) if len(biases) > 1 else biases[0]) if biases else None)


class _Weight:
    """The weight (O, I) of a product, laid out for it, and its bias (O,)."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self._laid_out = weight_OI.dtype == torch.bfloat16 and weight_OI.device.type == "cpu" and lays_out()
        self._weight_OI = torch.ops.mkldnn._reorder_linear_weight(weight_OI) if self._laid_out else weight_OI
        self._bias_O = bias_O

    def __call__(self, x_PI: Tensor) -> Tensor:
        """The product (P, O)."""
        if not self._laid_out:
            return functional.linear(x_PI, self._weight_OI, self._bias_O)
        y_PO: Tensor = torch.ops.mkldnn._linear_pointwise(x_PI, self._weight_OI, self._bias_O, "none", [], "")
        return y_PO


class _DifferentiableProduct(torch.autograd.Function):
    """A product, and the gradient at its input, which is a product with the transposed weight."""

    @staticmethod
    def forward(ctx: Any, x_PI: Tensor, forward: _Weight, backward: _Weight) -> Tensor:
        """The product (P, O)."""
        ctx.transposed = backward
        return forward(x_PI)

    @staticmethod
    def backward(ctx: Any, grad_PO: Tensor) -> tuple[Tensor, None, None]:
        """The gradient (P, I) at the input."""
        return ctx.transposed(grad_PO.contiguous()), None, None


def lays_out() -> bool:
    """Whether torch can lay bf16 weights out for oneDNN on this CPU."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _behind_each_other(groups: Sequence[Tensor]) -> Tensor:
    """The pieces (P, I) of groups (B, T, I), and zeros behind the last group; see PIECES_STEP."""
    parts = [group_BTI.flatten(0, 1) for group_BTI in groups]
    if len(parts) == 1:
        return parts[0]
    if behind := -sum(map(len, parts)) % PIECES_STEP:
        parts.append(parts[0].new_zeros(behind, parts[0].shape[1]))
    return torch.cat(parts)


def _normed(norm: nn.Module, y_PH: Tensor, x_PH: Tensor, run: _Run) -> Tensor:
    """The norm of a sum, in the type of `x_PH`. The first summand is overwritten if it has that type."""
    assert isinstance(norm, nn.LayerNorm)
    y_PH = y_PH.to(x_PH.dtype)
    if run.record is not None:
        sum_PH = y_PH + x_PH
        normed_PH = functional.layer_norm(sum_PH, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        run.record([norm], sum_PH, normed_PH)
        return normed_PH
    sum_PH = y_PH.add_(x_PH)
    if run.corrections is None:
        return functional.layer_norm(sum_PH, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    normed_PH = normalised(norm, sum_PH)
    for correction, normed_BTH in zip(run.corrections, run.by_group(normed_PH), strict=True):
        correction.scale(norm, normed_BTH)
    return normed_PH
