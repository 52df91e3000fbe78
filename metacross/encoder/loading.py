"""Loading pre-trained encoders: embedded, from a directory, from the hub's cache, or from the hub if it answers."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from metacross.config import Config
from metacross.encoder import attention
from metacross.encoder.depth import drop_layers, layers_of, layers_used, pretrained_depth
from metacross.encoder.embedded import embedded_encoder
from metacross.encoder.families import refuse_family
from metacross.encoder.model import TagModel
from metacross.encoder.quiet import quiet_transformers
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError, first_line

TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class LoadedEncoder:
    """A pre-trained encoder, with all that depends on it.

    Attributes:
        tokenizer: the encoder's own.
        model: the encoder with a tag head.
        sentence_encoder: makes sentence vectors; shares the model's trunk.
        pieces: cuts sentences into windows of the tokenizer's word pieces.
        dropped: the layers above those that are used; of a bundle, with random weights.
    """

    tokenizer: PreTrainedTokenizerBase
    model: TagModel
    sentence_encoder: SentenceEncoder
    pieces: PieceEncoder
    dropped: Sequence[nn.Module]


def load_encoder(
    config: Config, tags: Sequence[str], *, device: torch.device, directory: Path | None = None
) -> LoadedEncoder:
    """Loads the encoder that a configuration names.

    Args:
        config: its sections `model` and `retrieval` say which encoder, how it is divided and what is pooled. A tag head
            that has to be made is drawn by `train.seed`.
        tags: the tags that the head tells apart.
        device: where model and sentence encoder go.
        directory: a tagger's directory, from which to load instead of from what `model.encoder` names. The sentence
            encoder's own layers then have to be loaded afterwards.

    Raises:
        UserError: no such encoder, or encoder and settings do not go together.
    """
    path: str | Path = config.model.encoder
    if directory is not None:
        path = directory
    elif path == "embedded":
        path = embedded_encoder()
    classifier = load_classifier(path, tags, seed=config.train.seed, as_pretrained=directory is not None)
    dropped = drop_layers(classifier, layers_used(config.model, len(layers_of(classifier))))
    tokenizer = load_tokenizer(path)
    model = TagModel(classifier, frozen_layers=config.model.frozen_layers).to(device)
    model.choose_inner_layers(config.inner.layers)
    sentence_encoder = SentenceEncoder(
        model, layer=config.pooled_layer, pooling=config.retrieval.pooling, dropped=dropped
    ).to(device)
    pieces = PieceEncoder(tokenizer, max_pieces=config.model.max_pieces)
    return LoadedEncoder(tokenizer, model, sentence_encoder, pieces, dropped)


def load_classifier(
    path: str | Path, tags: Sequence[str], *, seed: int, as_pretrained: bool = False
) -> PreTrainedModel:
    """Loads a token classification model from a Hugging Face name or directory.

    Args:
        path: the name or directory.
        tags: the tags of its head, by tag id. If what is loaded has no head, or one for other tags, a new one is made.
        seed: of a new head's random weights.
        as_pretrained: with as many layers as a tagger's encoder had before some were dropped; these are random.

    Raises:
        UserError: nothing can be loaded from there, weights of the encoder are missing, or fast weights cannot follow
            this kind of encoder.
    """
    try:
        local = only_local(path)
        classifier: PreTrainedModel
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, local_files_only=local)
            refuse_family(config.model_type)
            depth = pretrained_depth(config) if as_pretrained else {}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                classifier, report = AutoModelForTokenClassification.from_pretrained(
                    path,
                    num_labels=len(tags),
                    id2label=dict(enumerate(tags)),
                    label2id={tag: i for i, tag in enumerate(tags)},
                    attn_implementation=attention.NAME,
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,  # the head of a tagger for other tags is replaced by a new one
                    local_files_only=local,
                    output_loading_info=True,
                    **depth,
                )
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.encoder={path}: not a directory with an encoder, and no hub was reached under that name "
            f"({first_line(error)}). Use model.encoder=embedded, or the path of a downloaded encoder."
        ) from error
    _refuse_gaps(path, classifier, report, stored=config.num_hidden_layers)
    return classifier


def _refuse_gaps(path: str | Path, classifier: PreTrainedModel, report: Mapping[str, Any], *, stored: int) -> None:
    """Raises UserError where weights of the encoder were not loaded, which transformers draws at random instead.

    Args:
        path: where the model was loaded from.
        classifier: the model. Its head may be new; everything else must have been loaded.
        report: transformers' report about loading it.
        stored: the layers that are stored there; those above may be new.
    """
    gaps = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    new = {id(p) for layer in layers_of(classifier)[stored:] for p in layer.parameters()}
    gaps -= {name for name, p in classifier.named_parameters() if id(p) in new}
    gaps = {key for key in gaps if key.startswith(f"{classifier.base_model_prefix}.")}
    if gaps:
        raise UserError(
            f"model.encoder={path}: {len(gaps)} of the encoder's weights are missing or have another shape than its "
            f"config.json says ({', '.join(sorted(gaps)[:3])}{', ...' if len(gaps) > 3 else ''}). Copy or download it "
            "again."
        )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Loads an encoder's tokenizer from a Hugging Face name or directory.

    Raises:
        UserError: there is none.
    """
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, local_files_only=only_local(path))
        return tokenizer
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no tokenizer found ({first_line(error)})") from error


def only_local(name: str | os.PathLike[str]) -> bool:
    """Whether to look for an encoder in local directories and the hub's cache only.

    True for a directory, and if no connection to the hub (or to the proxy in front of it) can be made within seconds.
    The hub's own client would retry for half a minute, for each file.
    """
    return Path(name).is_dir() or not _hub_answers()


def _hub_answers() -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    hub = urlsplit(constants.ENDPOINT)
    proxy = urllib.request.getproxies().get(hub.scheme)
    if proxy and hub.hostname and not urllib.request.proxy_bypass(hub.hostname):
        hub = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout=TIMEOUT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
