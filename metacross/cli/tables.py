"""What commands show as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from metacross.tagging.evaluation import mean
from metacross.wording import counted

if TYPE_CHECKING:
    from metacross.corpora.reader import Summary
    from metacross.sweeps.trials import Sweep


def trials_table(sweep: Sweep) -> Table:
    """The best trials of a sweep."""
    from metacross.sweeps.report import SHOWN, rows  # brings matplotlib

    best = rows(sweep)[:SHOWN]
    table = Table(box=box.SIMPLE, title=f"the best of {counted(len(sweep.trials), 'trials')}")
    for name in best[0] if best else ():
        table.add_column(name, no_wrap=name != "error")
    for row in best:
        table.add_row(*(escape(f"{value:.4g}" if isinstance(value, float) else str(value)) for value in row.values()))
    return table


def comparison_table(directory: Path) -> Table:
    """F1 of a comparison's methods, as its report has them."""
    found = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    table = Table(
        box=box.SIMPLE,
        title=f"{escape(found['suite'])}: entity F1 in percent, over {counted(len(found['seeds']), 'seeds')}",
    )
    columns = [*found["languages"], "mean"]
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for method, row in found["f1"].items():
        table.add_row(escape(method), *(f"{row[name]['mean']:.1f} ± {row[name]['sd']:.1f}" for name in columns))
    return table


def evaluation_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """What `evaluation.evaluate` found: per language and type, and the mean of the languages."""
    table = Table(box=box.SIMPLE, title="entity precision, recall and F1 in percent")
    table.add_column("")
    for name in ("sentences", "entities", "plain P", "R", "F1", "adapted P", "R", "F1", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "entities": 0}
    for language, result in results.items():
        plain, adapted = result["plain"]["per_type"], result["adapted"]["per_type"]
        types = sorted({*plain, *adapted})
        entities = sum(row["entities"] for row in adapted.values())
        table.add_section()
        table.add_row(language, str(result["sentences"]), str(entities), *_figures(result["plain"], result["adapted"]))
        for kind in types:
            before, after = plain.get(kind, nothing), adapted.get(kind, nothing)
            found = max(before["entities"], after["entities"])
            table.add_row(f"  {kind}", "", str(found), *_figures(before, after), style="dim")
    if len(results) > 1:
        average = mean(results)
        table.add_section()
        table.add_row("mean", "", "", *_figures(average["plain"], average["adapted"]))
    return table


def _figures(plain: Mapping[str, float], adapted: Mapping[str, float]) -> list[str]:
    figures = [f"{part[key]:.2f}" for part in (plain, adapted) for key in ("precision", "recall", "f1")]
    return [*figures, f"{adapted['f1'] - plain['f1']:+.2f}"]


def corpus_table(name: str, summary: Summary) -> Table:
    """A corpus in figures."""
    table = Table(box=box.SIMPLE, title=escape(name), title_justify="left", show_header=False)
    entities = [f"{count} {kind}" for kind, count in summary.entities.items()]
    rows = {
        "format": f"{summary.format}, {summary.scheme}, {summary.encoding}",
        "language": summary.language or "not marked",
        "sentences": f"{summary.sentences}, {summary.untagged:.1%} without entities",
        "words": f"{summary.words}, {summary.longest} in the longest sentence",
        "entities": ", ".join(entities) or "none",
        "oddities": "\n".join(summary.oddities) or "none",
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    return table
