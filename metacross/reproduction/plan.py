"""What a comparison consists of: its cells, which of them has which figure, and what a changed suite makes anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metacross.reproduction.cells import Cell
from metacross.reproduction.suite import Suite
from metacross.wording import counted


@dataclass(frozen=True)
class Figure:
    """What a figure of the report is about, and the cell that has it.

    Attributes:
        method: its name.
        seed: of the training.
        language: the target language.
        neighbours: K, where it is varied; None: the method's own.
        inner_lr: alpha, where it is varied; None: the method's own.
        size: of the sample of labelled target sentences; 0 without.
        draw: number of the sample.
        plain: whether the figure is that of tagging without adaptation.
        cell: name of the evaluation cell.
    """

    method: str
    seed: int
    language: str
    neighbours: int | None
    inner_lr: float | None
    size: int
    draw: int
    plain: bool
    cell: str


@dataclass
class Plan:
    """All cells of a suite, by name, in the order in which they should be run, and all figures."""

    cells: dict[str, Cell] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def add(self, cell: Cell) -> str:
        """Takes a cell in, unless it is there; returns its name."""
        return self.cells.setdefault(cell.name, cell).name


@dataclass(frozen=True)
class Comparison:
    """A comparison that has ended, or was interrupted.

    Attributes:
        out: its directory.
        suite: the suite.
        plan: its cells and figures.
        failed: what went wrong, by the cell's label.
        interrupted: whether someone stopped it; the same command goes on.
    """

    out: Path
    suite: Suite
    plan: Plan
    failed: Mapping[str, str]
    interrupted: bool


def changes(before: Mapping[str, Mapping[str, Any]], plan: Plan) -> list[str]:
    """Which cells an earlier plan had with other inputs, and in what they differ; a line each, for people.

    Args:
        before: what `labelled_inputs` gave for the earlier plan.
        plan: the plan now.
    """
    lines = []
    followers = 0
    for label, inputs in labelled_inputs(plan).items():
        old = before.get(label, inputs)
        if old == inputs:
            continue
        flat_old, flat = _flat(old), _flat(inputs)
        keys = [key for key in sorted(flat_old.keys() | flat.keys()) if flat_old.get(key) != flat.get(key)]
        if keys != ["teachers"] and {"bundle", "bundles", "start", "teachers"}.issuperset(keys):
            followers += 1
            continue
        lines.append(f"anew: {label} ({', '.join(f'{k}: {flat_old.get(k)} -> {flat.get(k)}' for k in keys)})")
    return lines + ([f"anew: {counted(followers, 'cells')} made from these"] if followers else [])


def labelled_inputs(plan: Plan) -> dict[str, Mapping[str, Any]]:
    """The inputs of all cells by label, for `changes` of a later plan."""
    return {cell.label: cell.inputs for cell in plan.cells.values()}


def _flat(inputs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in inputs.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
