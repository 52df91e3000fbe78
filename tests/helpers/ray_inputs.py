"""What tests on a real Ray train with: a tiny encoder, two small corpora, and settings for seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from metacross.config import Config
from metacross.config_loading import load_config
from metacross.training import checkpoint
from tests.helpers.tiny import SIZES

ROOT = Path(__file__).parents[2]
STEPS = 100
NAMES = {
    "PER": ["Anna", "Bo Lee", "Carla", "Dan", "Eva Roth"],
    "LOC": ["Rome", "New York", "Oslo", "Lima", "Bonn"],
    "ORG": ["Acme", "Red Cross", "Nato", "Fiat", "Opel"],
}
TEMPLATES = ["PER lives in LOC .", "ORG hired PER in LOC", "PER of ORG said no", "in LOC , ORG won", "they met PER"]
SETTINGS = {
    "data.source": "train.conll",  # relative: the workers have to start where the driver is
    "data.source_dev": "dev.conll",
    "model.encoder": "encoder",
    "model.frozen_layers": 1,
    "model.max_pieces": 32,
    "retrieval.layer": 1,
    "episodes.support_size": 2,
    "episodes.meta_batch_size": 6,
    "train.steps": STEPS,
    "train.lr": 2e-3,
    "train.precision": "fp32",
    "train.eval_every": 20,
    "train.eval_sentences": 10,
    "train.checkpoint_every": 20,
    "train.storage_path": "runs",
    "train.workers": 1,
    "train.use_gpu": "false",
}


def write_inputs(place: Path) -> Path:
    """The encoder and the corpora that `config` names."""
    draw = random.Random(3)
    for name, sentences in (("train.conll", 40), ("dev.conll", 10)):
        (place / name).write_text("\n".join(sentence(draw) for _ in range(sentences)), encoding="utf-8")
    names = [name for kind in NAMES.values() for name in kind]
    words = sorted({word for text in (*TEMPLATES, *names) for word in text.split()} - set(NAMES))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = Tokenizer(WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        **{
            name: f"[{name[:-6].upper()}]"
            for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        },
    )
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES)).save_pretrained(place / "encoder")
    fast.save_pretrained(place / "encoder")
    return place


def sentence(draw: random.Random) -> str:
    lines = []
    for word in draw.choice(TEMPLATES).split():
        name = draw.choice(NAMES[word]).split() if word in NAMES else []
        lines += [f"{part} {'I' if i else 'B'}-{word}" for i, part in enumerate(name)] or [f"{word} O"]
    return "\n".join(lines) + "\n"


def config(name: str, **changes: Any) -> Config:
    """Settings of a small run; `changes` has __ for the dot."""
    settings = {**SETTINGS, "train.name": name, **{key.replace("__", "."): value for key, value in changes.items()}}
    return load_config([ROOT / "ray_config.yaml"], [f"{key}={value}" for key, value in settings.items()])


def state(run_dir: Path) -> dict[str, Tensor]:
    """Theta and the optimizer's state in the newest checkpoint."""
    return load_file(checkpoint.paths(run_dir)[-1] / "state.safetensors")


def theta(run_dir: Path) -> Tensor:
    """All of theta as one vector."""
    return torch.cat([tensor.flatten() for name, tensor in state(run_dir).items() if name.startswith("theta.")])


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
