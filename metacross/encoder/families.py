"""The families of encoders that fast weights follow exactly, and where each keeps its parts.

Shapes: B rows, T word pieces, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metacross.errors import UserError

FAMILIES = "BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, ELECTRA, ModernBERT"


@dataclass(frozen=True)
class LayerParts:
    """Where a layer of BERT's kind keeps its parts, as names of its submodules.

    Attributes:
        attention: knows the size of a head and the scaling of scores.
        query: linear layer.
        key: linear layer.
        value: linear layer.
        mixing: linear layer behind attention.
        attention_norm: of the sum of the latter and the layer's input.
        inner: linear layer.
        activation: behind it.
        outer: linear layer.
        norm: of the sum of the latter and the output of `attention_norm`; its output is the layer's.
    """

    attention: str
    query: str
    key: str
    value: str
    mixing: str
    attention_norm: str
    inner: str
    activation: str
    outer: str
    norm: str


@dataclass(frozen=True)
class Family:
    """Where one family of encoders keeps its parts, and how they are called.

    Attributes:
        encoder: name of the encoder in the token classification model.
        layers: returns an encoder's layers.
        embed: takes an encoder, piece ids (B, T) and positions (B, T); returns the embeddings (B, T, H).
        final_norm: name of the norm after an encoder's last layer, if there is one.
        head: names of the tag head's parts in the token classification model, in the order they are applied.
        rotary: whether layers take rotary position embeddings.
        parts: the parts of a layer, where it is of BERT's kind.
    """

    encoder: str
    layers: Callable[[Any], nn.ModuleList]
    embed: Callable[[Any, Tensor, Tensor], Tensor]
    final_norm: str | None = None
    head: tuple[str, ...] = ("classifier",)
    rotary: bool = False
    parts: LayerParts | None = None


def _embed_bert(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    hidden_BTH: Tensor = encoder.embeddings(
        input_ids=piece_ids_BT, position_ids=positions_BT, token_type_ids=torch.zeros_like(piece_ids_BT)
    )
    return hidden_BTH


def _embed_roberta(encoder: Any, piece_ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
    # RoBERTa's positions start after the padding id.
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


_BERT = LayerParts(
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    mixing="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    inner="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    outer="output.dense",
    norm="output.LayerNorm",
)
_DISTILBERT = LayerParts(
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    mixing="attention.out_lin",
    attention_norm="sa_layer_norm",
    inner="ffn.lin1",
    activation="ffn.activation",
    outer="ffn.lin2",
    norm="output_layer_norm",
)
FAMILY = {
    "bert": Family("bert", _layers_of_encoder, _embed_bert, parts=_BERT),
    "roberta": Family("roberta", _layers_of_encoder, _embed_roberta, parts=_BERT),
    "xlm-roberta": Family("roberta", _layers_of_encoder, _embed_roberta, parts=_BERT),
    "camembert": Family("roberta", _layers_of_encoder, _embed_roberta, parts=_BERT),
    "electra": Family("electra", _layers_of_encoder, _embed_electra, parts=_BERT),
    "distilbert": Family("distilbert", lambda encoder: encoder.transformer.layer, _embed_distilbert, parts=_DISTILBERT),
    "modernbert": Family(
        "model",
        lambda encoder: encoder.layers,
        _embed_modernbert,
        final_norm="final_norm",
        head=("head", "classifier"),
        rotary=True,
    ),
}


def refuse_family(kind: str) -> None:
    """Refuses encoders whose layers the fast weights cannot follow exactly.

    Args:
        kind: the `model_type` of the encoder's configuration.

    Raises:
        UserError: the encoder is of such a kind; the message says why and which families work.
    """
    if kind.startswith("deberta"):
        raise UserError(
            f"{kind} encoders project their relative positions with the same layers as their word pieces, so one layer "
            f"runs twice in a forward and fast weights cannot follow it exactly. Families that work: {FAMILIES}."
        )
    if kind not in FAMILY:
        raise UserError(f"no way known to follow encoders of type {kind!r} exactly. Families that work: {FAMILIES}.")
