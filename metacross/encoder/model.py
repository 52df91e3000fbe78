"""Encoder and tag head, split into a frozen trunk and the layers that adapt.

Shapes: B rows, T word pieces, H hidden size, C tags, E episodes (one row each).

The embeddings and the first `frozen_layers` layers never change. Their states are the same under all fast weights and
throughout training, so they are computed once per sentence (`trunk`). The layers above them and the tag head (`logits`)
are theta. A row may hold several sentences side by side: a piece attends to the pieces of its own segment only, and its
position counts from its segment's start, so packing changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from metacross.encoder.families import FAMILY, Family, refuse_family
from metacross.encoder.fused import FusedLayers, Record
from metacross.encoder.packed import PackedLayers
from metacross.errors import UserError
from metacross.fast_weights import Correction, FastLayers, FastWeights
from metacross.wording import counted


@dataclass(frozen=True)
class Rows:
    """States of word pieces laid out in rows, with what the layers above need besides.

    Attributes:
        hidden_BTH: the states.
        segments_BT: number of a piece's sentence within its row, from 1; 0 for padding.
        positions_BT: index of a piece within its sentence.
        tag_ids_BT: a word's tag id on its first piece, IGNORED elsewhere.
        sentences: most sentences in a row; to ask the tensors would let a GPU wait.
    """

    hidden_BTH: Tensor
    segments_BT: Tensor
    positions_BT: Tensor
    tag_ids_BT: Tensor
    sentences: int


class TagModel(nn.Module):
    """A token classification model with its trunk frozen and its upper layers ready for fast weights.

    Args:
        classifier: a Hugging Face token classification model of one of the families in `families`; it is not copied.
        frozen_layers: the first layers that stay as pre-trained (paper: 4 of 12); the embeddings always do.

    Attributes:
        fast_layers: the adapted layers; `logits` runs with the fast weights that are set there.
        first_inner: index of the lowest layer that inner steps change; see `choose_inner_layers`.

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
                f"model.frozen_layers={frozen_layers} but the encoder has {counted(len(self.layers), 'layers')}: "
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
        self.first_inner = frozen_layers

    def choose_inner_layers(self, layers: int | Literal["all"]) -> None:
        """Lets inner steps change only the uppermost layers and the tag head; theta keeps all adapted layers.

        Args:
            layers: their number, or all.

        Raises:
            UserError: not so many layers are adapted.
        """
        adapted = len(self.layers) - self.frozen_layers
        if layers != "all" and layers > adapted:
            raise UserError(
                f"inner.layers={layers} but only {adapted} of the encoder's {counted(len(self.layers), 'layers')} can "
                f"be adapted: choose 1 to {adapted}, or all"
            )
        self.first_inner = len(self.layers) - (adapted if layers == "all" else layers)
        chosen = [f"layers.{i}." for i in range(self.first_inner, len(self.layers))]
        self.fast_layers.follow([*chosen, *filter(None, [self.family.final_norm]), *self.family.head])

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.classifier.parameters()).device

    def theta(self) -> list[nn.Parameter]:
        """The adapted parameters, in a fixed order."""
        return [p for layer in self.fast_layers.layers.values() for p in layer.parameters(recurse=False)]

    def inner_theta(self) -> list[nn.Parameter]:
        """Those of them that inner steps change."""
        return [p for layer in self.fast_layers.followed() for p in layer.parameters(recurse=False)]

    def fuse(self) -> None:
        """Forwards without gradient take fewer operations from now on. The weights must not change any more."""
        self.stack.fuse()

    @property
    def fused(self) -> bool:
        """Whether groups of rows that differ in length run together; otherwise one group runs after another."""
        return self.stack.fused

    def trunk(self, piece_ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """States below the adapted layers, (B, T, H).

        Args:
            piece_ids_BT: one sentence per row.
            segments_BT: 1 for the sentence, 0 for padding.
        """
        return self.trunks([(piece_ids_BT, segments_BT)])[0]

    @torch.no_grad()
    def trunks(self, groups: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """States below the adapted layers of several groups of rows; what a group has is given to `trunk`."""
        embedded = []
        for piece_ids_BT, segments_BT in groups:
            positions_BT = torch.arange(piece_ids_BT.shape[1], device=piece_ids_BT.device).expand_as(piece_ids_BT)
            hidden_BTH = self.family.embed(self.encoder, piece_ids_BT, positions_BT * segments_BT.clamp(max=1))
            embedded.append(Rows(hidden_BTH, segments_BT, positions_BT, segments_BT, sentences=1))
        return [states[-1] for states in self.stack.states(self.layers[: self.frozen_layers], embedded)]

    def packed(self) -> PackedLayers | None:
        """The layers above the trunk and the tag head for a meta-batch, if they are of BERT's kind and on a CPU.

        On a GPU padding is nearly free, and one row after another would be more operations.
        """
        if self.family.parts is None or self.device.type != "cpu":
            return None
        head: nn.Module = self.classifier.get_submodule(*self.family.head)
        upper = self.layers[self.frozen_layers :]
        return PackedLayers(list(upper), head, self.family.parts, self.first_inner - self.frozen_layers)

    def logits(self, rows: Rows) -> Tensor:
        """Tag scores (B, T, C) from trunk states, by theta or by the fast weights set in `fast_layers`."""
        return self.head(self.states(rows)[-1])

    def states(self, rows: Rows) -> list[Tensor]:
        """States (B, T, H) after each of the layers above the trunk, from trunk states, by the same weights."""
        fast = self.fast_layers
        if not self.fused or fast.recording or torch.is_grad_enabled():
            return self.stack.states(self.layers[self.frozen_layers :], [rows], modules=True)[0][1:]
        return self._fused_states([rows], corrections=fast.corrections())[0]

    def states_of(self, groups: Sequence[Rows], fast_weights: Sequence[FastWeights]) -> list[list[Tensor]]:
        """The states of several groups of rows, each by fast weights of its own."""
        if not self.fused or torch.is_grad_enabled():
            out = []
            for rows, weights in zip(groups, fast_weights, strict=True):
                with self.fast_layers.running(weights):
                    out.append(self.states(rows))
            return out
        return self._fused_states(groups, corrections=self.fast_layers.corrections(fast_weights))

    def recorded_logits(self, groups: Sequence[Rows]) -> list[Tensor]:
        """The tag scores of several groups of rows by theta, to be differentiated; `fast_layers` is recording.

        A model that is not fused takes one group, since its layers are recorded once.
        """
        if not self.fused:
            (rows,) = groups
            return [self.logits(rows)]
        last = [states[-1] for states in self._fused_states(groups, record=self.fast_layers.record)]
        logits_PC = self.head(torch.cat([hidden_BTH.flatten(0, 1) for hidden_BTH in last]).unsqueeze(0)).squeeze(0)
        parts = torch.split_with_sizes(logits_PC, [hidden_BTH.shape[:2].numel() for hidden_BTH in last])
        return [part.view(*hidden_BTH.shape[:2], -1) for part, hidden_BTH in zip(parts, last, strict=True)]

    def _fused_states(
        self, groups: Sequence[Rows], *, corrections: Sequence[Correction] | None = None, record: Record | None = None
    ) -> list[list[Tensor]]:
        """For each group the states after each of the layers above the trunk; arguments as for `LayerStack.states`."""
        upper, below = self.layers[self.frozen_layers :], self.first_inner - self.frozen_layers
        if not below or (corrections is None and record is None):
            found = self.stack.states(upper, groups, corrections=corrections, record=record)
            return [states[1:] for states in found]
        with torch.no_grad():
            lower = self.stack.states(upper[:below], groups)
        raised = [replace(rows, hidden_BTH=states[-1]) for rows, states in zip(groups, lower, strict=True)]
        found = self.stack.states(upper[below:], raised, corrections=corrections, record=record)
        return [[*before[1:], *states[1:]] for before, states in zip(lower, found, strict=True)]

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

    @property
    def fused(self) -> bool:
        """Whether layers run fused."""
        return self._fused is not None

    def states(
        self,
        layers: Iterable[nn.Module],
        groups: Sequence[Rows],
        *,
        corrections: Sequence[Correction] | None = None,
        record: Record | None = None,
        modules: bool = False,
    ) -> list[list[Tensor]]:
        """For each group the states (B, T, H) that go into the first layer, and those that come out of each.

        Args:
            layers: that run.
            groups: what they run on.
            corrections: what the layers' hooks do to each group's outputs, for a forward without the modules.
            record: called for every product and norm, for a fused forward that is differentiated.
            modules: whether hooks are to see inputs and outputs, so that the modules have to run.
        """
        if self._fused is not None and not modules and (record is not None or not torch.is_grad_enabled()):
            hidden, allowed = [rows.hidden_BTH for rows in groups], [same_sentence(rows) for rows in groups]
            return self._fused.states(layers, hidden, allowed, corrections, record)
        return [self._states_by_modules(layers, rows) for rows in groups]

    def _states_by_modules(self, layers: Iterable[nn.Module], rows: Rows) -> list[Tensor]:
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
