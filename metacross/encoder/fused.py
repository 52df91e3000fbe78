"""Layers of BERT's kind run without gradient, in fewer and faster operations than transformers' own modules take.

What is computed is the same: attention, a norm, two linear layers, a norm. There are these differences.

1. Query, key and value are one product.
2. On a CPU, bf16 weights are laid out for oneDNN once, and not in every product. A product gives the same bits.
3. Attention is torch's fused kernel, on views of the product. In bf16 it keeps scores in fp32, so the last bits of a
   result differ from those of `encoder.attention`, whose backward is faster.
4. The type of products is chosen once for all layers, and not by autocast in every operation.

What is made of the weights is made once. That they have changed could not be told for certain (torch's fused optimizers
and writes through `data` leave a parameter's version as it was), so only models whose weights are final run fused.

Shapes: B rows, T word pieces, H hidden size, A heads, D size of a head, I and O a product's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from metacross.encoder.families import LayerParts

# A module, its input and its output -> the output under fast weights.
Correct = Callable[[nn.Module, Tensor, Tensor], Tensor]


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

    @torch.no_grad()
    def states(
        self, layers: Iterable[nn.Module], hidden_BTH: Tensor, allowed_B1TT: Tensor, correct: Correct | None
    ) -> list[Tensor]:
        """The states (B, T, H) that go into the first layer, and those that come out of each.

        Args:
            layers: of the family.
            hidden_BTH: states below them.
            allowed_B1TT: whether a piece may attend to another; to one at least.
            correct: changes outputs of linear layers and norms by fast weights.
        """
        kind = hidden_BTH.device.type
        cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        states = [hidden_BTH]
        masks: dict[torch.dtype, Tensor] = {}
        with torch.autocast(kind, enabled=False):
            for layer in layers:
                if layer not in self._fused:
                    self._fused[layer] = _FusedLayer(layer, self._parts)
                fused = self._fused[layer]
                dtype = cast or fused.dtype
                if dtype not in masks:
                    none = torch.zeros(allowed_B1TT.shape, dtype=dtype, device=allowed_B1TT.device)
                    masks[dtype] = none.masked_fill_(~allowed_B1TT, -torch.inf)
                states.append(fused(states[-1], masks[dtype], dtype, correct))
        return states


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

    def __call__(self, x_BTH: Tensor, mask_B1TT: Tensor, dtype: torch.dtype, correct: Correct | None) -> Tensor:
        heads = (*x_BTH.shape[:2], -1, self._head_size)
        products = self._attending(x_BTH.to(dtype), correct)
        query_BATD, key_BATD, value_BATD = (y_BTH.view(heads).transpose(1, 2) for y_BTH in products)
        mixed_BATD = functional.scaled_dot_product_attention(
            query_BATD, key_BATD, value_BATD, attn_mask=mask_B1TT, scale=self._scaling
        )
        (mixed_BTH,) = self._mixing(mixed_BATD.transpose(1, 2).reshape(x_BTH.shape), correct)
        attended_BTH = _normed(self._attention_norm, mixed_BTH, x_BTH, correct)
        (inner_BTO,) = self._inner(attended_BTH.to(dtype), correct)
        (outer_BTH,) = self._outer(self._activation(inner_BTO), correct)
        return _normed(self._norm, outer_BTH, attended_BTH, correct)


class _Product:
    """Linear layers that share an input, as one product."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = [layer for layer in layers if isinstance(layer, nn.Linear)]
        self._sizes = [layer.out_features for layer in self.layers]
        self._made_for: tuple[torch.dtype, torch.device] | None = None
        self._weight_OI = torch.empty(0)
        self._bias_O: Tensor | None = None
        self._laid_out = False

    def __call__(self, x_BTI: Tensor, correct: Correct | None) -> Sequence[Tensor]:
        """Each layer's output (B, T, O)."""
        if self._made_for != (x_BTI.dtype, x_BTI.device):
            self._make(x_BTI.dtype)
            self._made_for = x_BTI.dtype, x_BTI.device
        if self._laid_out:
            y_BTO = torch.ops.mkldnn._linear_pointwise(x_BTI, self._weight_OI, self._bias_O, "none", [], "")
        else:
            y_BTO = functional.linear(x_BTI, self._weight_OI, self._bias_O)
        outputs = y_BTO.split(self._sizes, 2) if len(self.layers) > 1 else [y_BTO]
        if correct is None:
            return outputs
        return [correct(layer, x_BTI, own_BTO) for layer, own_BTO in zip(self.layers, outputs, strict=True)]

    def _make(self, dtype: torch.dtype) -> None:
        """Makes the product's weights of those of the layers, which stay as they are."""
        weights = [layer.weight.detach().to(dtype) for layer in self.layers]
        biases = [layer.bias.detach().to(dtype) for layer in self.layers if layer.bias is not None]
        self._weight_OI = torch.cat(weights) if len(weights) > 1 else weights[0]
        self._bias_O = torch.cat(biases) if len(biases) > 1 else biases[0] if biases else None
        self._laid_out = dtype == torch.bfloat16 and self._weight_OI.device.type == "cpu" and lays_out()
        if self._laid_out:
            self._weight_OI = torch.ops.mkldnn._reorder_linear_weight(self._weight_OI)


def lays_out() -> bool:
    """Whether torch can lay bf16 weights out for oneDNN on this CPU."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _normed(norm: nn.Module, y_BTH: Tensor, x_BTH: Tensor, correct: Correct | None) -> Tensor:
    """The norm of a sum, in the type of `x_BTH`. The first summand is overwritten if it has that type."""
    assert isinstance(norm, nn.LayerNorm)
    sum_BTH = y_BTH.to(x_BTH.dtype).add_(x_BTH)
    normed_BTH = functional.layer_norm(sum_BTH, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return normed_BTH if correct is None else correct(norm, sum_BTH, normed_BTH)
