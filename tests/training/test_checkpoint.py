"""Checkpoints: what is kept, what is passed over, and what a failed write leaves."""

from __future__ import annotations

import json
import resource
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from metacross.errors import UserError
from metacross.events import Event, Note
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from metacross.training.progress import Progress
from tests.helpers.tiny_bundle import tiny_config, write_inputs

CPU = torch.device("cpu")
SETTINGS = ("train.steps=10", "train.plain_steps=0", "train.eval_every=5", "train.checkpoint_every=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("checkpoint"))


def learner(place: Path, *overrides: str, events: list[Event] | None = None) -> Learner:
    return Learner.from_config(
        tiny_config(place, *SETTINGS, *overrides), device=CPU, report=([] if events is None else events).append
    )


def steps(run_dir: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoint.paths(run_dir)]


def state(path: Path) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in load_file(path / "state.safetensors").items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_last_few_and_the_best_are_kept(place: Path, tmp_path: Path) -> None:
    found = run(learner(place), tmp_path)
    assert [m.step for m in found.progress.history] == [5, 10]
    best = checkpoint.best_step(found.progress.history)
    assert steps(tmp_path) == sorted({8, 10, best})
    for path in checkpoint.paths(tmp_path):
        assert {file.name for file in path.iterdir()} == {"manifest.json", "progress.json", "state.safetensors"}


def test_one_is_written_when_it_is_wished(place: Path, tmp_path: Path) -> None:
    one = learner(place, "train.eval_every=100", "train.checkpoint_every=100")
    run(one, tmp_path, should_save=lambda: one.progress.step == 3)
    assert steps(tmp_path) == [3, 10]


@pytest.mark.parametrize(("average", "kills"), [(0, (1, 4, 7)), (0.7, (2, 5, 8))])
def test_a_run_killed_at_any_step_ends_with_the_same_bits(
    place: Path, tmp_path: Path, average: float, kills: Sequence[int]
) -> None:
    """A kill leaves the checkpoints written so far, wherever it comes: before the averaging, or in it."""
    setting = f"train.average={average}"
    run(learner(place, setting), tmp_path / "whole")
    expected = state(checkpoint.paths(tmp_path / "whole")[-1])
    assert ("average.0" in expected) == (average > 0)
    for killed_at in kills:
        run_dir = tmp_path / f"killed-{killed_at}"
        calls = iter(range(100))

        def die(killed_at: int = killed_at, calls: Any = calls) -> bool:
            if next(calls) == killed_at:
                raise KeyboardInterrupt
            return False

        with pytest.raises(KeyboardInterrupt):
            run(learner(place, setting), run_dir, should_stop=die)
        assert all(step <= killed_at for step in steps(run_dir))
        run(learner(place, setting), run_dir)
        assert same(state(checkpoint.paths(run_dir)[-1]), expected), killed_at
        manifests = [
            json.loads((tmp_path / name / "bundle" / "manifest.json").read_text()) for name in ("whole", run_dir)
        ]
        assert manifests[0] == manifests[1], killed_at


@pytest.mark.parametrize("harm", ["truncated", "no manifest", "other bits", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(place: Path, tmp_path: Path, harm: str) -> None:
    run(learner(place), tmp_path)
    expected = state(checkpoint.paths(tmp_path)[-1])
    newest = checkpoint.paths(tmp_path)[-1]
    file = newest / "state.safetensors"
    content = file.read_bytes()
    if harm == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "other bits":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        (file if harm == "missing" else newest / "manifest.json").unlink()

    events: list[Event] = []
    found = run(learner(place, events=events), tmp_path)
    (note,) = [event.text for event in events if isinstance(event, Note) and event.text.startswith("warning")]
    assert note.startswith(f"warning: {newest}")
    assert note.endswith("Going on from step 8.")
    assert found.progress.step == 10
    assert same(state(checkpoint.paths(tmp_path)[-1]), expected)


def test_no_whole_checkpoint_is_an_error_and_not_a_fresh_start(place: Path, tmp_path: Path) -> None:
    run(learner(place), tmp_path)
    for path in checkpoint.paths(tmp_path):
        (path / "progress.json").unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* is complete \(.*progress\.json: missing"):
        run(learner(place), tmp_path)
    assert steps(tmp_path)[-1] == 10  # left for whoever wants to look


def test_training_goes_on_while_a_checkpoint_is_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is held until a later step is done, and holds what was true when it was asked for."""
    one = learner(place, "train.checkpoint_every=4", "train.eval_every=100", "train.steps=6")
    go_on, real = threading.Event(), checkpoint.save
    thetas: dict[int, torch.Tensor] = {}

    def held(run_dir: Path, tensors: Any, progress: Progress, tags: Sequence[str]) -> Path:
        assert go_on.wait(60) or progress.step != 4
        return real(run_dir, tensors, progress, tags)

    def watch() -> bool:
        thetas[one.progress.step] = one.model.theta()[0].detach().clone()
        if one.progress.step == 5:
            go_on.set()
        return False

    monkeypatch.setattr(checkpoint, "save", held)
    run(one, tmp_path, should_stop=watch)
    assert set(thetas) == {0, 1, 2, 3, 4, 5}
    written = state(tmp_path / "checkpoints" / "step-0000004")["theta.0"]
    assert torch.equal(written, thetas[4])
    assert not torch.equal(written, thetas[5])


def test_full_disk_is_told_and_the_last_checkpoint_stays_whole(place: Path, tmp_path: Path) -> None:
    one = learner(place, "train.eval_every=100")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk() -> bool:
        if one.progress.step == 3:  # the checkpoint of step 2 may still be on its way
            while not steps(tmp_path):
                pass
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        return False

    try:
        with pytest.raises(UserError, match=r"checkpoints/step-0000004: cannot be written \(.*File too large"):
            run(one, tmp_path, should_stop=fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps(tmp_path) == [2]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000002"]

    found = run(learner(place, "train.eval_every=100"), tmp_path)
    assert found.progress.step == 10
    run(learner(place, "train.eval_every=100"), tmp_path / "whole")
    assert same(state(checkpoint.paths(tmp_path)[-1]), state(checkpoint.paths(tmp_path / "whole")[-1]))


def test_another_tag_set_is_refused(place: Path, tmp_path: Path) -> None:
    run(learner(place), tmp_path)
    other = learner(place, "data.tag_map={LOC: GPE}")
    with pytest.raises(UserError, match=r"Use another train\.name"):
        run(other, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    run(other, tmp_path)
