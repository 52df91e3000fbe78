"""A bundle in Hugging Face's token classification pipeline, against the tagger without adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from tests.helpers.tiny_bundle import train_bundle, write_inputs


def spans(entities: list[dict[str, Any]]) -> set[tuple[int, int, str]]:
    return {(e["start"], e["end"], e["entity_group"]) for e in entities}


def agreement(bundle: Path, texts: list[str], strategy: str) -> float:
    """Share of the entities found by the tagger or by the pipeline that both found."""
    tagger = AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=["train.precision=fp32"])
    pipe = pipeline("token-classification", model=str(bundle), aggregation_strategy=strategy, device="cpu")
    pairs = [(spans(tagger(text, adapt=False)), spans(pipe(text))) for text in texts]
    return sum(len(own & other) for own, other in pairs) / sum(len(own | other) for own, other in pairs)


def names_in_letters(file: Path) -> None:
    """Writes the names of a tiny corpus in two or three capitals: the tiny tokenizer cuts them into letters."""
    rows = [line.split(" ") for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [f"{row[0][:3].upper()} {row[1]}" if row[-1] not in ("", "O") else " ".join(row) for row in rows]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_inputs(tmp_path_factory.mktemp("pipeline"))
    for name in ("train.conll", "dev.conll"):
        names_in_letters(folder / name)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    fast = ("train.method=base", "train.steps=200", "train.lr=1e-2", "train.eval_every=200", "train.checkpoint_every=200")
    return train_bundle(folder, "loss.later_weight=1", "train.name=later", *fast)


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max"])
def test_with_trained_later_pieces_every_strategy_gives_the_plain_entities(
    bundle: Path, folder: Path, strategy: str
) -> None:
    """The tokenizer marks later pieces (##), so transformers knows words; punctuation stands close to names."""
    sentences = read_corpus(folder / "train.conll").sentences
    texts = [s.text.replace(" .", ".").replace(" ,", ",") for s in sentences]
    assert agreement(bundle, texts, strategy) >= 0.99
