"""The plots of a report, each as SVG and PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metacross.reproduction.tables import MEAN

COLOURS = ("#3b6fb6", "#d1702f", "#4d9a57", "#8a5aa8", "#b0413e", "#3a9aa8", "#a8862e", "#c46aa0", "#5c5c8a", "#8b8b8b")
RC: Any = {  # matplotlib's settings: the same figures give the same file, and text stays text
    "svg.hashsalt": "metacross",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plots(found: Mapping[str, Any]) -> dict[str, bytes]:
    """All plots that there are figures for: names of files, and their content.

    Args:
        found: what `tables.figures` returned.
    """
    with matplotlib.rc_context(RC):
        drawn = {
            "gain-by-language": gain_by_language(found) if found["gains"] else None,
            "f1-by-neighbours": f1_by_value(found, "neighbours", "K") if found["neighbours"] else None,
            "f1-by-inner-lr": f1_by_value(found, "inner_lr", "inner learning rate") if found["inner_lr"] else None,
            "gain-by-similarity": gain_by_similarity(found) if found["similarity"] else None,
            "f1-by-shots": f1_by_shots(found) if found["shots"] else None,
        }
        return {
            f"plots/{name}.{form}": _file(figure, form)
            for name, figure in drawn.items()
            if figure is not None
            for form in ("svg", "png")
        }


def gain_by_language(found: Mapping[str, Any]) -> Figure:
    """What the main method has over the baseline, the best control and its own plain tags, with 95 % intervals."""
    rows = [row for row in found["gains"] if row["method"] == found["main"]]
    columns = [*found["languages"], MEAN]
    figure, axes = _axes(width=4 + 0.9 * len(columns))
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        at = [column + (i - (len(rows) - 1) / 2) * width for column in range(len(columns))]
        means = [row["languages"][one]["mean"] for one in columns]
        lows, highs = zip(*(row["languages"][one]["interval"] for one in columns), strict=True)
        errors = [
            [max(0.0, m - low) for m, low in zip(means, lows, strict=True)],
            [max(0.0, high - m) for m, high in zip(means, highs, strict=True)],
        ]
        axes.bar(at, means, width, yerr=errors, capsize=2, color=_colour(i), label=f"over {row['over']}", ecolor="0.3")
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylabel(f"gain of {found['main']}, F1 points")
    _legend_beside(axes)
    return figure


def f1_by_value(found: Mapping[str, Any], key: str, name: str) -> Figure:
    """The main method's F1 for each value of a setting, by language and in the mean; bars are deviations over seeds."""
    figure, axes = _axes()
    values = [float(value) for value in found[key]]
    rows = list(found[key].values())
    for i, language in enumerate([*found["languages"], MEAN]):
        _line(axes, values, [row.get(language) for row in rows], i, language)
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel(name)
    axes.set_ylabel("F1")
    _legend_beside(axes)
    return figure


def gain_by_similarity(found: Mapping[str, Any]) -> Figure:
    """What adaptation gains, for equal parts of a language's sentences by their neighbours' similarity."""
    figure, axes = _axes()
    for i, (language, rows) in enumerate(found["similarity"].items()):
        similarities, gains = [row["similarity"] for row in rows], [row["gain"] for row in rows]
        axes.plot(similarities, gains, marker="o", ms=4, lw=1.2, color=_colour(i), label=language)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("mean similarity of the neighbours")
    axes.set_ylabel("gain of adaptation, F1 points")
    _legend_beside(axes)
    return figure


def f1_by_shots(found: Mapping[str, Any]) -> Figure:
    """F1 in the mean over languages against the number of labelled target sentences; bars are deviations over draws."""
    figure, axes = _axes()
    sizes = sorted({int(size) for rows in found["shots"].values() for size in rows})
    for i, (name, rows) in enumerate(found["shots"].items()):
        _line(axes, [float(size) for size in sizes], [(rows.get(str(s)) or {}).get(MEAN) for s in sizes], i, name)
    without = found["f1"].get(found["main"], {}).get(MEAN)
    if without:
        axes.axhline(without["mean"], color="0.5", linestyle="--", label=f"{found['main']}, none")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("labelled target sentences")
    axes.set_ylabel("F1")
    _legend_beside(axes)
    return figure


def _line(axes: Axes, x: list[float], cells: list[Mapping[str, Any] | None], i: int, label: str) -> None:
    """A line with deviations; the mean over languages is black and thick."""
    there = [(at, cell["mean"], cell["sd"] or 0.0) for at, cell in zip(x, cells, strict=True) if cell]
    if not there:
        return
    at, means, deviations = zip(*there, strict=True)
    thick = label == MEAN
    colour = "black" if thick else _colour(i)
    axes.errorbar(at, means, deviations, marker="o", ms=4, capsize=2, color=colour, lw=2 if thick else 1.2, label=label)


def _axes(width: float = 6.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 4), layout="constrained")
    return figure, figure.add_subplot()


def _legend_beside(axes: Axes) -> None:
    axes.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _file(figure: Figure, form: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return out.getvalue()
