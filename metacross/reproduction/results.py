"""What evaluation cells found, read back for the report: entity counts by seed and sentence, and figures made of them.

Shapes: S seeds, N sentences.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metacross.reproduction.cells import folder_of, is_done
from metacross.reproduction.plan import Figure, Plan
from metacross.reproduction.run_cell import RESULT_FILE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Entities of one test file, tagged by one method with several seeds.

    Attributes:
        gold_N: labelled entities of each sentence.
        found_SN: entities found.
        correct_SN: found entities that are labelled so.
    """

    gold_N: Array
    found_SN: Array
    correct_SN: Array

    def of_seeds(self, rows: Sequence[int]) -> Counts:
        """The counts of some seeds, by their rows, in this order."""
        return Counts(self.gold_N, self.found_SN[rows], self.correct_SN[rows])

    @cached_property
    def f1_S(self) -> Array:
        """Micro F1 of each seed, in percent."""
        return f1(self.gold_N.sum(), self.found_SN.sum(1), self.correct_SN.sum(1))

    @cached_property
    def precision_S(self) -> Array:
        """Precision of each seed, in percent."""
        return _ratio(100 * self.correct_SN.sum(1), self.found_SN.sum(1))

    @cached_property
    def recall_S(self) -> Array:
        """Recall of each seed, in percent."""
        return _ratio(100 * self.correct_SN.sum(1), np.full(len(self.found_SN), self.gold_N.sum()))

    @cached_property
    def errors_SN(self) -> Array:
        """Entities that were missed, and those that were found and are none."""
        return self.gold_N + self.found_SN - 2 * self.correct_SN


@dataclass(frozen=True)
class Measured:
    """One method on one target language.

    Attributes:
        seeds: those that were measured.
        counts: of the method's answers.
        plain: of the answers of the same bundles without adaptation.
        changed_SN: whether a sentence's tags differ between the two.
        similarity_SN: mean similarity of a sentence's neighbours; NaN where it is not known.
        cells: names of the cells, by seed.
        costs: what each cell says of speed and memory.
    """

    seeds: list[int]
    counts: Counts
    plain: Counts
    changed_SN: NDArray[np.bool_]
    similarity_SN: Array
    cells: list[str]
    costs: list[dict[str, Any]]

    @property
    def distinct(self) -> Measured:
        """The same with every cell once: seeds whose bundles are averaged share theirs."""
        first = sorted({cell: number for number, cell in reversed(list(enumerate(self.cells)))}.values())
        return Measured(
            seeds=[self.seeds[i] for i in first],
            counts=self.counts.of_seeds(first),
            plain=self.plain.of_seeds(first),
            changed_SN=self.changed_SN[first],
            similarity_SN=self.similarity_SN[first],
            cells=[self.cells[i] for i in first],
            costs=[self.costs[i] for i in first],
        )


def f1(gold: Any, found: Any, correct: Any) -> Array:
    """F1 in percent from numbers of entities; 0 where there are none."""
    return _ratio(200 * np.asarray(correct, dtype=np.float64), np.asarray(found) + np.asarray(gold))


def measured(plan: Plan, out: Path, method: str, language: str, **varied: Any) -> Measured | None:
    """What is there of a method on a language; None where no cell is done.

    Args:
        plan: the plan.
        out: the comparison's directory.
        method: its name.
        language: the target language.
        varied: `neighbours` or `inner_lr`, where that was varied; size and draw of a sample.
    """
    wanted = {"neighbours": None, "inner_lr": None, "size": 0, "draw": 0, **varied}
    figures = [
        figure
        for figure in plan.figures
        if (figure.method, figure.language) == (method, language)
        and all(getattr(figure, key) == value for key, value in wanted.items())
        and is_done(out, figure.cell)
    ]
    return _stacked(figures, out) if figures else None


def read_result(out: Path, cell: str) -> dict[str, Any]:
    """What an evaluation cell found; see evaluation.py."""
    content: dict[str, Any] = json.loads((folder_of(out, cell) / RESULT_FILE).read_text(encoding="utf-8"))
    return content


def _stacked(figures: Sequence[Figure], out: Path) -> Measured:
    cells = [read_result(out, figure.cell) for figure in figures]
    rows = [cell["sentences"] for cell in cells]
    gold_N = np.array([row["gold"] for row in rows[0]], dtype=np.float64)

    def counts(name: str) -> Counts:
        pairs_SN2 = np.array([[row[name] for row in part] for part in rows], dtype=np.float64)
        return Counts(gold_N, pairs_SN2[..., 0], pairs_SN2[..., 1])

    plain = counts("plain")
    return Measured(
        seeds=[figure.seed for figure in figures],
        counts=plain if figures[0].plain else counts("tagged"),
        plain=plain,
        changed_SN=np.array([[row["plain_tags"] != row["tagged_tags"] for row in part] for part in rows]),
        similarity_SN=np.array(
            [[np.nan if row["similarity"] is None else row["similarity"] for row in part] for part in rows]
        ),
        cells=[figure.cell for figure in figures],
        costs=[{key: cell[key] for key in ("requests_per_second", "memory_mb")} for cell in cells],
    )


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=np.asarray(below) > 0)
