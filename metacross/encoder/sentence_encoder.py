"""Sentence vectors from the pre-trained encoder, for retrieval.

Shapes: B sentences, T word pieces, H hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metacross.encoder.model import Rows, TagModel
from metacross.errors import UserError
from metacross.wording import counted


class SentenceEncoder(nn.Module):
    """Makes sentence vectors with the encoder as it was pre-trained, while theta changes.

    The trunk is shared with the model; the layers above it are copied. For that, both must see the same word pieces: so
    no prefix such as E5's "query: " is put before a sentence.

    Args:
        model: the model, its weights still as pre-trained.
        layer: number of the layer whose states are pooled; with `model.frozen_layers` nothing is copied.
        pooling: `mean` over a sentence's pieces, or `cls` for its first piece (released code).
        dropped: the pre-trained encoder's layers above those of the model.

    Attributes:
        size: length of a vector, H.

    Raises:
        UserError: there is no such layer, or it is inside the trunk.
    """

    def __init__(self, model: TagModel, *, layer: int, pooling: str, dropped: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        layers = [*model.layers, *dropped]
        if not 0 <= layer <= len(layers):
            raise UserError(f"retrieval.layer={layer} but the encoder has {counted(len(layers), 'layers')}")
        if layer < model.frozen_layers:
            raise UserError(
                f"retrieval.layer={layer} lies inside the frozen trunk: choose trunk (its last, "
                f"costs nothing) or up to {len(layers)}"
            )
        self.pooling = pooling
        self.first = model.frozen_layers
        self.family = model.family
        # The hooks of the adapted layers must not be copied: these layers never adapt.
        self.layers = nn.ModuleList(_plain_copy(one) for one in layers[self.first : layer])
        ends = layer == len(layers) and model.family.final_norm is not None
        self.norm = _plain_copy(getattr(model.encoder, str(model.family.final_norm))) if ends else nn.Identity()
        self.size = int(model.classifier.config.hidden_size)
        self._stack = model.stack
        self.requires_grad_(False)

    @torch.no_grad()
    def vectors(self, rows: Rows) -> Tensor:
        """Unit vectors (B, H) from trunk states; one sentence per row."""
        hidden_BTH = self.norm(self._stack.states(self.layers, [rows])[0][-1]).float()
        if self.pooling == "cls":
            pooled_BH = hidden_BTH[:, 0]
        else:
            real_BT1 = (rows.segments_BT > 0).unsqueeze(2)
            pooled_BH = (hidden_BTH * real_BT1).sum(1) / real_BT1.sum(1)
        return nn.functional.normalize(pooled_BH, dim=1)


def _plain_copy(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(module)
    for part in twin.modules():
        part._forward_hooks.clear()
    return twin.requires_grad_(False)
