"""Layers of BERT's kind as training runs them on a CPU: all word pieces behind each other, without padding.

What is computed is the same as by transformers' modules with the hooks of `metacross.fast_weights`: an episode's
pieces go through the layers under the episode's own weights, and inner steps are taken from the gradients at the
layers' outputs. There are these differences.

1. The pieces of all rows (P) stand behind each other. Only attention pads rows to the same length; what fast weights
   add takes one row after another, each at its own length.
2. Query, key and value are one product.
3. A product, what fast weights add to it, and the backward of both are one operation for autograd.
4. With bf16 only the products with weights run in it. Everything else, also what fast weights add, stays in the type
   of the weights: oneDNN would make a kernel for every pair of lengths.

`PackedLayers` holds weights as they were when it was made, and so is made anew for every meta-batch. It takes the type
of products from autocast then; its forwards and steps run without autocast.

Shapes: E rows (episodes), T places of a row, P word pieces of all rows, H hidden size, A heads, D size of a head, I and
O a product's inputs and outputs, N support pieces of a row, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metacross.encoder.families import LayerParts
from metacross.encoder.fused import PIECES_STEP
from metacross.fast_weights import NormShift, inverse_length, normalised


@dataclass(frozen=True)
class PackedStep:
    """One inner step of every row.

    Attributes:
        products: by the first of the linear layers that share an input, that input and the gradients at their outputs
            side by side, a pair of tensors (N, I) and (N, O) for each row.
        norms: what was added to a norm's scale and shift, by this step and all before it.
        step_E1: minus the inner learning rate, divided by the gradient's length if steps are normalized.
    """

    products: Mapping[nn.Module, Sequence[tuple[Tensor, Tensor]]]
    norms: Mapping[nn.Module, NormShift]
    step_E1: Tensor


@dataclass
class PackedRecording:
    """Inputs and outputs, of all pieces, of the layers that inner steps change, during one forward.

    Attributes:
        layout: of the rows.
        products: by the first of the linear layers that share an input: (P, I), and (P, O) side by side.
        norms: by norm, (P, H) each.
    """

    layout: _Layout
    products: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)
    norms: dict[nn.LayerNorm, tuple[Tensor, Tensor]] = field(default_factory=dict)


class PackedLayers:
    """The layers above the trunk and the tag head, with the weights that they have now.

    Args:
        layers: above the trunk.
        head: the tag head.
        parts: where the layers' family keeps their parts.
        first_inner: index, among `layers`, of the lowest that inner steps change.
    """

    def __init__(self, layers: Sequence[nn.Module], head: nn.Module, parts: LayerParts, first_inner: int) -> None:
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        self._layers = [_PackedLayer(layer, parts, cast) for layer in layers]
        self._head = _Product([head], cast)
        self._first_inner = first_inner

    def logits(self, hidden_ETH: Tensor, segments_ET: Tensor, steps: Sequence[PackedStep]) -> Tensor:
        """Tag scores (E, T, C) after inner steps; a backward leaves gradients in the layers' parameters.

        Args:
            hidden_ETH: states below the layers.
            segments_ET: see `Rows`.
            steps: that were taken from theta.
        """
        return self._run(hidden_ETH, _Layout.of(segments_ET, hidden_ETH.dtype), steps, None)

    def recorded_logits(
        self, hidden_ETH: Tensor, segments_ET: Tensor, steps: Sequence[PackedStep]
    ) -> tuple[Tensor, PackedRecording]:
        """The same to take a step from, and what `take_packed_step` needs besides."""
        recording = PackedRecording(_Layout.of(segments_ET, hidden_ETH.dtype))
        return self._run(hidden_ETH, recording.layout, steps, recording), recording

    def _run(
        self, hidden_ETH: Tensor, layout: _Layout, steps: Sequence[PackedStep], recording: PackedRecording | None
    ) -> Tensor:
        x_PH = hidden_ETH.flatten(0, 1).index_select(0, layout.places_P)
        for i, layer in enumerate(self._layers):
            inner = i >= self._first_inner
            run = _Run(layout, steps if inner else (), recording if inner else None, recording is None)
            x_PH = layer(x_PH, run)
        return layout.in_rows(self._head(x_PH, _Run(layout, steps, recording, recording is None)))


def take_packed_step(
    steps: Sequence[PackedStep], recording: PackedRecording, loss: Tensor, *, inner_lr: float, normalized: bool
) -> list[PackedStep]:
    """Takes one more inner step of every row; arguments as for `metacross.fast_weights.take_step`."""
    layout = recording.layout
    outputs = [y_PO for _, y_PO in (*recording.products.values(), *recording.norms.values())]
    grads = iter(torch.autograd.grad(loss, outputs))
    products = {
        layer: list(zip(layout.by_row(x_PI), layout.by_row(next(grads)), strict=True))
        for layer, (x_PI, _) in recording.products.items()
    }
    shifts = {}
    for norm, (x_PH, _) in recording.norms.items():
        grad_PH = next(grads)
        shifts[norm] = layout.sums(normalised(norm, x_PH) * grad_PH), layout.sums(grad_PH)
    if normalized:
        step_E1 = -inner_lr * inverse_length(_squared_lengths(products, shifts))[:, None]
    else:
        step_E1 = loss.new_full((len(layout.sizes), 1), -inner_lr)
    norms: dict[nn.Module, NormShift] = {}
    for norm, (scale_EH, shift_EH) in shifts.items():
        scale_EH, shift_EH = scale_EH * step_E1, shift_EH * step_E1
        if steps:
            before = steps[-1].norms[norm]
            assert before.shift_EO is not None
            scale_EH, shift_EH = before.scale_EO + scale_EH, before.shift_EO + shift_EH
        norms[norm] = NormShift(scale_EH, shift_EH)
    return [*steps, PackedStep(products, norms, step_E1)]


def _squared_lengths(
    products: Mapping[nn.Module, Sequence[tuple[Tensor, Tensor]]], shifts: Mapping[nn.LayerNorm, tuple[Tensor, Tensor]]
) -> Tensor:
    """Each row's squared gradient length (E,), as `metacross.fast_weights.gradient_squared_norm` has it."""
    parts = []
    for factors in products.values():
        grams = [(x_NI @ x_NI.T + 1) * (grad_NO @ grad_NO.T) for x_NI, grad_NO in factors]
        parts.append(torch.stack([gram_NN.sum() for gram_NN in grams]))
    parts += [grad_EH.square().sum(1) for pair in shifts.values() for grad_EH in pair]
    return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class _Layout:
    """Where the pieces of padded rows stand when they are packed.

    Attributes:
        shape: (E, T) of the padded rows.
        sizes: pieces of each row.
        places_P: each piece's place in the padded rows, of which one stands behind another.
        pieces_ET: of each such place its piece; of padding any.
        row_P: each piece's row.
        mask_E1TT: added to attention's scores.
    """

    shape: torch.Size
    sizes: Sequence[int]
    places_P: Tensor
    pieces_ET: Tensor
    row_P: Tensor
    mask_E1TT: Tensor

    @classmethod
    def of(cls, segments_ET: Tensor, dtype: torch.dtype) -> _Layout:
        """That of rows with these segments; the mask has the type `dtype`."""
        places_P = segments_ET.flatten().nonzero().squeeze(1)
        pieces_ET = torch.zeros(segments_ET.numel(), dtype=torch.long)
        pieces_ET[places_P] = torch.arange(len(places_P))
        # Padding has segment 0 and attends to itself: a place that attends to nothing would give NaN.
        apart_E1TT = (segments_ET.unsqueeze(1) != segments_ET.unsqueeze(2)).unsqueeze(1)
        mask_E1TT = torch.zeros(apart_E1TT.shape, dtype=dtype).masked_fill_(apart_E1TT, -torch.inf)
        sizes = segments_ET.count_nonzero(1).tolist()
        return cls(segments_ET.shape, sizes, places_P, pieces_ET, places_P // segments_ET.shape[1], mask_E1TT)

    def by_row(self, x_PI: Tensor) -> Sequence[Tensor]:
        """Views (N, I) of each row's pieces."""
        return x_PI.split_with_sizes(list(self.sizes))

    def in_rows(self, x_PI: Tensor) -> Tensor:
        """The pieces in padded rows (E, T, I). Padding has anything, and what comes back there is dropped."""
        x: Tensor = _Moved.apply(x_PI, self.pieces_ET, self.places_P)  # type: ignore[no-untyped-call]
        return x.view(*self.shape, -1)

    def packed(self, x_ETI: Tensor) -> Tensor:
        """The pieces (P, I) out of padded rows. What comes back at padding is anything."""
        x: Tensor = _Moved.apply(x_ETI.flatten(0, 1), self.places_P, self.pieces_ET)  # type: ignore[no-untyped-call]
        return x

    def sums(self, x_PI: Tensor) -> Tensor:
        """Sums (E, I) over each row's pieces."""
        return x_PI.new_zeros((len(self.sizes), x_PI.shape[1])).index_add_(0, self.row_P, x_PI)


class _Moved(torch.autograd.Function):
    """Pieces put elsewhere."""

    @staticmethod
    def forward(ctx: Any, x_PI: Tensor, there: Tensor, back: Tensor) -> Tensor:
        """The pieces of these indices."""
        ctx.back = back
        return x_PI.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Their gradients, at the pieces of these indices."""
        return grad.index_select(0, ctx.back), None, None


@dataclass(frozen=True)
class _Run:
    """What a layer's forward does.

    Attributes:
        layout: of the rows.
        steps: inner steps that were taken.
        recording: gets inputs and outputs, if a step is to be taken.
        trains: whether parameters get gradients.
    """

    layout: _Layout
    steps: Sequence[PackedStep]
    recording: PackedRecording | None
    trains: bool

    def factors(self, layer: nn.Module) -> list[Sequence[tuple[Tensor, Tensor, Tensor]]]:
        """For each step, and in it each row, a product's inputs, gradients and step size."""
        return [
            [(x_NI, grad_NO, lr) for (x_NI, grad_NO), lr in zip(step.products[layer], step.step_E1, strict=True)]
            for step in self.steps
        ]


class _PackedLayer:
    """One layer; see the top of this module."""

    def __init__(self, layer: nn.Module, parts: LayerParts, cast: torch.dtype | None) -> None:
        attention: Any = layer.get_submodule(parts.attention)
        self._head_size, self._scaling = int(attention.attention_head_size), float(attention.scaling)
        attending = [layer.get_submodule(name) for name in (parts.query, parts.key, parts.value)]
        self._attending = _Product(attending, cast)
        self._mixing = _Product([layer.get_submodule(parts.mixing)], cast)
        self._inner = _Product([layer.get_submodule(parts.inner)], cast)
        self._outer = _Product([layer.get_submodule(parts.outer)], cast)
        self._activation = layer.get_submodule(parts.activation)
        self._attention_norm, self._norm = (layer.get_submodule(name) for name in (parts.attention_norm, parts.norm))

    def __call__(self, x_PH: Tensor, run: _Run) -> Tensor:
        mixed_PH = self._mixing(self._attention(self._attending(x_PH, run), run.layout), run)
        attended_PH = _normed(self._attention_norm, mixed_PH + x_PH, run)
        outer_PH = self._outer(self._activation(self._inner(attended_PH, run)), run)
        return _normed(self._norm, outer_PH + attended_PH, run)

    def _attention(self, attending_PO: Tensor, layout: _Layout) -> Tensor:
        """Values weighted by attention (P, H), from queries, keys and values side by side."""
        heads_ET3AD = layout.in_rows(attending_PO).view(*layout.shape, 3, -1, self._head_size)
        query_EATD, key_EATD, value_EATD = heads_ET3AD.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_EATD = functional.scaled_dot_product_attention(
            query_EATD, key_EATD, value_EATD, attn_mask=layout.mask_E1TT, scale=self._scaling
        )
        return layout.packed(mixed_EATD.transpose(1, 2).flatten(2))


class _Product:
    """Linear layers that share an input, as one product.

    Args:
        layers: the linear layers.
        cast: the type of the product; by default that of the weights.
    """

    def __init__(self, layers: Sequence[nn.Module], cast: torch.dtype | None) -> None:
        self._layers = [layer for layer in layers if isinstance(layer, nn.Linear)]
        weights, biases = [layer.weight for layer in self._layers], [layer.bias for layer in self._layers]
        self._parameters = [*weights, *biases]
        self._weight_OI, self._bias_O = _joined(weights, cast), _joined(biases, cast)

    def __call__(self, x_PI: Tensor, run: _Run) -> Tensor:
        """The layers' outputs side by side (P, O)."""
        parameters = self._parameters if run.trains else ()
        factors = run.factors(self._layers[0])
        y_PO: Tensor = _DifferentiableProduct.apply(  # type: ignore[no-untyped-call]
            x_PI, self._weight_OI, self._bias_O, run.layout, factors, *parameters
        )
        if run.recording is not None:
            if not y_PO.requires_grad:  # nothing below it does
                y_PO.requires_grad_()
            run.recording.products[self._layers[0]] = x_PI.detach(), y_PO
        return y_PO


class _DifferentiableProduct(torch.autograd.Function):
    """A product and what fast weights add to it."""

    @staticmethod
    def forward(
        ctx: Any,
        x_PI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor,
        layout: _Layout,
        factors: Sequence[Sequence[tuple[Tensor, Tensor, Tensor]]],
        *parameters: nn.Parameter,
    ) -> Tensor:
        """The outputs (P, O).

        Args:
            ctx: of autograd.
            x_PI: inputs.
            weight_OI: the layers' weights, in the type of the product.
            bias_O: their biases, in this type too.
            layout: of the rows.
            factors: see `_Run.factors`.
            parameters: that get gradients: weights and biases of the layers that share the input, or none.
        """
        typed_PI = _typed(x_PI, weight_OI.dtype)
        y_PO = torch.addmm(bias_O, typed_PI, weight_OI.T)[: len(x_PI)].to(x_PI.dtype)
        one = x_PI.new_ones(1)
        for step in factors:
            rows = zip(layout.by_row(x_PI), layout.by_row(y_PO), step, strict=True)
            for x_TI, y_TO, (inputs_NI, grads_NO, lr) in rows:
                scores_TN = torch.addmm(one, x_TI, inputs_NI.T).mul_(lr)
                torch.addmm(y_TO, scores_TN, grads_NO, out=y_TO)
        ctx.save_for_backward(typed_PI)
        ctx.weight_OI, ctx.layout, ctx.factors, ctx.layers = weight_OI, layout, factors, len(parameters) // 2
        return y_PO

    @staticmethod
    def backward(ctx: Any, grad_PO: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients at the inputs (P, I), and of the parameters."""
        (typed_PI,) = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            typed_PO = _typed(grad_PO, ctx.weight_OI.dtype)
            grad_PI = _DifferentiableProduct._at_inputs(ctx, grad_PO, typed_PO) if ctx.needs_input_grad[0] else None
            of_parameters: list[Tensor] = []
            if ctx.layers:
                of_parameters += torch.mm(typed_PO.T, typed_PI).to(grad_PO.dtype).chunk(ctx.layers)
                of_parameters += grad_PO.sum(0).chunk(ctx.layers)
        return grad_PI, None, None, None, None, *of_parameters

    @staticmethod
    def _at_inputs(ctx: Any, grad_PO: Tensor, typed_PO: Tensor) -> Tensor:
        grad_PI = torch.mm(typed_PO, ctx.weight_OI)[: len(grad_PO)].to(grad_PO.dtype)
        for step in ctx.factors:
            rows = zip(ctx.layout.by_row(grad_PO), ctx.layout.by_row(grad_PI), step, strict=True)
            for grad_TO, grad_TI, (inputs_NI, grads_NO, lr) in rows:
                torch.addmm(grad_TI, torch.mm(grad_TO, grads_NO.T).mul_(lr), inputs_NI, out=grad_TI)
        return grad_PI


def _joined(parameters: Sequence[Tensor], cast: torch.dtype | None) -> Tensor:
    """Weights or biases of layers as one, in another type if `cast` says so."""
    one = (torch.cat(list(parameters)) if len(parameters) > 1 else parameters[0]).detach()
    return one.to(cast or one.dtype)


def _typed(x_PI: Tensor, dtype: torch.dtype) -> Tensor:
    """The pieces in the type of a product; if it is another, zeros stand behind them, see PIECES_STEP."""
    if x_PI.dtype == dtype:
        return x_PI
    return functional.pad(x_PI.to(dtype), (0, 0, 0, -len(x_PI) % PIECES_STEP))


def _normed(norm: nn.Module, x_PH: Tensor, run: _Run) -> Tensor:
    """A norm's output under the fast weights."""
    assert isinstance(norm, nn.LayerNorm)
    if run.steps:
        shift = run.steps[-1].norms[norm]
        assert shift.shift_EO is not None
        scale_PH, shift_PH = (s.index_select(0, run.layout.row_P) for s in (shift.scale_EO, shift.shift_EO))
        y_PH = torch.addcmul(norm.bias + shift_PH, normalised(norm, x_PH), norm.weight + scale_PH)
    else:
        y_PH = functional.layer_norm(x_PH, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    if run.recording is not None:
        run.recording.norms[norm] = x_PH.detach(), y_PH
    return y_PH
