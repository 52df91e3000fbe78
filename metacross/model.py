"""Encoder and tag head, split into a frozen trunk and the layers that adapt.

Shapes: B rows, T word pieces, H hidden size, C tags, E episodes (one row each).

Below `frozen_layers` nothing ever changes: embeddings and those layers give the same states under all fast weights
and all through training, so they run once per sentence (`trunk`). What stands above them (`logits`) is theta.
Rows may hold several sentences side by side: a piece attends to the pieces of its own segment only, and its position
counts from its segment's start, so packing changes no result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedModel

from metacross import attention
from metacross.errors import UserError
from metacross.fast_weights import FastLayers
from metacross.hub import only_local

FAMILIES = "BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, ELECTRA, ModernBERT"


@dataclass(frozen=True)
class Rows:
    """Piece states laid out in rows, with what is needed to go on from them."""

    hidden_BTH: Tensor
    segments_BT: Tensor  # 1.. for the sentences of a row, 0 for padding
    positions_BT: Tensor  # a piece's place in its own sentence
    tag_ids_BT: Tensor  # the tag of a word on its first piece, IGNORED elsewhere


IGNORED = -100


@dataclass(frozen=True)
class Family:
    """How one family of encoders is taken apart."""

    encoder: str  # attribute of the token classification model
    layers: Callable[[Any], nn.ModuleList]
    embed: Callable[[Any, Tensor, Tensor], Tensor]  # encoder, piece ids (B, T), positions (B, T) -> (B, T, H)
    final_norm: str | None = None  # after the last layer
    head: tuple[str, ...] = ("classifier",)
    rotary: bool = False


def _embed_bert(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    hidden_BTH: Tensor = encoder.embeddings(
        input_ids=piece_ids_BT, position_ids=positions_BT, token_type_ids=torch.zeros_like(piece_ids_BT)
    )
    return hidden_BTH


def _embed_roberta(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    # RoBERTa's positions start behind the padding id.
    return _embed_bert(encoder, piece_ids_BT, positions_BT + encoder.embeddings.padding_idx + 1)


def _embed_electra(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    hidden_BTH = _embed_bert(encoder, piece_ids_BT, positions_BT)
    return encoder.embeddings_project(hidden_BTH) if hasattr(encoder, "embeddings_project") else hidden_BTH


def _embed_distilbert(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    hidden_BTH: Tensor = encoder.embeddings(piece_ids_BT, position_ids=positions_BT)
    return hidden_BTH


def _embed_modernbert(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    hidden_BTH: Tensor = encoder.embeddings(input_ids=piece_ids_BT)
    return hidden_BTH


def _layers_of_encoder(encoder: Any) -> nn.ModuleList:
    layers: nn.ModuleList = encoder.encoder.layer
    return layers


FAMILY = {
    "bert": Family("bert", _layers_of_encoder, _embed_bert),
    "roberta": Family("roberta", _layers_of_encoder, _embed_roberta),
    "xlm-roberta": Family("roberta", _layers_of_encoder, _embed_roberta),
    "camembert": Family("roberta", _layers_of_encoder, _embed_roberta),
    "electra": Family("electra", _layers_of_encoder, _embed_electra),
    "distilbert": Family("distilbert", lambda encoder: encoder.transformer.layer, _embed_distilbert),
    "modernbert": Family(
        "model",
        lambda encoder: encoder.layers,
        _embed_modernbert,
        final_norm="final_norm",
        head=("head", "classifier"),
        rotary=True,
    ),
}


class TagModel(nn.Module):
    """A token classification model with its trunk frozen and its upper layers ready for fast weights.

    Args:
        classifier: a Hugging Face token classification model of one of the families above; it is used in place.
        frozen_layers: layers that stay as pre-trained; embeddings always do (paper: 4 of 12).

    Attributes:
        fast_layers: the adapted layers; `logits` runs with the fast weights set there.

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
        """Where the weights lie."""
        return next(self.classifier.parameters()).device

    def theta(self) -> list[nn.Parameter]:
        """The adapted parameters, in a fixed order."""
        return [p for layer in self.fast_layers.layers.values() for p in layer.parameters(recurse=False)]

    @torch.no_grad()
    def trunk(self, piece_ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """States below the adapted layers, (B, T, H); one sentence a row, segment 1, padding 0."""
        positions_BT = torch.arange(piece_ids_BT.shape[1], device=piece_ids_BT.device).expand_as(piece_ids_BT)
        hidden_BTH = self.family.embed(self.encoder, piece_ids_BT, positions_BT * segments_BT.clamp(max=1))
        rows = Rows(hidden_BTH, segments_BT, positions_BT, segments_BT)
        return self._run(self.layers[: self.frozen_layers], 0, rows)

    def logits(self, rows: Rows) -> Tensor:
        """Tag scores (B, T, C) from trunk states, by theta or by the fast weights set in `fast_layers`."""
        hidden_BTH = self._run(self.layers[self.frozen_layers :], self.frozen_layers, rows)
        if self.family.final_norm:
            hidden_BTH = getattr(self.encoder, self.family.final_norm)(hidden_BTH)
        for name in self.family.head:
            hidden_BTH = getattr(self.classifier, name)(hidden_BTH)
        return hidden_BTH

    def _run(self, layers: Iterable[nn.Module], first: int, rows: Rows) -> Tensor:
        hidden_BTH = rows.hidden_BTH
        extra = _layer_arguments(self.encoder, self.family, rows)
        for index, layer in enumerate(layers, first):
            hidden_BTH = layer(hidden_BTH, **extra(index))
        return hidden_BTH


class SentenceEncoder(nn.Module):
    """The pre-trained encoder that sentences are compared with: a copy of its layers above the shared trunk.

    Args:
        model: still as pre-trained; its trunk is shared, its upper layers are copied, so that theta may move on.
        layer: the layer whose states are pooled; at `model.frozen_layers` there is nothing to copy.
        pooling: `mean` over a sentence's pieces, or `cls`: its first piece (released code).
    """

    def __init__(self, model: TagModel, *, layer: int, pooling: str) -> None:
        super().__init__()
        if not 0 <= layer <= len(model.layers):
            raise UserError(f"retrieval.layer={layer} but the encoder has {len(model.layers)} layers")
        if layer < model.frozen_layers:
            raise UserError(
                f"retrieval.layer={layer} lies inside the frozen trunk: choose trunk (its last, "
                f"costs nothing) or up to {len(model.layers)}"
            )
        self.pooling = pooling
        self.first = model.frozen_layers
        self.family = model.family
        # Hooks of the adapted layers must not come along: these layers never adapt.
        self.layers = nn.ModuleList(_plain_copy(model.layers[i]) for i in range(self.first, layer))
        ends = layer == len(model.layers) and model.family.final_norm is not None
        self.norm = _plain_copy(getattr(model.encoder, str(model.family.final_norm))) if ends else nn.Identity()
        self.size = int(model.classifier.config.hidden_size)  # of a vector, H
        self._encoder = (model.encoder,)  # a tuple: not a sub-module, its weights are the trunk's
        self.requires_grad_(False)

    @torch.no_grad()
    def vectors(self, rows: Rows) -> Tensor:
        """Unit vectors (B, H) from trunk states; one sentence a row."""
        hidden_BTH = rows.hidden_BTH
        extra = _layer_arguments(self._encoder[0], self.family, rows)
        for index, layer in enumerate(self.layers, self.first):
            hidden_BTH = layer(hidden_BTH, **extra(index))
        hidden_BTH = self.norm(hidden_BTH).float()
        if self.pooling == "cls":
            pooled_BH = hidden_BTH[:, 0]
        else:
            real_BT1 = (rows.segments_BT > 0).unsqueeze(2)
            pooled_BH = (hidden_BTH * real_BT1).sum(1) / real_BT1.sum(1)
        return nn.functional.normalize(pooled_BH, dim=1)


def refuse_family(kind: str) -> None:
    """Raises UserError for encoders whose layers the fast weights cannot follow exactly, by name."""
    if kind.startswith("deberta"):
        raise UserError(
            f"{kind} encoders project their relative positions with the same layers as their word pieces, so one layer "
            f"runs twice in a forward and fast weights cannot follow it exactly. Families that work: {FAMILIES}."
        )
    if kind not in FAMILY:
        raise UserError(f"no way known to follow encoders of type {kind!r} exactly. Families that work: {FAMILIES}.")


def load_classifier(path: str | Path, tags: Sequence[str], *, seed: int) -> PreTrainedModel:
    """A token classification model over `tags` from a Hugging Face name or directory; a new head is seeded."""
    try:
        local = only_local(path)
        config = AutoConfig.from_pretrained(path, local_files_only=local)
        refuse_family(config.model_type)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            classifier: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(
                path,
                num_labels=len(tags),
                id2label=dict(enumerate(tags)),
                label2id={tag: i for i, tag in enumerate(tags)},
                attn_implementation=attention.NAME,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a tagger for other tags: its head is made anew
                local_files_only=local,
            )
            return classifier
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.encoder={path}: not a directory with an encoder, and no hub was reached under that name "
            f"({str(error).splitlines()[0]}). Use model.encoder=embedded, or the path of a downloaded encoder."
        ) from error


def hold_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Keeps the weights of linear layers in the type that autocast gives them in every forward anyway.

    What comes out is the same to the bit, but the cast is done once: for a short sentence it is most of a forward.
    Not for weights that are trained or saved.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.to(dtype)


def exact_backward(second_order: bool) -> AbstractContextManager[Any]:
    """Attention that can be differentiated twice, where it has to be."""
    return sdpa_kernel(SDPBackend.MATH) if second_order else nullcontext()


def _layer_arguments(encoder: Any, family: Family, rows: Rows) -> Callable[[int], dict[str, Any]]:
    segments_BT = rows.segments_BT
    # Padding has segment 0 and attends to itself, so that no row of the attention is empty.
    same_BTT = segments_BT.unsqueeze(1) == segments_BT.unsqueeze(2)
    full_B1TT = same_BTT.unsqueeze(1)
    if not family.rotary:
        return lambda index: {"attention_mask": full_B1TT}

    positions_BT = rows.positions_BT
    distance_BTT = (positions_BT.unsqueeze(1) - positions_BT.unsqueeze(2)).abs()
    masks = {
        "full_attention": full_B1TT,
        "sliding_attention": (same_BTT & (distance_BTT <= encoder.config.sliding_window)).unsqueeze(1),
    }
    kinds: list[str] = encoder.config.layer_types
    rotary = {kind: encoder.rotary_emb(rows.hidden_BTH, positions_BT, kind) for kind in set(kinds)}
    return lambda index: {"attention_mask": masks[kinds[index]], "position_embeddings": rotary[kinds[index]]}


def _plain_copy(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(module)
    for part in twin.modules():
        part._forward_hooks.clear()
    return twin.requires_grad_(False)
