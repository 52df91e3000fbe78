"""A bundle in Hugging Face's token classification pipeline, against the tagger without adaptation."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pipeline_agreement import STRATEGIES, BothTaggers, closed
from metacross.corpora.reader import read_corpus
from tests.helpers.tiny_bundle import train_bundle, write_inputs


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
    fast = (
        "train.method=base",
        "train.steps=200",
        "train.lr=1e-2",
        "train.eval_every=200",
        "train.checkpoint_every=200",
    )
    return train_bundle(folder, "loss.later_weight=1", "train.name=later", *fast)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_trained_later_pieces_every_strategy_gives_the_plain_entities(
    bundle: Path, folder: Path, strategy: str
) -> None:
    """The tokenizer marks later pieces (##), so transformers knows words; punctuation stands close to names."""
    texts = [closed(s.text) for s in read_corpus(folder / "train.conll").sentences]
    found = BothTaggers(bundle).agreement(texts, strategy)
    assert found.tagger > 50
    assert min(found.both / found.tagger, found.both / found.pipeline) >= 0.99


def test_the_model_card_recommends_what_fits_the_tokenizer(bundle: Path, tiny_bundle: Path) -> None:
    card, without = ((folder / "README.md").read_text(encoding="utf-8") for folder in (bundle, tiny_bundle))
    assert 'aggregation_strategy="first"' in card
    assert "`loss.later_weight: 1.0`" in card
    assert "no term for later pieces" in without
