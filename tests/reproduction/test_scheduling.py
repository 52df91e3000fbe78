"""Cells in their order: side by side, after a failure, after a lost worker, and after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metacross.config import Config
from metacross.event_files import to_line
from metacross.events import Event, Note, Preparation, StepsDone
from metacross.reproduction.cells import DONE_FILE, Cell, Training, folder_of
from metacross.reproduction.plan import Plan
from metacross.reproduction.planning import make_plan
from metacross.reproduction.scheduling import Ended, Estimate, run_cells
from metacross.reproduction.suite import Suite


class Pretended:
    """Ends every cell at the next look, as `how` says; by default it is done."""

    def __init__(self, out: Path, how: Callable[[Cell], Ended | None] = lambda cell: None) -> None:
        self.out, self.how = out, how
        self.running: list[Cell] = []
        self.started: list[str] = []
        self.most = 0

    def start(self, cell: Cell) -> None:
        self.running.append(cell)
        self.started.append(cell.label)
        self.most = max(self.most, len(self.running))

    def ended(self, seconds: float) -> list[Ended]:
        cell = self.running.pop(0)
        outcome = self.how(cell)
        if outcome is None:
            folder = folder_of(self.out, cell.name)
            folder.mkdir(parents=True)
            (folder / DONE_FILE).write_text(json.dumps({"seconds": 2.0}))
        return [outcome or Ended(cell, done=True)]


@pytest.fixture
def plan(suite: Suite, base: Config) -> Plan:
    return make_plan(suite, base)


def run(plan: Plan, executor: Pretended, **changes: Any) -> tuple[dict[str, str], list[Event]]:
    events: list[Event] = []
    settings: dict[str, Any] = {"parallel": 3, "max_losses": 2, "stopped": lambda: False, **changes}
    return run_cells(plan, executor.out, executor, show=events.append, **settings), events


def test_all_cells_run_once_and_are_counted(plan: Plan, tmp_path: Path) -> None:
    executor = Pretended(tmp_path)
    failed, events = run(plan, executor)
    assert failed == {}
    assert sorted(executor.started) == sorted(cell.label for cell in plan.cells.values())
    assert executor.most == 3
    counts = [event for event in events if isinstance(event, Preparation)]
    assert (counts[-1].done, counts[-1].total, counts[-1].left) == (len(plan.cells), len(plan.cells), 0.0)
    assert run(plan, Pretended(tmp_path))[1] == []  # nothing is left


def test_a_failed_cell_sinks_only_what_needs_it(plan: Plan, tmp_path: Path) -> None:
    bad = "train without mask, seed 1"
    executor = Pretended(tmp_path, lambda cell: Ended(cell, False, "the disk is full") if cell.label == bad else None)
    failed, _ = run(plan, executor)
    assert failed == {bad: "the disk is full"}
    left = {cell.label for cell in plan.cells.values()} - set(executor.started)
    assert left == {"measure without mask, seed 1, es", "measure without mask, seed 1, de"}


def test_a_cell_that_lost_its_worker_runs_again(plan: Plan, tmp_path: Path) -> None:
    unlucky = "train metacross, seed 2"
    times = [2]

    def how(cell: Cell) -> Ended | None:
        if cell.label == unlucky and times[0]:
            times[0] -= 1
            return Ended(cell, False, "killed", lost=True)
        return None

    executor = Pretended(tmp_path, how)
    failed, events = run(plan, executor)
    assert failed == {}
    assert executor.started.count(unlucky) == 3
    assert Note(f"{unlucky} lost its worker (killed): again, try 2 of 2") in events
    times[0] = 3
    failed, _ = run(plan, Pretended(tmp_path / "other", how))
    assert failed == {unlucky: "killed"}


def test_after_a_stop_nothing_is_started(plan: Plan, tmp_path: Path) -> None:
    asked = [False]

    def how(cell: Cell) -> Ended | None:
        asked[0] = True
        return Ended(cell, done=False) if isinstance(cell.job, Training) else None

    executor = Pretended(tmp_path, how)
    failed, _ = run(plan, executor, stopped=lambda: asked[0])
    assert failed == {}
    assert len(executor.started) == 3  # those that ran already
    assert executor.running == []


def test_estimates(plan: Plan, tmp_path: Path) -> None:
    training, measuring = (
        [cell for cell in plan.cells.values() if isinstance(cell.job, Training) == wanted] for wanted in (True, False)
    )
    estimate = Estimate(tmp_path, list(plan.cells.values()), 2)
    one, other = training[0], training[1]
    estimate.started(one)
    assert estimate.left({one.name, other.name}) is None
    folder = folder_of(tmp_path, one.name)
    folder.mkdir(parents=True)
    event = StepsDone(
        step=1, steps=3, loss=1.0, learning_rate=0.1, pieces_per_second=1.0, steps_per_second=1.0, seconds_left=30.0
    )
    (folder / "progress.jsonl").write_text(to_line(event))
    assert estimate.left({one.name, other.name}) == pytest.approx(30, abs=1)  # both of 30 s, two at a time
    assert estimate.left({one.name, measuring[0].name}) is None
    (folder / DONE_FILE).write_text(json.dumps({"seconds": 8.0}))
    later = Estimate(tmp_path, list(plan.cells.values()), 1)
    assert later.left({other.name}) == 8.0


def test_an_adoption_with_distillation_says_nothing_about_one_without(plan: Plan, tmp_path: Path) -> None:
    by_label = {cell.label: cell for cell in plan.cells.values()}
    folder = folder_of(tmp_path, by_label["adopt adopted by itself, seed 1"].name)
    folder.mkdir(parents=True)
    (folder / DONE_FILE).write_text(json.dumps({"seconds": 8.0}))
    estimate = Estimate(tmp_path, list(plan.cells.values()), 1)
    assert estimate.left({by_label["adopt adopted by itself, seed 2"].name}) == 8.0
    assert estimate.left({by_label["adopt adopted, seed 1"].name}) is None
