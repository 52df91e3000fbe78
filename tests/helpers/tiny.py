"""Tiny random encoders of every family, and rows made of random pieces, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from metacross.encoder.model import Rows, TagModel
from metacross.encoder.windows import IGNORED

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "num_labels": 5,
    "attn_implementation": "sdpa",
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES, max_position_embeddings=80),
    "xlm-roberta": XLMRobertaConfig(**SIZES, max_position_embeddings=80),
    "electra": ElectraConfig(**SIZES, embedding_size=8),
    "distilbert": DistilBertConfig(
        vocab_size=60, dim=16, n_layers=3, n_heads=4, hidden_dim=24, num_labels=5, attn_implementation="sdpa"
    ),
    "modernbert": ModernBertConfig(
        **SIZES, local_attention=8, global_attn_every_n_layers=2, pad_token_id=0, cls_token_id=1, sep_token_id=2
    ),
}


def tiny_model(family: str, *, frozen_layers: int = 1, dtype: torch.dtype = torch.float64, seed: int = 0) -> TagModel:
    """A random model with weights large enough that attention and steps matter."""
    torch.manual_seed(seed)
    classifier = AutoModelForTokenClassification.from_config(CONFIGS[family]).to(dtype)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return TagModel(classifier, frozen_layers=frozen_layers)


def random_sentence(length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Piece ids (T,) and tag ids (T,); the first and last piece and a third of the others carry no tag."""
    piece_ids_T = torch.randint(5, 60, (length,), generator=generator)
    tag_ids_T = torch.randint(0, 5, (length,), generator=generator)
    tag_ids_T[torch.rand(length, generator=generator) < 0.3] = IGNORED
    tag_ids_T[0] = tag_ids_T[-1] = IGNORED
    tag_ids_T[1] = 3
    return piece_ids_T, tag_ids_T


def pack(model: TagModel, groups: list[list[tuple[Tensor, Tensor]]], *, padding: int = 0) -> Rows:
    """Rows of one group each, by the model's trunk run one sentence at a time."""
    rows = []
    for group in groups:
        hidden, segments, positions, tags = [], [], [], []
        for number, (piece_ids_T, tag_ids_T) in enumerate(group, 1):
            ones = torch.ones_like(piece_ids_T)
            hidden.append(model.trunk(piece_ids_T[None], ones[None])[0])
            segments.append(ones * number)
            positions.append(torch.arange(len(piece_ids_T)))
            tags.append(tag_ids_T)
        rows.append([torch.cat(parts) for parts in (hidden, segments, positions, tags)])
    longest = max(len(row[1]) for row in rows) + padding
    columns = list(zip(*rows, strict=True))

    def padded(parts: tuple[Tensor, ...], fill: float) -> Tensor:
        return torch.stack([torch.cat([p, p.new_full((longest - len(p), *p.shape[1:]), fill)]) for p in parts])

    tensors = (padded(column, fill) for column, fill in zip(columns, (0.5, 0, 0, IGNORED), strict=True))
    return Rows(*tensors, sentences=max(map(len, groups)))
