"""Averaging bundles: the weights are the mean, the rest is the first bundle's, and strangers are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.bundle import load_bundle
from metacross.errors import UserError
from metacross.training.bundle_average import average_bundles
from tests.helpers.commands import run
from tests.helpers.tiny_bundle import train_bundle, write_corpus, write_encoder, write_inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("average"))


@pytest.fixture(scope="module")
def bundles(folder: Path) -> list[Path]:
    return [train_bundle(folder, "train.steps=8", f"train.seed={s}", f"train.name=seed-{s}") for s in (1, 2, 3)]


def test_the_weights_are_the_mean(bundles: list[Path], tmp_path: Path) -> None:
    averaged = average_bundles(bundles, tmp_path / "out", device="cpu")
    loaded = [load_bundle(path) for path in bundles]
    new = load_bundle(averaged.bundle)
    for mean, *each in zip(new.model.theta(), *(one.model.theta() for one in loaded), strict=True):
        assert torch.allclose(mean, torch.stack(list(each)).mean(0), atol=1e-6)
        assert not torch.equal(each[0], each[1])
    assert (new.tags, new.sentences, len(new.index)) == (loaded[0].tags, loaded[0].sentences, len(loaded[0].index))
    assert new.metrics == {"dev_f1": averaged.dev_f1, "averaged": [one.digest for one in loaded]}
    assert new.score_temperature != 1.0
    words = new.sentences[0]
    assert AdaptiveTagger(new, device=torch.device("cpu")).tag_sentences([words])[0].adapted


def test_the_mean_of_equal_bundles_is_one_of_them(bundles: list[Path], tmp_path: Path) -> None:
    averaged = average_bundles([bundles[0], bundles[0]], tmp_path / "out", device="cpu")
    old, new = load_bundle(bundles[0]), load_bundle(averaged.bundle)
    assert all(torch.equal(a, b) for a, b in zip(old.model.theta(), new.model.theta(), strict=True))
    assert new.metrics["dev_f1"] == pytest.approx(old.metrics["dev_f1"])
    assert new.score_temperature == pytest.approx(old.score_temperature)


def test_strangers_are_refused(bundles: list[Path], folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    write_inputs(place)
    write_encoder(place / "encoder", seed=5)
    other = train_bundle(place, "train.steps=2", f"data.source={folder / 'train.conll'}")
    with pytest.raises(UserError, match=r"was trained with model\.encoder="):
        average_bundles([bundles[0], other], tmp_path / "out", device="cpu")
    frozen = train_bundle(folder, "train.steps=2", "train.name=frozen", "model.frozen_layers=2")
    with pytest.raises(UserError, match=r"model\.frozen_layers=2, but .* with 1"):
        average_bundles([bundles[0], frozen], tmp_path / "out", device="cpu")
    text = (folder / "train.conll").read_text().replace("LOC", "GPE")
    (place / "train.conll").write_text(text)
    (place / "dev.conll").write_text((folder / "dev.conll").read_text().replace("LOC", "GPE"))
    types = train_bundle(place, "train.steps=2", "train.name=types")
    with pytest.raises(UserError, match=r"its tags are .*GPE.* Only bundles with the same tags"):
        average_bundles([bundles[0], types], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_another_pretrained_encoder_under_the_same_name_is_refused(bundles: list[Path], tmp_path: Path) -> None:
    place = write_inputs(tmp_path)
    one = train_bundle(place, "train.steps=2", "train.name=one")
    write_encoder(place / "encoder", seed=7)
    two = train_bundle(place, "train.steps=2", "train.name=two")
    with pytest.raises(UserError, match=r"its frozen layers \(.*\) are not those of"):
        average_bundles([one, two], tmp_path / "out", device="cpu")


def test_on_the_command_line(bundles: list[Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean"
    found = run("average", *map(str, bundles), "--out", str(out))
    assert (found.status, found.out) == (0, f"{out}\n")
    assert f"dev F1 {json.loads((out / 'metrics.json').read_text())['dev_f1']:.2f}" in found.err
    found = run("average", str(bundles[0]), "--out", str(out))
    assert (found.status, found.out) == (2, "")
    assert "an average needs at least two" in found.err
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("dear")
    found = run("average", *map(str, bundles), "--out", str(full))
    assert found.status == 2
    assert "is no bundle and will not be replaced" in found.err
    dev = folder / "dev.conll"
    dev.rename(folder / "gone.conll")
    try:
        found = run("average", *map(str, bundles), "--out", str(tmp_path / "none"))
    finally:
        write_corpus(dev, first=100, sentences=12)
    assert found.status == 2
    assert "dev.conll" in found.err
    assert not (tmp_path / "none").exists()
