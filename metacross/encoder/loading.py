"""Whether the Hugging Face hub can be asked at all, found out in seconds instead of minutes of retries."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel

from metacross.encoder import attention
from metacross.encoder.families import refuse_family
from metacross.errors import UserError, first_line

TIMEOUT_SECONDS = 5


def only_local(name: str | os.PathLike[str]) -> bool:
    """Whether to look for an encoder in local directories and the hub's cache only.

    True for a directory, and where no connection to the hub (or to the proxy in front of it) comes about: the hub's
    own client tries that again and again, for half a minute for each file.
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
            f"({first_line(error)}). Use model.encoder=embedded, or the path of a downloaded encoder."
        ) from error


def hold_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Keeps the weights of linear layers in the type that autocast gives them in every forward anyway.

    What comes out is the same to the bit, but the cast is done once: for a short sentence it is most of a forward.
    Not for weights that are trained or saved.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.to(dtype)


def load_tokenizer(path: str | Path) -> Any:
    """The encoder's tokenizer."""
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=only_local(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no tokenizer found ({first_line(error)})") from error
