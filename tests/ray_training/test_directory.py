"""What a run that goes on may change: more steps, where it then ends as a fresh run does, and where it runs."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metacross.config import Config
from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.events import Event, Note
from metacross.ray_training.directory import Run, refuse_changes, take_up
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.tiny_bundle import tiny_config, write_inputs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("directory"))


def settings(place: Path, *overrides: str) -> Config:
    return tiny_config(
        place, "train.steps=20", "train.plain_steps=0", "train.eval_every=5", "train.checkpoint_every=4", *overrides
    )


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with the default schedule, all of which depends on the number of steps."""
    run_dir = tmp_path_factory.mktemp("finished")
    (run_dir / "ray_config.yaml").write_text(settings(place).to_yaml(), encoding="utf-8")
    run(Learner.from_config(settings(place), device=CPU), run_dir)
    return run_dir


def refused(run_dir: Path, config: Config) -> str:
    with pytest.raises(UserError) as caught:
        refuse_changes(Run(run_dir, run_dir, None), config)
    return str(caught.value)


def test_a_run_cannot_be_made_shorter(place: Path, finished: Path) -> None:
    message = refused(finished, settings(place, "train.steps=19"))
    assert message.startswith("train.steps: cannot be changed in a run that goes on")
    assert "and train.steps to more than 20" in message


def test_with_more_steps_nothing_else_may_change(place: Path, finished: Path) -> None:
    message = refused(finished, settings(place, "train.steps=40", "train.seed=1"))
    assert message.startswith("train.seed: cannot be changed in a run that goes on")


def test_a_run_without_a_checkpoint_can_be_made_longer(place: Path, tmp_path: Path) -> None:
    (tmp_path / "ray_config.yaml").write_text(settings(place).to_yaml(), encoding="utf-8")
    assert refuse_changes(Run(tmp_path, tmp_path, None), settings(place, "train.steps=40")) == 0


def test_a_run_whose_rates_depend_on_its_length_is_not_made_longer_and_the_ways_out_work(
    place: Path, finished: Path, tmp_path: Path
) -> None:
    more = settings(place, "train.steps=40")
    message, *ways, advice = refused(finished, more).splitlines()
    assert "step 1 has learning rate 0.0025 in a run of 20 steps and 0.00125 in one of 40" in message
    assert "train.warmup=0.1, train.decay=1.0" in message
    assert "train.warmup=STEPS" in advice

    anew = shlex.split(ways[0].partition("metacross train ")[2].replace("NAME", "anew"))
    assert anew[0] == "--config"
    config = load_config([Path(anew[1])], anew[2:])
    assert config.train.name == "anew"
    assert config.model_copy(update={"train": more.train}) == more

    warm = load_config([Path(anew[1])], [*anew[2:], ways[1].rpartition(" ")[2]])
    learner = Learner.from_config(warm, device=CPU)
    weights = load_file(finished / "bundle" / "model.safetensors")
    assert all(torch.equal(p, weights[name]) for name, p in learner.model.classifier.named_parameters())
    run(learner, tmp_path)
    assert learner.progress.step == 40


def test_a_longer_run_goes_back_and_is_another_run_in_mlflow(place: Path, tmp_path: Path) -> None:
    shorter, longer = (settings(place, "train.warmup=4", "train.decay=0.5", f"train.steps={n}") for n in (20, 40))
    (tmp_path / "ray_config.yaml").write_text(shorter.to_yaml(), encoding="utf-8")
    run(Learner.from_config(shorter, device=CPU), tmp_path)
    (tmp_path / "mlflow.json").touch()
    events: list[Event] = []
    take_up(Run(tmp_path, tmp_path, None), shorter, events.append)
    assert checkpoint.paths(tmp_path)[-1] == checkpoint.path_of(tmp_path, 20)
    assert (events, (tmp_path / "mlflow.json").exists()) == ([], True)
    take_up(Run(tmp_path, tmp_path, None), longer, events.append)
    assert checkpoint.paths(tmp_path)[-1] == checkpoint.path_of(tmp_path, 10)
    assert events == [Note("going back to step 10: after it, a run of 40 steps has other learning rates")]
    assert not (tmp_path / "mlflow.json").exists()


def test_a_checkpoint_that_a_longer_run_would_need_is_gone(place: Path, tmp_path: Path) -> None:
    schedule = ("train.warmup=4", "train.decay=0.5")
    (tmp_path / "ray_config.yaml").write_text(settings(place, *schedule).to_yaml(), encoding="utf-8")
    run(Learner.from_config(settings(place, *schedule), device=CPU), tmp_path)
    for path in checkpoint.paths(tmp_path):
        if checkpoint.step_of(path.name) <= 11:
            shutil.rmtree(path)
    message = refused(tmp_path, settings(place, *schedule, "train.steps=40"))
    assert "step 12 has learning rate 0.0045 in a run of 20 steps and 0.005 in one of 40" in message
    assert "the beginning that is the same, 11 steps, has left no checkpoint" in message
