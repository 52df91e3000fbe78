"""How many of a pre-trained encoder's layers are used: those above are dropped when it is loaded.

The last layers of an encoder for sentence vectors were tuned for these vectors, and tags are found as well without
them. What is left is an ordinary encoder of fewer layers. Only the sentence encoder may keep copies of layers above it
(`retrieval.layer`). To load these copies, a bundle's config.json also says how many layers the encoder had before
(`pretrained_depth`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from metacross.config import ModelConfig
from metacross.encoder.families import FAMILY
from metacross.errors import UserError
from metacross.wording import counted

EMBEDDED_LAYERS = 10  # of 12; docs/decisions.md says why


def layers_used(model: ModelConfig, available: int) -> int:
    """How many layers `model.layers` means.

    Args:
        model: the configuration's section.
        available: the layers of the pre-trained encoder.

    Raises:
        UserError: the encoder has fewer, or all that are left would be frozen.
    """
    wanted = model.layers
    if wanted == "auto":
        wanted = EMBEDDED_LAYERS if model.encoder == "embedded" else "all"
    used = available if wanted == "all" else wanted
    if used > available or (used < available and used <= model.frozen_layers):
        raise UserError(
            f"model.layers={model.layers} uses {counted(used, 'layers')}, of which "
            f"model.frozen_layers={model.frozen_layers} are frozen, but the encoder has {available}: choose more than "
            f"are frozen, and {available} (all) at most"
        )
    return used


def drop_layers(classifier: PreTrainedModel, used: int) -> list[nn.Module]:
    """Shortens an encoder to its first layers, in place.

    Args:
        classifier: a token classification model with its pre-trained layers.
        used: how many layers stay.

    Returns:
        The layers above them.
    """
    layers, config = layers_of(classifier), classifier.config
    depth: dict[str, Any] = {"num_hidden_layers": len(layers)}
    if FAMILY[config.model_type].rotary:
        depth["layer_types"] = config.layer_types
        config.layer_types = config.layer_types[:used]
    dropped = list(layers[used:])
    del layers[used:]
    config.num_hidden_layers = used
    config.pretrained_depth = depth
    return dropped


def pretrained_depth(config: PreTrainedConfig) -> dict[str, Any]:
    """The settings that gave an encoder its layers before some were dropped; {} where a configuration has none."""
    depth: dict[str, Any] = getattr(config, "pretrained_depth", {})
    return depth


def layers_of(classifier: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers in a token classification model."""
    family = FAMILY[classifier.config.model_type]
    return family.layers(getattr(classifier, family.encoder))


@contextmanager
def with_dropped(layers: nn.ModuleList, dropped: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block an encoder's layers are followed by those that were dropped."""
    used = len(layers)
    layers.extend(dropped)
    try:
        yield
    finally:
        del layers[used:]
