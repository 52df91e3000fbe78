"""The report of a sweep: results.csv, best.yaml, plots as PNG, and all of it on one page, report.html."""

from __future__ import annotations

import base64
import csv
import html
import io
from pathlib import Path
from typing import Any

from metacross.errors import UserError
from metacross.storage.files import write_file
from metacross.sweeps.plots import STATES, by_setting, by_step, parallel_coordinates, png
from metacross.sweeps.space import sections
from metacross.sweeps.trials import Sweep
from metacross.wording import counted
from metacross.yaml_nodes import write_yaml

SHOWN = 5  # rows of the command line's table, the best trials
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
    """Writes the report into the sweep's directory and returns its files; without a measured trial only the table.

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
    files |= {name: png(figure) for name, figure in plots.items()}
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
    return f"{len(sweep.trials)} of {counted(sweep.space.trials, 'trials')}: " + ", ".join(
        f"{n} {state}" for state, n in counts if n
    )


def best_settings(sweep: Sweep) -> str:
    """The best trial's settings as a configuration file; "" where nothing was measured."""
    if not sweep.trials or not sweep.trials[0].history:
        return ""
    best = sweep.trials[0]
    settings = sections({**sweep.space.fixed, **best.chosen})
    note = f"# Best trial {best.id} of sweep {sweep.directory.name}: dev F1 {best.best:.2f}, {best.state}\n"
    return note + write_yaml(settings)


def rows(sweep: Sweep) -> list[dict[str, Any]]:
    """A row for every trial, best first: id, state, best score, last step, the searched settings, error."""
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
