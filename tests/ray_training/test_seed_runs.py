"""Runs with several seeds: each is a run like any other, and together they go on where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from metacross.bundle import load_bundle
from metacross.config import Config
from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.events import Event, Note
from metacross.ray_training import driver
from metacross.ray_training.directory import Run
from metacross.ray_training.seed_runs import SeedRuns, train_seeds
from metacross.training import checkpoint, loop
from metacross.training.learner import Learner
from metacross.training.seeds import seeds_of
from tests.helpers.commands import run
from tests.helpers.tiny_bundle import tiny_config, write_inputs

SETTINGS = ("train.steps=4", "train.plain_steps=0", "train.eval_every=2", "train.checkpoint_every=2", "train.seeds=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("seeds"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Trains without Ray; lists the seed of every run that trained, and the steps that it had done before."""
    runs: list[tuple[int, int]] = []

    def train_here(one: Run, config: Config, *others: Any) -> loop.Outcome:
        learner = Learner.from_config(config, device=torch.device("cpu"))
        runs.append((config.train.seed, one.newest()))
        return loop.run(learner, one.local, should_stop=(one.local.parent / f"stop-{config.train.seed}").exists)

    monkeypatch.setattr(driver, "_train_on_ray", train_here)
    return runs


def settings(place: Path, out: Path, *overrides: str) -> Config:
    return tiny_config(place, *SETTINGS, f"train.storage_path={out}", *overrides)


def state(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.paths(run_dir)[-1] / "state.safetensors")


def same(one: Path, other: Path) -> bool:
    found, expected = state(one), state(other)
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(
    ("seed", "seeds", "expected"),
    [
        (95, 1, [95]),
        (95, 3, [95, 495, 539]),
        (95, 5, [95, 495, 539, 667, 806]),
        (95, 6, [95, 96, 97, 98, 99, 100]),
        (7, 2, [7, 8]),
        (4294967295, 2, [4294967295, 0]),
    ],
)
def test_which_seeds(seed: int, seeds: int, expected: list[int]) -> None:
    assert seeds_of(load_config(None, [f"train.seed={seed}", f"train.seeds={seeds}"]).train) == expected


def test_each_is_a_run_like_any_other(place: Path, tmp_path: Path, trained: list[tuple[int, int]]) -> None:
    events: list[Event] = []
    runs = train_seeds(settings(place, tmp_path), show=events.append)
    assert (runs.run_dir, runs.stopped) == (tmp_path / "tiny", False)
    notes = [e.text for e in events if isinstance(e, Note)]
    assert notes == ["seed 95 (1 of 2)", "seed 495 (2 of 2)", "averaging the weights of all seeds"]
    assert trained == [(95, 0), (495, 0)]
    for result, seed in zip(runs.results, (95, 495), strict=True):
        assert result.run_dir == tmp_path / "tiny" / f"seed-{seed}"
        assert (tmp_path / "tiny" / f"seed-{seed}" / "bundle" / "manifest.json").is_file()
        alone = settings(place, tmp_path, "train.seeds=1", f"train.seed={seed}", f"train.name=alone-{seed}")
        driver.train(alone)
        assert same(tmp_path / f"alone-{seed}", tmp_path / "tiny" / f"seed-{seed}")
    assert not same(tmp_path / "alone-95", tmp_path / "alone-495")
    assert runs.averaged == tmp_path / "tiny" / "bundle"
    averaged = load_bundle(runs.averaged)
    assert averaged.metrics["averaged"] == [load_bundle(str(result.bundle)).digest for result in runs.results]
    assert averaged.metrics["dev_f1"] == runs.averaged_f1
    assert driver.resume_config(tmp_path / "tiny" / "seed-495").train.seeds == 1


def test_they_go_on_where_they_were(place: Path, tmp_path: Path, trained: list[tuple[int, int]]) -> None:
    train_seeds(settings(place, tmp_path, "train.name=whole"))
    trained.clear()
    stop = tmp_path / "tiny" / "stop-495"
    stop.parent.mkdir()
    stop.touch()
    stopped = train_seeds(settings(place, tmp_path, "train.seeds=3"))
    assert (stopped.stopped, [result.step for result in stopped.results]) == (True, [4, 1])
    stop.unlink()
    config = driver.resume_config(tmp_path / "tiny", ["train.trunk_cache_mb=8"])
    resumed = train_seeds(config, run_dir=tmp_path / "tiny", resume=True)
    assert trained == [(95, 0), (495, 0), (495, 1), (539, 0)], "what was done is not done again"
    assert [result.step for result in resumed.results] == [4, 4, 4]
    for seed in (95, 495):
        assert same(tmp_path / "tiny" / f"seed-{seed}", tmp_path / "whole" / f"seed-{seed}")
    again = train_seeds(settings(place, tmp_path, "train.seeds=3"), auto_resume=True)
    assert (len(trained), [r.best for r in again.results]) == (4, [r.best for r in resumed.results])


def test_they_are_made_longer_together_or_not_at_all(
    place: Path, tmp_path: Path, trained: list[tuple[int, int]]
) -> None:
    open_schedule = ("train.warmup=2", "train.decay=0.0")
    train_seeds(settings(place, tmp_path, *open_schedule))
    config = driver.resume_config(tmp_path / "tiny", ["train.steps=6"])
    longer = train_seeds(config, run_dir=tmp_path / "tiny", resume=True)
    assert [result.step for result in longer.results] == [6, 6]
    assert trained == [(95, 0), (495, 0), (95, 4), (495, 4)]

    train_seeds(settings(place, tmp_path, "train.name=closed"))
    before = (tmp_path / "closed" / "ray_config.yaml").read_text()
    config = driver.resume_config(tmp_path / "closed", ["train.steps=40"])
    with pytest.raises(UserError, match=r"closed/seed-95 cannot go on and end as a run of 40 steps does"):
        train_seeds(config, run_dir=tmp_path / "closed", resume=True)
    assert (tmp_path / "closed" / "ray_config.yaml").read_text() == before


def test_what_is_refused(place: Path, tmp_path: Path, trained: list[tuple[int, int]]) -> None:
    train_seeds(settings(place, tmp_path))
    with pytest.raises(UserError, match="already holds a run"):
        train_seeds(settings(place, tmp_path))
    with pytest.raises(UserError, match=r"train\.seeds: cannot be changed"):
        driver.resume_config(tmp_path / "tiny", ["train.seeds=3"])
    with pytest.raises(UserError, match="a run has one seed"):
        driver.train(settings(place, tmp_path))
    text = tmp_path / "text.txt"
    with pytest.raises(UserError, match=r"data\.unlabelled: .* metacross adopt"):
        train_seeds(settings(place, tmp_path, f"data.unlabelled={{de: {text}}}"))


def results(*scores: float) -> SeedRuns:
    folders = [Path("runs/en") / f"seed-{i}" for i in range(len(scores))]
    return SeedRuns(
        Path("runs/en"),
        [driver.TrainResult(f, f / "bundle", 3, False, score) for f, score in zip(folders, scores, strict=True)],
        Path("runs/en/bundle"),
        74.25,
    )


def test_the_end_names_the_bundles_their_scores_and_how_to_use_them_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: dict[str, Any] = {}
    outcome = results(70.0, 73.0, 71.5)

    def fake(config: Config, **arguments: Any) -> SeedRuns:
        called.update(arguments, seeds=config.train.seeds)
        return outcome

    monkeypatch.setattr("metacross.ray_training.seed_runs.train_seeds", fake)
    found = run("train", "train.seeds=3", "train.name=en")
    assert (found.status, called["seeds"], called["resume"], called["run_dir"]) == (0, 3, False, None)
    assert found.out == "".join(f"runs/en/seed-{i}/bundle\n" for i in range(3)) + "runs/en/bundle\n"
    assert "dev F1 74.25 of the average of their weights, runs/en/bundle\n" in found.err
    assert "dev F1 71.50 ± 1.50, mean and standard deviation over 3 seeds (70.00, 73.00, 71.50)" in found.err
    teachers = " ".join(f"--teacher runs/en/seed-{i}/bundle" for i in range(3))
    assert f"metacross adopt runs/en/bundle --text LANGUAGE=FILE {teachers}\n" in found.err

    outcome.results[-1] = driver.TrainResult(Path("runs/en/seed-2"), None, 2, True, -1)
    found = run("train", "train.seeds=3", "train.name=en")
    assert (found.status, found.out) == (130, "")
    assert "stopped at step 2; go on with: metacross train --resume runs/en\n" in found.err
