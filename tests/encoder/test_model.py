"""Encoders that fast weights cannot follow exactly are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForTokenClassification, DebertaV2Config, FNetConfig

from metacross.encoder.loading import load_classifier
from metacross.encoder.model import TagModel
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.errors import UserError
from metacross.fast_weights import FastLayers, FastWeights
from tests.helpers.tiny import tiny_model


def test_deberta_is_refused_for_its_shared_projections() -> None:
    config = DebertaV2Config(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    with pytest.raises(UserError, match=r"deberta-v2 .*relative positions.*Families that work: BERT"):
        TagModel(AutoModelForTokenClassification.from_config(config), frozen_layers=1)


def test_other_families_are_refused_by_name() -> None:
    classifier = AutoModelForTokenClassification.from_config
    config = FNetConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, intermediate_size=24)
    with pytest.raises((UserError, ValueError), match=r"fnet|FNet"):
        TagModel(classifier(config), frozen_layers=1)


@pytest.mark.parametrize("frozen_layers", [3, 7])
def test_something_has_to_adapt(frozen_layers: int) -> None:
    with pytest.raises(
        UserError, match=rf"model\.frozen_layers={frozen_layers} but the encoder has 3 layers: choose 0 to 2"
    ):
        tiny_model("bert", frozen_layers=frozen_layers)


def test_layers_of_another_kind_are_refused() -> None:
    with pytest.raises(UserError, match="layer top is a Conv1d"):
        FastLayers({"top": nn.Conv1d(3, 3, 1)})


def test_shared_parameters_are_refused() -> None:
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    other.weight = one.weight
    with pytest.raises(UserError, match="share a parameter"):
        FastLayers({"one": one, "other": other})


def test_a_layer_that_runs_twice_is_refused() -> None:
    linear = nn.Linear(3, 3)
    layers = FastLayers({"linear": linear})
    with (
        pytest.raises(UserError, match="runs more than once"),
        layers.running(FastWeights(), record=True),
    ):
        linear(linear(torch.ones(1, 2, 3)))


def test_a_layer_that_does_not_run_is_refused() -> None:
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    layers = FastLayers({"one": one, "other": other})
    with pytest.raises(UserError, match="did not run"), layers.running(FastWeights(), record=True):
        one(torch.ones(1, 2, 3))


def test_retrieval_layer_inside_the_trunk_is_refused() -> None:
    with pytest.raises(UserError, match=r"retrieval\.layer=1 lies inside the frozen trunk: choose trunk"):
        SentenceEncoder(tiny_model("bert", frozen_layers=2), layer=1, pooling="mean")


def test_a_tagger_for_other_tags_is_an_encoder_all_the_same(tmp_path: Path) -> None:
    tiny_model("bert", dtype=torch.float32).classifier.save_pretrained(tmp_path)
    classifier = load_classifier(tmp_path, ["O", "B-LOC", "I-LOC"], seed=0)
    assert classifier.num_labels == 3
    other = load_classifier(tmp_path, ["O", "B-LOC", "I-LOC"], seed=0)
    assert torch.equal(classifier.classifier.weight, other.classifier.weight)
