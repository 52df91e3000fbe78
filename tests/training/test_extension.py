"""Runs that are made longer end as fresh runs of their length do: same weights, same measurements, same bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metacross.errors import UserError
from metacross.events import ignore
from metacross.ray_training.directory import Run, take_up
from metacross.training import checkpoint, extension
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.tiny_bundle import tiny_config, write_inputs

SETTINGS = ("train.plain_steps=0", "train.eval_every=5", "train.checkpoint_every=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("extension"))


@pytest.fixture
def train(place: Path) -> Callable[..., Learner]:
    """Trains a run, or goes on with it as the driver does."""

    def train(run_dir: Path, *overrides: str, stop_at: int = -1) -> Learner:
        config = tiny_config(place, *SETTINGS, *overrides)
        run_dir.mkdir(exist_ok=True)
        if (run_dir / "ray_config.yaml").exists():
            take_up(Run(run_dir, run_dir, None), config, ignore)
        (run_dir / "ray_config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        learner = Learner.from_config(config, device=torch.device("cpu"))
        run(learner, run_dir, should_stop=lambda: learner.progress.step == stop_at - 1)
        return learner

    return train


def assert_same_run(found: Path, expected: Path) -> None:
    newest, other = checkpoint.paths(found)[-1], checkpoint.paths(expected)[-1]
    assert newest.name == other.name
    assert (newest / "progress.json").read_text() == (other / "progress.json").read_text()
    tensors, others = load_file(newest / "state.safetensors"), load_file(other / "state.safetensors")
    assert tensors.keys() == others.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
    manifests = [json.loads((folder / "bundle" / "manifest.json").read_text()) for folder in (found, expected)]
    assert manifests[0] == manifests[1]  # the settings, weights, measurements and everything else


def test_a_run_is_not_made_longer_where_its_averaging_could_not_begin_later(
    train: Callable[..., Learner], tmp_path: Path
) -> None:
    settings = ("train.warmup=4", "train.decay=0.2", "train.average=0.4")
    train(tmp_path, *settings, "train.steps=20")
    for path in checkpoint.paths(tmp_path):
        if checkpoint.step_of(path.name) <= 12:
            shutil.rmtree(path)
    with pytest.raises(UserError, match=r"averaged from step 13 on in a run of 20 steps, and from step 25 .* of 40"):
        train(tmp_path, *settings, "train.steps=40")


@pytest.mark.parametrize(
    ("settings", "goes_on_from"),
    [
        (("train.warmup=4", "train.decay=0.5"), 10),
        (("train.warmup=4", "train.decay=0.3", "train.eval_every=3"), 14),
        (("train.warmup=4", "train.decay=0.0"), 20),
        (("train.warmup=0", "train.decay=0.0", "train.eval_every=15"), 20),  # measured at its end, unlike the longer
        (("train.warmup=30", "train.decay=1.0"), 20),  # all of it warm-up
        (("train.warmup=4", "train.decay=0.5", "train.lr=5e-2"), 10),
        (
            ("train.warmup=4", "train.decay=0.2", "train.eval_every=30"),
            16,
        ),  # the shorter run alone has a bundle by then
        (("train.warmup=4", "train.decay=0.2", "train.average=0.4"), 12),
        (("train.warmup=4", "train.decay=0.5", "train.average=0.4"), 10),  # the rate falls first
        (("train.warmup=4", "train.decay=0.0", "train.average=0.75"), 5),
        (("train.warmup=4", "train.decay=0.2", "train.average=1.0"), 16),  # averaged from the first step in both
    ],
)
def test_a_finished_run_made_longer_is_a_run_of_that_length(
    train: Callable[..., Learner], tmp_path: Path, settings: tuple[str, ...], goes_on_from: int
) -> None:
    train(tmp_path / "fresh", *settings, "train.steps=40")
    shorter = train(tmp_path / "longer", *settings, "train.steps=20").config.train
    longer = shorter.model_copy(update={"steps": 40})
    assert extension.common_step(tmp_path / "longer", shorter, longer) == goes_on_from
    train(tmp_path / "longer", *settings, "train.steps=40")
    assert_same_run(tmp_path / "longer", tmp_path / "fresh")


def test_a_stopped_run_and_one_made_longer_twice(train: Callable[..., Learner], tmp_path: Path) -> None:
    settings = ("train.warmup=2", "train.decay=0.25")
    train(tmp_path / "fresh", *settings, "train.steps=40")
    train(tmp_path / "longer", *settings, "train.steps=12", stop_at=7)
    train(tmp_path / "longer", *settings, "train.steps=24")
    train(tmp_path / "longer", *settings, "train.steps=40")
    assert_same_run(tmp_path / "longer", tmp_path / "fresh")


def test_a_longer_run_that_is_killed_before_its_bundle_is_written_again(
    train: Callable[..., Learner], tmp_path: Path, place: Path
) -> None:
    """The settings say 40 steps already, while checkpoints and bundle are still those of 20."""
    settings = ("train.warmup=4", "train.decay=0.5")
    train(tmp_path / "fresh", *settings, "train.steps=40")
    train(tmp_path / "longer", *settings, "train.steps=20")
    checkpoint.drop_newer(tmp_path / "longer", 10)
    learner = Learner.from_config(
        tiny_config(place, *SETTINGS, *settings, "train.steps=40"), device=torch.device("cpu")
    )
    run(learner, tmp_path / "longer")
    assert_same_run(tmp_path / "longer", tmp_path / "fresh")


def test_a_longer_run_that_stops_at_once_has_the_bundle_of_its_length(
    train: Callable[..., Learner], tmp_path: Path
) -> None:
    settings = ("train.warmup=4", "train.decay=0.5")
    train(tmp_path / "fresh", *settings, "train.steps=40", stop_at=11)
    train(tmp_path / "longer", *settings, "train.steps=20")
    train(tmp_path / "longer", *settings, "train.steps=40", stop_at=11)
    assert_same_run(tmp_path / "longer", tmp_path / "fresh")
