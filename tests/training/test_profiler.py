"""The profiler's trace: the steps it promises, whatever the run's length, and the same weights as without it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metacross.events import Event, Note
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from metacross.training.profiler import profiled
from tests.helpers.tiny_bundle import tiny_config

CPU = torch.device("cpu")


def traced_steps(folder: Path) -> list[int]:
    """Steps in the only trace, in the order of their beginning."""
    (path,) = folder.glob("*.json.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    ranges = [e for e in events if e.get("cat") == "user_annotation" and e["name"].startswith("meta-step ")]
    return [int(e["name"].split()[1]) for e in sorted(ranges, key=lambda e: e["ts"])]


def work(folder: Path, *, steps: int, first: int = 0, last: int | None = None) -> list[str]:
    """Steps that only add numbers, from `first` done to `last`; the notes that were reported."""
    notes: list[Event] = []
    with profiled(folder, wanted=True, steps=steps, device=CPU, report=notes.append) as around_step:
        for done in range(first, last or steps):
            with around_step(done):
                torch.ones(8).add_(1)
    return [note.text for note in notes if isinstance(note, Note)]


def test_ten_steps_are_traced_and_the_weights_are_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_folder, "train.steps=20", "train.plain_steps=0", "train.checkpoint_every=20")
    found = {}
    for wanted in (True, False):
        run_dir = tmp_path / str(wanted)
        learner = Learner.from_config(config, device=CPU)
        with profiled(run_dir / "profile", wanted=wanted, steps=20, device=CPU, report=learner.report) as around_step:
            run(learner, run_dir, around_step=around_step)
        found[wanted] = load_file(checkpoint.paths(run_dir)[-1] / "state.safetensors")
    assert found[True].keys() == found[False].keys()
    assert all(torch.equal(found[True][name], found[False][name]) for name in found[True])

    assert not (tmp_path / "False" / "profile").exists()
    folder = tmp_path / "True" / "profile"
    assert sorted(path.name for path in folder.iterdir()) == ["steps-6-15.pt.trace.json.gz", "steps-6-15.txt"]
    assert traced_steps(folder) == list(range(6, 16))
    table = (folder / "steps-6-15.txt").read_text(encoding="utf-8")
    assert "aten::addmm" in table
    assert "Self CPU" in table


@pytest.mark.parametrize(
    ("steps", "first", "last", "expected"),
    [
        (1, 0, None, (1, 1)),
        (4, 0, None, (1, 4)),
        (12, 0, None, (3, 12)),
        (15, 0, None, (6, 15)),
        (100, 0, None, (6, 15)),
        (100, 60, None, (66, 75)),  # resumed
        (100, 95, None, (96, 100)),
        (100, 0, 9, (6, 9)),  # stopped
    ],
)
def test_which_steps_are_traced(
    tmp_path: Path, steps: int, first: int, last: int | None, expected: tuple[int, int]
) -> None:
    (note,) = work(tmp_path, steps=steps, first=first, last=last)
    a, b = expected
    assert traced_steps(tmp_path) == list(range(a, b + 1))
    assert note == f"trace of steps {a} to {b}: {tmp_path / f'steps-{a}-{b}.pt.trace.json.gz'}"


def test_a_run_stopped_before_the_trace_leaves_none(tmp_path: Path) -> None:
    assert work(tmp_path, steps=100, last=5) == []
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    (tmp_path / "profile").touch()
    (note,) = work(tmp_path / "profile", steps=20)
    assert note.startswith("no trace: ")
    assert "File exists" in note


def test_a_step_that_fails_ends_the_trace(tmp_path: Path) -> None:
    notes: list[Event] = []
    with (
        pytest.raises(ZeroDivisionError),
        profiled(tmp_path, wanted=True, steps=20, device=CPU, report=notes.append) as around_step,
    ):
        for done in range(20):
            with around_step(done):
                1 / (7 - done)
    assert traced_steps(tmp_path) == [6, 7, 8]
    work(tmp_path / "next", steps=1)  # the profiler is free again


@pytest.mark.gpu
def test_a_trace_of_a_gpu_has_its_kernels(tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    with profiled(tmp_path, wanted=True, steps=2, device=cuda, report=lambda event: None) as around_step:
        for done in range(2):
            with around_step(done):
                torch.ones(64, device=cuda).add_(1)
    (path,) = tmp_path.glob("*.json.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        assert any(e.get("cat") == "kernel" for e in json.load(file)["traceEvents"])
