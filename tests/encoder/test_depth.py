"""Encoders of which only the lower layers are used: an ordinary encoder of so many layers, except for retrieval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model, save_model
from transformers import AutoModelForTokenClassification

from metacross.bundle import load_bundle
from metacross.config_loading import load_config
from metacross.encoder.depth import drop_layers, layers_of, layers_used
from metacross.encoder.loading import load_classifier, load_encoder
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.rows import trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import Window
from metacross.errors import UserError
from metacross.retrieval.prepared import encoder_digest
from metacross.training.learner import Learner
from tests.helpers.tiny import CONFIGS, tiny_model
from tests.helpers.tiny_bundle import tiny_config, write_inputs

CPU = torch.device("cpu")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
PIECES = torch.tensor([[6, 9, 17, 40, 33, 58, 21, 12, 5]])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("depth"))


def logits(model: TagModel) -> torch.Tensor:
    ones = torch.ones_like(PIECES)
    positions = torch.arange(PIECES.shape[1])[None]
    with torch.no_grad():
        return model.logits(Rows(model.trunk(PIECES, ones), ones, positions, ones, 1))


def vectors(model: TagModel, encoder: SentenceEncoder) -> torch.Tensor:
    window = Window(0, tuple(PIECES[0].tolist()), tuple(range(1, 8)), 0, (0, 7))
    found = trunk_states(model, [window], batch_pieces=100, sentence_encoder=encoder)[1]
    assert found is not None
    return found


@pytest.mark.parametrize("used", [1, 2])
@pytest.mark.parametrize("family", CONFIGS)
def test_what_is_left_is_an_encoder_that_transformers_loads(family: str, used: int, tmp_path: Path) -> None:
    tiny_model(family, dtype=torch.float32).classifier.save_pretrained(tmp_path / "whole")
    classifier = load_classifier(tmp_path / "whole", TAGS, seed=0)
    pretrained = SentenceEncoder(
        TagModel(load_classifier(tmp_path / "whole", TAGS, seed=0), frozen_layers=0), layer=3, pooling="mean"
    )
    dropped = drop_layers(classifier, used)
    assert (len(layers_of(classifier)), len(dropped)) == (used, 3 - used)
    model = TagModel(classifier, frozen_layers=0)
    retrieval = {
        layer: SentenceEncoder(model, layer=layer, pooling="mean", dropped=dropped) for layer in range(used, 4)
    }
    assert torch.equal(vectors(model, retrieval[3]), vectors(model, pretrained))
    classifier.save_pretrained(tmp_path / "short")

    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "short")
    assert plain.config.num_hidden_layers == len(layers_of(plain)) == used
    assert torch.allclose(logits(model), plain(PIECES).logits, atol=1e-5)
    stored = load_file(tmp_path / "short" / "model.safetensors")
    assert sum(map(torch.numel, stored.values())) == sum(p.numel() for p in classifier.parameters())

    again = load_classifier(tmp_path / "short", TAGS, seed=0, as_pretrained=True)
    others = drop_layers(again, used)
    other = TagModel(again, frozen_layers=0)
    assert torch.equal(logits(model), logits(other))
    for layer, encoder in retrieval.items():
        save_model(encoder, str(tmp_path / "retrieval"))
        loaded = SentenceEncoder(other, layer=layer, pooling="mean", dropped=others)
        load_model(loaded, str(tmp_path / "retrieval"))
        assert torch.equal(vectors(other, loaded), vectors(model, encoder)), layer


@pytest.mark.parametrize(
    ("overrides", "used"),
    [
        ([], 10),
        (["model.layers=all"], 12),
        (["model.layers=7"], 7),
        (["model.encoder=some/encoder"], 12),
        (["model.layers=12", "model.frozen_layers=11"], 12),
    ],
)
def test_how_many_layers_are_used(overrides: list[str], used: int) -> None:
    assert layers_used(load_config(None, overrides).model, 12) == used


@pytest.mark.parametrize("overrides", [["model.layers=13"], ["model.layers=4"], ["model.frozen_layers=10"]])
def test_layers_that_are_not_there_or_none_that_adapt(overrides: list[str]) -> None:
    with pytest.raises(UserError, match=r"model\.layers=\w+ uses \d+ layers, of which model.frozen_layers=\d+ are"):
        layers_used(load_config(None, overrides).model, 12)


def test_an_earlier_file_means_all_layers(tmp_path: Path) -> None:
    lines = load_config().to_yaml().splitlines()
    path = tmp_path / "earlier.yaml"
    path.write_text("\n".join(line for line in lines if not line.strip().startswith("layers:")), encoding="utf-8")
    assert load_config([path], alone=True).model.layers == "all"


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_bundle_of_fewer_layers_is_read_as_it_was_written(place: Path, tmp_path: Path, layer: int) -> None:
    config = tiny_config(place, "model.layers=2", f"retrieval.layer={layer}", "train.steps=1")
    learner = Learner.from_config(config, device=CPU)
    learner.step()
    learner.save(tmp_path / "bundle", {})
    found = load_bundle(tmp_path / "bundle")
    hugging_face = json.loads((tmp_path / "bundle" / "config.json").read_text(encoding="utf-8"))
    assert (hugging_face["num_hidden_layers"], len(found.model.layers)) == (2, 2)
    assert all(torch.equal(a, b) for a, b in zip(found.model.theta(), learner.model.theta(), strict=True))
    expected, own = learner.sentence_encoder.state_dict(), found.sentence_encoder.state_dict()
    assert len(found.sentence_encoder.layers) == layer - 1
    assert expected.keys() == own.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)


def test_a_bundle_of_fewer_layers_can_be_an_encoder_of_so_many(place: Path, tmp_path: Path) -> None:
    config = tiny_config(place, "model.layers=2", "train.steps=1")
    Learner.from_config(config, device=CPU).save(tmp_path / "bundle", {})
    warm = f"model.encoder={tmp_path / 'bundle'}"
    with pytest.raises(UserError, match=r"retrieval.layer=3 but the encoder has 2 layers"):
        Learner.from_config(tiny_config(place, warm), device=CPU)
    learner = Learner.from_config(tiny_config(place, warm, "retrieval.layer=2"), device=CPU)
    learner.save(tmp_path / "warm", {})
    assert len(load_bundle(tmp_path / "warm").model.layers) == 2


@pytest.mark.parametrize("layer", [1, 3])
def test_vectors_and_their_digest_do_not_depend_on_how_many_layers_are_used(place: Path, layer: int) -> None:
    found = {}
    for layers in ("2", "all"):
        config = tiny_config(place, f"model.layers={layers}", f"retrieval.layer={layer}")
        learner = Learner.from_config(config, device=CPU)
        digest = encoder_digest(load_encoder(config, TAGS, device=CPU))
        found[layers] = (digest, learner.source.vectors(learner.sentence_encoder, tick=lambda more: None))
    assert found["2"][0] == found["all"][0]
    assert np.array_equal(found["2"][1], found["all"][1])
