"""Tiny corpora and a suite over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from metacross.config import Config
from metacross.config_loading import load_config
from metacross.reproduction.suite import Suite, load_suite
from tests.helpers.tiny_bundle import tiny_config

SUITE = """
name: tiny
source: {language: en, train: train.conll, dev: dev.conll}
targets:
  es: {test: dev.conll, text: dev.conll, shots: train.conll}
  de: {test: train.conll, shots: dev.conll}
seeds: [1, 2]
sentences: 10
settings: {train.steps: 12}
baseline: base
main: metacross
methods:
  base: {training: {train.method: base}, tagging: plain}
  base, adapted: {training: {train.method: base}, tagging: adapted}
  metacross: {tagging: adapted}
  without adaptation: {tagging: plain}
  without mask: {training: {loss.mask_ratio: 0.0}, tagging: adapted}
  random support: {tagging: random_support}
  O-bias: {tagging: o_bias, o_bias: 1.0}
  adopted: {adoption: {distillation: true, teachers: seeds, settings: {adopt.steps: 3}}, tagging: adapted}
  adopted, plain: {adoption: {distillation: true, teachers: seeds, settings: {adopt.steps: 3}}, tagging: plain}
  adopted, O-bias:
    {adoption: {distillation: true, teachers: seeds, settings: {adopt.steps: 3}}, tagging: o_bias, o_bias: 1.0}
  adopted by itself: {adoption: {distillation: false}, tagging: adapted}
  in the index: {tagging: adapted, shots: index}
  joint: {training: {train.method: base, train.steps: 6}, start: base, tagging: plain, shots: joint}
  half: {training: {train.method: base, train.steps: 6}, start: base, tagging: adapted, shots: half}
  averaged: {average: true, tagging: plain}
  adopted sentences: {tagging: plain, shots: adopted}
neighbours: [1, 2]
inner_lr: [0.01]
shots: {sizes: [1, 4], draws: 3, share: 0.1}
paper: {Theirs: {es: 70.5}}
"""


@pytest.fixture
def suite_file(tiny_folder: Path, tmp_path: Path) -> Path:
    for name in ("train.conll", "dev.conll"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture
def base(tiny_folder: Path) -> Config:
    """As `load_config()` gives it, but for a tiny encoder and short runs."""
    return tiny_config(tiny_folder, "train.eval_every=6", "train.checkpoint_every=6", "train.plain_steps=8")


@pytest.fixture
def suite(suite_file: Path, base: Config) -> Suite:
    return load_suite(suite_file, base)


@pytest.fixture(scope="session")
def default_config(root: Path) -> Config:
    return load_config([root / "ray_config.yaml"])
