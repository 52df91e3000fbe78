"""Plots of a sweep's trials.

Those of `optuna.visualization` would be less code, but do not show how a trial ended, and their labels overlap.
"""

from __future__ import annotations

import io
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from metacross.sweeps.space import Space
from metacross.sweeps.trials import Sweep, Trial

STATES = {"finished": "tab:green", "stopped": "tab:orange", "failed": "tab:red", "unfinished": "tab:gray"}  # colours


def by_setting(sweep: Sweep) -> Figure:
    """Best score of every trial against each searched setting."""
    keys = list(sweep.space.space)
    figure = Figure(figsize=(4.2 * min(len(keys), 3), 3.4 * -(-len(keys) // 3)), layout="constrained")
    for number, key in enumerate(keys, 1):
        axes = figure.add_subplot(-(-len(keys) // 3), min(len(keys), 3), number)
        kind = next(iter(sweep.space.space[key]))
        for state, colour in STATES.items():
            trials = [trial for trial in _measured(sweep) if trial.state == state]
            values = [trial.chosen[key] for trial in trials]
            axes.scatter(
                [str(v) for v in values] if kind == "choice" else values,
                [trial.best for trial in trials],
                color=colour,
                label=state if trials else None,
            )
        if "log" in kind:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())  # they would lie over each other
        axes.set_xlabel(key)
        axes.set_ylabel("dev F1")
        if number == 1:
            axes.legend(fontsize="small")
    return figure


def parallel_coordinates(sweep: Sweep) -> Figure:
    """A line per trial through its settings to its score; better ones are darker."""
    trials, keys = sorted(_measured(sweep), key=lambda trial: trial.best), list(sweep.space.space)
    heights = [_heights(sweep.space, key, trials) for key in keys]
    low, high = trials[0].best, trials[-1].best
    heights.append([(trial.best - low) / ((high - low) or 1) for trial in trials])
    figure = Figure(figsize=(2.4 * len(heights) + 1, 4), layout="constrained")
    axes = figure.add_subplot()
    for i in range(len(trials)):
        shade = 0.15 + 0.85 * heights[-1][i]
        axes.plot(range(len(heights)), [column[i] for column in heights], color=(0.1, 0.2, 0.6, shade), lw=1.5)
    axes.set_xticks(range(len(heights)), [*keys, "dev F1"])
    axes.set_yticks([])
    for column, key in enumerate(keys):
        _label_ends(axes, column, sweep.space, key)
    axes.annotate(f"{high:.1f}", (len(keys), 1.02), ha="center")
    axes.annotate(f"{low:.1f}", (len(keys), -0.06), ha="center")
    for column in range(len(heights)):
        axes.axvline(column, color="0.8", zorder=0)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_ylim(-0.1, 1.1)
    return figure


def by_step(sweep: Sweep) -> Figure:
    """Every trial's score at each measurement; a line that ends early is a trial that the scheduler stopped."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    seen: set[str] = set()
    for trial in _measured(sweep):
        axes.plot(
            [measured.step for measured in trial.history],
            [measured.score for measured in trial.history],
            marker="o",
            ms=3,
            color=STATES[trial.state],
            label=None if trial.state in seen else trial.state,
        )
        seen.add(trial.state)
    axes.set_xlabel("step")
    axes.set_ylabel("dev F1")
    axes.legend(fontsize="small")
    return figure


def _measured(sweep: Sweep) -> list[Trial]:
    return [trial for trial in sweep.trials if trial.history]


def _heights(space: Space, key: str, trials: list[Trial]) -> list[float]:
    """A setting's values as heights from 0 to 1 on its axis."""
    ((kind, values),) = space.space[key].items()
    if kind == "choice":
        return [values.index(trial.chosen[key]) / max(1, len(values) - 1) for trial in trials]
    scale = math.log if "log" in kind else float
    low, high = scale(values[0]), scale(values[1])
    return [(scale(trial.chosen[key]) - low) / (high - low) for trial in trials]


def _label_ends(axes: Axes, column: int, space: Space, key: str) -> None:
    """Writes a setting's lowest and highest value below and above its axis."""
    ((kind, values),) = space.space[key].items()
    low, high = (values[0], values[-1] if kind == "choice" else values[1])
    axes.annotate(str(high), (column, 1.02), ha="center")
    axes.annotate(str(low), (column, -0.06), ha="center")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()
