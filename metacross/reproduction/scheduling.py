"""Which cell runs when: those first that others need, as many side by side as there is room for. No Ray.

A cell that fails sinks nothing but the cells that need it. One whose worker was lost is started again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from metacross.event_files import EventTail
from metacross.events import Note, Preparation, Show, StepsDone
from metacross.reproduction.cells import Adoption, Cell, Evaluation, folder_of, is_done, seconds_of
from metacross.reproduction.plan import Plan

POLL_SECONDS = 0.5  # between two looks at the cells that run


class Ended(NamedTuple):
    """How a cell ended.

    Attributes:
        cell: the cell.
        done: whether its result is there; if not, and there is no error, someone stopped it.
        error: what went wrong; "" where nothing did.
        lost: whether that was the loss of its worker, so that another try may help.
    """

    cell: Cell
    done: bool
    error: str = ""
    lost: bool = False


class Executor(Protocol):
    """Runs cells side by side."""

    def start(self, cell: Cell) -> None:
        """Starts a cell."""

    def ended(self, seconds: float) -> list[Ended]:
        """The started cells that have ended since the last call; waits for one, but no longer than so many seconds."""


def run_cells(
    plan: Plan,
    out: Path,
    executor: Executor,
    *,
    parallel: int,
    max_losses: int,
    stopped: Callable[[], bool],
    show: Show,
) -> dict[str, str]:
    """Runs all cells of a plan that are not done; returns what went wrong, by the cell's label.

    Args:
        plan: the plan.
        out: the comparison's directory.
        executor: what runs cells.
        parallel: cells that run side by side.
        max_losses: lost workers that a cell survives.
        stopped: whether someone wants to stop: then nothing is started any more.
        show: gets notes, and the number of cells done.
    """
    waiting = {name: cell for name, cell in plan.cells.items() if not is_done(out, name)}
    running: set[str] = set()
    failed: dict[str, str] = {}
    losses: dict[str, int] = {}
    estimate = Estimate(out, list(plan.cells.values()), parallel)
    total = len(plan.cells)

    def begin() -> None:
        for name, cell in list(waiting.items()):
            if len(running) == parallel:
                return
            if all(is_done(out, needed) for needed in cell.needs):
                del waiting[name]
                running.add(name)
                estimate.started(cell)
                executor.start(cell)

    while True:
        if not stopped():
            begin()
        if not running:  # all is done, or stopped, or needs what has failed
            return failed
        for cell, done, error, lost in executor.ended(POLL_SECONDS):
            running.remove(cell.name)
            estimate.ended(cell)
            losses[cell.name] = losses.get(cell.name, 0) + lost
            if done:
                show(Note(f"done: {cell.label}"))
            elif lost and losses[cell.name] <= max_losses:
                show(Note(f"{cell.label} lost its worker ({error}): again, try {losses[cell.name]} of {max_losses}"))
                waiting[cell.name] = cell
            elif error:
                failed[cell.label] = error
                show(Note(f"failed: {cell.label}: {error}"))
        open_cells = {*waiting, *running}
        show(Preparation("cells", total - len(open_cells) - len(failed), total, left=estimate.left(open_cells)))


class Estimate:
    """How long the open cells will take, judged by cells of their kind: done ones, or trainings under way.

    Args:
        out: the comparison's directory.
        cells: all of them.
        parallel: cells that run side by side.
    """

    def __init__(self, out: Path, cells: Sequence[Cell], parallel: int) -> None:
        self._out, self._parallel = out, parallel
        self._cells = {cell.name: cell for cell in cells}
        self._took: dict[str, list[float]] = {}
        self._began: dict[str, float] = {}
        self._tails: dict[str, EventTail] = {}
        self._left: dict[str, float] = {}  # by trainings' own estimates
        for cell in cells:
            if is_done(out, cell.name):
                self._took.setdefault(_sort(cell), []).append(seconds_of(out, cell.name))

    def started(self, cell: Cell) -> None:
        """A cell has begun."""
        self._began[cell.name] = time.monotonic()
        self._tails[cell.name] = EventTail(folder_of(self._out, cell.name) / "progress.jsonl")

    def ended(self, cell: Cell) -> None:
        """A cell has ended, in whatever way."""
        took = time.monotonic() - self._began.pop(cell.name)
        if is_done(self._out, cell.name):
            self._took.setdefault(_sort(cell), []).append(took)
        self._tails.pop(cell.name)
        self._left.pop(cell.name, None)

    def left(self, open_cells: Collection[str]) -> float | None:
        """Seconds until these cells are done; None as long as there is a kind of which nothing is known."""
        now = time.monotonic()
        for name, tail in self._tails.items():
            for event in tail.new():
                if isinstance(event, StepsDone):
                    self._left[name] = event.seconds_left
        guesses = {kind: sum(took) / len(took) for kind, took in self._took.items()}
        for name, left in self._left.items():
            guesses.setdefault(_sort(self._cells[name]), now - self._began[name] + left)
        total = 0.0
        for name in open_cells:
            guess = guesses.get(_sort(self._cells[name]))
            if guess is None:
                return None
            total += max(0.0, guess - (now - self._began[name])) if name in self._began else guess
        return total / self._parallel


def _sort(cell: Cell) -> str:
    """Cells of one sort take about equally long."""
    match cell.job:
        case Evaluation(way=way):
            return way
        case Adoption(distillation=True):
            return "adopt with distillation"
        case Adoption(texts=texts) if not texts:
            return "adopt labelled sentences"
        case _:
            return cell.kind
