"""A Markdown table of F1 out of what `metacross evaluate --json` wrote.

    python -m benchmarks.results_table base=base-95.json,base-495.json metacross=meta-95.json,meta-495.json

One column pair (plain, adapted) per name, one row per language, mean and standard deviation over the files of a name
(one file per seed), and a row of means over languages.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


def table(runs: Mapping[str, Sequence[Results]]) -> str:
    """The table; all files must have the same languages."""
    languages = list(next(iter(runs.values()))[0])
    columns = [(name, how) for name in runs for how in ("plain", "adapted")]
    lines = [
        "| | sentences | " + " | ".join(f"{name}, {how}" for name, how in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for language in languages:
        count = next(iter(runs.values()))[0][language]["sentences"]
        cells = [spread([run[language][how]["f1"] for run in runs[name]]) for name, how in columns]
        lines.append(f"| {language} | {count} | " + " | ".join(cells) + " |")
    means = [
        spread([statistics.fmean(run[language][how]["f1"] for language in languages) for run in runs[name]])
        for name, how in columns
    ]
    lines.append("| **mean** | | " + " | ".join(f"**{cell}**" for cell in means) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean, and with several values their standard deviation."""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def main(arguments: Sequence[str]) -> None:
    """Print the table of the files named on the command line."""
    runs = {}
    for argument in arguments:
        name, _, files = argument.partition("=")
        if not files:
            sys.exit(f"found {argument!r}; expected NAME=FILE[,FILE...]")
        runs[name] = [json.loads(Path(file).read_text(encoding="utf-8")) for file in files.split(",")]
    if not runs:
        sys.exit(__doc__)
    print(table(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
