"""A tagger small enough to be trained in seconds: a random BERT of three layers, a tokenizer of letters, ten lines."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from metacross.config import Config
from metacross.config_loading import load_config
from metacross.training import loop
from metacross.training.learner import Learner

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PEOPLE = ["Anna Berg", "Otto Klein", "Maria Lopez", "Jan Smit", "Eva Roth", "Paul Weber", "Ines Vidal", "Tom Hale"]
PLACES = ["Berlin", "Madrid", "Leiden", "New York", "Paris", "Oslo", "Bergen", "Lima"]
SHAPES = [
    "{p} lives in {l} .",
    "In {l} , {p} met {q} .",
    "{p} left {l} for {m} last week .",
    "Nothing happened in {l} .",
    "{p} and {q} spoke .",
]


def write_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A random encoder with its tokenizer, as a Hugging Face directory; words it does not know are cut into letters."""
    letters = [chr(code) for code in range(33, 127)] + list("áéíóúñüöä北京访问他在。")
    words = {word for text in (*PEOPLE, *PLACES, *SHAPES) for word in text.split() if word.isalpha() and len(word) > 1}
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *sorted(words)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    encoder = BertModel(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=80,
        ),
        add_pooling_layer=False,
    )
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder.save_pretrained(folder)
    return folder


def write_corpus(path: Path, *, first: int = 0, sentences: int = 24) -> Path:
    """A corpus of people and places in columns."""
    lines = []
    for i in range(first, first + sentences):
        names = {"p": PEOPLE[i % 8], "q": PEOPLE[(i + 3) % 8], "l": PLACES[i % 7], "m": PLACES[(i * 5 + 1) % 8]}
        for word in SHAPES[(i * 3 + i // 5) % len(SHAPES)].split():
            name = names.get(word.strip("{}"), "") if word.startswith("{") else ""
            kind = "PER" if word in ("{p}", "{q}") else "LOC"
            for place, part in enumerate(name.split()):
                lines.append(f"{part} {'I' if place else 'B'}-{kind}")
            if not name:
                lines.append(f"{word} O")
        lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_config(folder: Path, *overrides: str) -> Config:
    """A configuration that trains on `folder`'s corpora in a second; `folder` has what the functions above write."""
    return load_config(
        None,
        [
            f"data.source={folder / 'train.conll'}",
            f"data.source_dev={folder / 'dev.conll'}",
            f"model.encoder={folder / 'encoder'}",
            "model.frozen_layers=1",
            "model.max_pieces=48",
            "retrieval.layer=3",
            "episodes.meta_batch_size=8",
            "inner.lr=0.05",  # these four whatever the defaults become
            "loss.mask_ratio=0.2",
            "loss.later_weight=0",
            "train.average=0",
            "train.steps=60",
            "train.plain_steps=40",
            "train.lr=5e-3",
            "train.eval_every=60",
            "train.checkpoint_every=60",
            "train.precision=fp32",
            "train.trunk_cache_mb=16",
            "train.use_gpu=false",
            f"train.storage_path={folder / 'runs'}",
            "train.name=tiny",
            *overrides,
        ],
    )


def write_inputs(folder: Path) -> Path:
    """Encoder and corpora for `tiny_config`."""
    write_encoder(folder / "encoder")
    write_corpus(folder / "train.conll")
    write_corpus(folder / "dev.conll", first=100, sentences=12)
    return folder


def train_bundle(folder: Path, *overrides: str) -> Path:
    """Trains without Ray and returns the bundle."""
    config = tiny_config(folder, *overrides)
    run_dir = folder / "runs" / config.train.name
    run_dir.mkdir(parents=True)
    loop.run(Learner.from_config(config, device=torch.device("cpu")), run_dir)
    return run_dir / "bundle"
