"""Encoder and tag head, split into a frozen trunk and the layers that adapt.

Shapes: B rows, T word pieces, H hidden size, C tags, E episodes (one row each).

The embeddings and the first `frozen_layers` layers never change. Their states are the same under all fast weights and
throughout training, so they are computed once per sentence (`trunk`). The layers above them and the tag head (`logits`)
are theta. A row may hold several sentences side by side: a piece attends to the pieces of its own segment only, and its
position counts from its segment's start, so packing changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from metacross.encoder.families import FAMILY, Family, refuse_family
from metacross.encoder.fused import Correct, FusedLayers
from metacross.errors import UserError
from metacross.fast_weights import FastLayers


@dataclass(frozen=True)
class Rows:
    """States of word pieces laid out in rows, with what the layers above need besides.

    Attributes:
        hidden_BTH: the states.
        segments_BT: number of a piece's sentence within its row, from 1; 0 for padding.
        positions_BT: index of a piece within its sentence.
        tag_ids_BT: a word's tag id on its first piece, IGNORED elsewhere.
    """

    hidden_BTH: Tensor
    segments_BT: Tensor
    positions_BT: Tensor
    tag_ids_BT: Tensor


class TagModel(nn.Module):
    """A token classification model with its trunk frozen and its upper layers ready for fast weights.

    Args:
        classifier: a Hugging Face token classification model of one of the families in `families`; it is not copied.
        frozen_layers: the first layers that stay as pre-trained (paper: 4 of 12); the embeddings always do.

    Attributes:
        fast_layers: the adapted layers; `logits` runs with the fast weights that are set there.

    Raises:
        UserError: an encoder whose layers the fast weights cannot follow, or too many frozen layers.
    """

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int) -> None:
        super().__init__()
        kind = classifier.config.model_type
        refuse_family(kind)
        self.family = FAMILY[kind]
        self.classifier = classifier
        self.encoder = getattr(classifier, self.family.encoder)
        self.layers = self.family.layers(self.encoder)
        self.stack = LayerStack(self.encoder, self.family)
        if not 0 <= frozen_layers < len(self.layers):
            raise UserError(
                f"model.frozen_layers={frozen_layers} but the encoder has {len(self.layers)} layers: "
                f"choose 0 to {len(self.layers) - 1}"
            )
        self.frozen_layers = frozen_layers
        if getattr(classifier.config, "chunk_size_feed_forward", 0):
            raise UserError("config.chunk_size_feed_forward must be 0: fast weights cannot follow chunked layers")
        classifier.train(False)  # no dropout anywhere: adaptation is deterministic and training a function of its seed
        classifier.requires_grad_(False)
        upper = {f"layers.{i}": layer for i, layer in enumerate(self.layers) if i >= frozen_layers}
        if self.family.final_norm:
            upper[self.family.final_norm] = getattr(self.encoder, self.family.final_norm)
        upper |= {name: getattr(classifier, name) for name in self.family.head}
        for module in upper.values():
            module.requires_grad_(True)
        self.fast_layers = FastLayers(upper)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.classifier.parameters()).device

    def theta(self) -> list[nn.Parameter]:
        """The adapted parameters, in a fixed order."""
        return [p for layer in self.fast_layers.layers.values() for p in layer.parameters(recurse=False)]

    def fuse(self) -> None:
        """Forwards without gradient take fewer operations from now on. The weights must not change any more."""
        self.stack.fuse()

    @torch.no_grad()
    def trunk(self, piece_ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """States below the adapted layers, (B, T, H).

        Args:
            piece_ids_BT: one sentence per row.
            segments_BT: 1 for the sentence, 0 for padding.
        """
        positions_BT = torch.arange(piece_ids_BT.shape[1], device=piece_ids_BT.device).expand_as(piece_ids_BT)
        hidden_BTH = self.family.embed(self.encoder, piece_ids_BT, positions_BT * segments_BT.clamp(max=1))
        rows = Rows(hidden_BTH, segments_BT, positions_BT, segments_BT)
        return self.stack.states(self.layers[: self.frozen_layers], rows)[-1]

    def logits(self, rows: Rows) -> Tensor:
        """Tag scores (B, T, C) from trunk states, by theta or by the fast weights set in `fast_layers`."""
        return self.head(self.states(rows)[-1])

    def states(self, rows: Rows) -> list[Tensor]:
        """States (B, T, H) after each of the layers above the trunk, from trunk states, by the same weights."""
        fast = self.fast_layers
        upper = self.layers[self.frozen_layers :]
        return self.stack.states(upper, rows, correct=fast.correction(), recorded=fast.recording)[1:]

    def head(self, hidden_BTH: Tensor) -> Tensor:
        """Tag scores (B, T, C) from the last layer's states, by the same weights."""
        if self.family.final_norm:
            hidden_BTH = getattr(self.encoder, self.family.final_norm)(hidden_BTH)
        for name in self.family.head:
            hidden_BTH = getattr(self.classifier, name)(hidden_BTH)
        return hidden_BTH


class LayerStack:
    """Runs layers of an encoder, one after the other: as transformers' modules do or, once told to, fused.

    Args:
        encoder: that the layers belong to.
        family: its family.
    """

    def __init__(self, encoder: Any, family: Family) -> None:
        self._encoder, self._family = encoder, family
        self._fused: FusedLayers | None = None

    def fuse(self) -> None:
        """Forwards without gradient run fused from now on, see `encoder.fused`, where the family is of BERT's kind."""
        self._fused = FusedLayers(self._family.parts) if self._family.parts else None

    def states(
        self, layers: Iterable[nn.Module], rows: Rows, *, correct: Correct | None = None, recorded: bool = False
    ) -> list[Tensor]:
        """The states (B, T, H) that go into the first layer, and those that come out of each.

        Args:
            layers: that run.
            rows: what they run on.
            correct: what the layers' hooks do to outputs, for a forward without the modules.
            recorded: whether hooks are to see inputs and outputs, so that the modules have to run.
        """
        if self._fused is not None and not torch.is_grad_enabled() and not recorded:
            return self._fused.states(layers, rows.hidden_BTH, same_sentence(rows), correct)
        states = [rows.hidden_BTH]
        extra = layer_arguments(self._encoder, self._family, rows)
        for layer in layers:
            states.append(layer(states[-1], **extra(layer)))
        return states


def exact_backward(second_order: bool) -> AbstractContextManager[Any]:
    """Within the block attention can be differentiated twice if `second_order` asks for it: slower, but exact."""
    return sdpa_kernel(SDPBackend.MATH) if second_order else nullcontext()


def same_sentence(rows: Rows) -> Tensor:
    """Whether two pieces of a row are of the same sentence (B, 1, T, T), so that one attends to the other."""
    # Padding has segment 0 and attends to itself: a piece that attends to nothing would give NaN.
    return (rows.segments_BT.unsqueeze(1) == rows.segments_BT.unsqueeze(2)).unsqueeze(1)


def layer_arguments(encoder: Any, family: Family, rows: Rows) -> Callable[[nn.Module], dict[str, Any]]:
    """Returns a function from a layer to the arguments that it takes besides the states.

    Args:
        encoder: the encoder that the layers belong to.
        family: its family.
        rows: what the layers run on.
    """
    full_B1TT = same_sentence(rows)
    if not family.rotary:
        return lambda layer: {"attention_mask": full_B1TT}

    positions_BT = rows.positions_BT
    distance_BTT = (positions_BT.unsqueeze(1) - positions_BT.unsqueeze(2)).abs()
    masks = {
        "full_attention": full_B1TT,
        "sliding_attention": full_B1TT & (distance_BTT <= encoder.config.sliding_window).unsqueeze(1),
    }
    kinds: list[str] = encoder.rotary_emb.layer_types  # also those of layers that were dropped
    rotary = {kind: encoder.rotary_emb(rows.hidden_BTH, positions_BT, kind) for kind in kinds}
    return lambda layer: {
        "attention_mask": masks[str(layer.attention_type)],
        "position_embeddings": rotary[str(layer.attention_type)],
    }
