"""What a sweep leaves to look at: results.csv, best.yaml, plots as PNG, and all of it on one page, report.html."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from metacross.errors import UserError
from metacross.storage.files import write_file
from metacross.sweeps.space import Space, sections
from metacross.sweeps.trials import Sweep, Trial

SHOWN = 5  # best trials in the command line's table
STATES = {"finished": "tab:green", "stopped": "tab:orange", "failed": "tab:red", "unfinished": "tab:gray"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
pre {{ background: #f4f4f4; color: #222; padding: 1rem; overflow-x: auto; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<h2>Best settings</h2><pre>{best}</pre>
<h2>Trials</h2>{table}
{plots}
</body></html>
"""


def write_report(sweep: Sweep) -> list[Path]:
    """Writes everything into the sweep's directory and returns the files; without a measured trial only the table.

    Raises:
        UserError: the directory cannot be written.
    """
    plots = {}
    if any(trial.history for trial in sweep.trials):
        plots = {
            "score-by-setting.png": by_setting(sweep),
            "parallel-coordinates.png": parallel_coordinates(sweep),
            "score-by-step.png": by_step(sweep),
        }
    files: dict[str, bytes] = {"results.csv": _csv(sweep).encode()}
    best = best_settings(sweep)
    if best:
        files["best.yaml"] = best.encode()
    files |= {name: _png(figure) for name, figure in plots.items()}
    images = {name: base64.b64encode(files[name]).decode() for name in plots}
    files["report.html"] = PAGE.format(
        title=html.escape(f"Sweep {sweep.directory.name}"),
        summary=html.escape(summary(sweep)),
        best=html.escape(best or "no trial was measured"),
        table=_table(sweep),
        plots="".join(
            f'<h2>{name[:-4].replace("-", " ").capitalize()}</h2><img alt="{name}" src="data:image/png;base64,{image}">'
            for name, image in images.items()
        ),
    ).encode()
    written = []
    for name, content in files.items():
        path = sweep.directory / name
        try:
            write_file(path, content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error}). Free some space.") from error
        written.append(path)
    return written


def summary(sweep: Sweep) -> str:
    """How many trials ended how, in a sentence."""
    counts = [(state, sum(trial.state == state for trial in sweep.trials)) for state in STATES]
    return f"{len(sweep.trials)} of {sweep.space.trials} trials: " + ", ".join(
        f"{n} {state}" for state, n in counts if n
    )


def best_settings(sweep: Sweep) -> str:
    """The best trial's settings as a configuration file; "" where nothing was measured."""
    if not sweep.trials or not sweep.trials[0].history:
        return ""
    best = sweep.trials[0]
    settings = sections({**sweep.space.fixed, **best.chosen})
    note = f"# Best trial {best.id} of sweep {sweep.directory.name}: dev F1 {best.best:.2f}, {best.state}\n"
    return note + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def rows(sweep: Sweep) -> list[dict[str, Any]]:
    """One row a trial, best first: id, state, best score, last step, the searched settings, error."""
    return [
        {
            "trial": trial.id,
            "state": trial.state,
            "dev F1": f"{trial.best:.2f}" if trial.history else "",
            "step": trial.history[-1].step if trial.history else 0,
            **{key: trial.chosen.get(key) for key in sweep.space.space},
            "error": trial.error,
        }
        for trial in sweep.trials
    ]


def by_setting(sweep: Sweep) -> Figure:
    """Best score of every trial against each searched setting."""
    keys = list(sweep.space.space)
    figure = Figure(figsize=(4.2 * min(len(keys), 3), 3.4 * -(-len(keys) // 3)), layout="constrained")
    for place, key in enumerate(keys, 1):
        axes = figure.add_subplot(-(-len(keys) // 3), min(len(keys), 3), place)
        kind = next(iter(sweep.space.space[key]))
        for state, colour in STATES.items():
            some = [trial for trial in _measured(sweep) if trial.state == state]
            values = [trial.chosen[key] for trial in some]
            axes.scatter(
                [str(v) for v in values] if kind == "choice" else values,
                [trial.best for trial in some],
                color=colour,
                label=state if some else None,
            )
        if "log" in kind:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())  # they would lie over each other
        axes.set_xlabel(key)
        axes.set_ylabel("dev F1")
        if place == 1:
            axes.legend(fontsize="small")
    return figure


def parallel_coordinates(sweep: Sweep) -> Figure:
    """A line per trial through its settings to its score; better ones are darker."""
    trials, keys = sorted(_measured(sweep), key=lambda trial: trial.best), list(sweep.space.space)
    columns = [_heights(sweep.space, key, trials) for key in keys]
    low, high = trials[0].best, trials[-1].best
    columns.append([(trial.best - low) / ((high - low) or 1) for trial in trials])
    figure = Figure(figsize=(2.4 * len(columns) + 1, 4), layout="constrained")
    axes = figure.add_subplot()
    for i in range(len(trials)):
        shade = columns[-1][i]
        axes.plot(
            range(len(columns)), [column[i] for column in columns], color=(0.1, 0.2, 0.6, 0.15 + 0.85 * shade), lw=1.5
        )
    axes.set_xticks(range(len(columns)), [*keys, "dev F1"])
    axes.set_yticks([])
    for place, key in enumerate(keys):
        _ends(axes, place, sweep.space, key)
    axes.annotate(f"{high:.1f}", (len(keys), 1.02), ha="center")
    axes.annotate(f"{low:.1f}", (len(keys), -0.06), ha="center")
    for place in range(len(columns)):
        axes.axvline(place, color="0.8", zorder=0)
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


def _ends(axes: Axes, place: int, space: Space, key: str) -> None:
    ((kind, values),) = space.space[key].items()
    low, high = (values[0], values[-1] if kind == "choice" else values[1])
    axes.annotate(str(high), (place, 1.02), ha="center")
    axes.annotate(str(low), (place, -0.06), ha="center")


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _csv(sweep: Sweep) -> str:
    table = rows(sweep)
    out = io.StringIO()
    names = list(table[0]) if table else ["trial", "state", "dev F1", "step", *sweep.space.space, "error"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def _table(sweep: Sweep) -> str:
    table = rows(sweep)
    if not table:
        return "<p>none</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row.values()) + "</tr>" for row in table
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
