"""The report of a comparison: report.json, report.md, plots as SVG and PNG, and sentences.html."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metacross.errors import UserError
from metacross.reproduction.page import sentences_page
from metacross.reproduction.plan import Comparison
from metacross.reproduction.plots import plots
from metacross.reproduction.tables import MEAN, Results, figures
from metacross.storage.files import write_file


def write_report(comparison: Comparison) -> list[Path]:
    """Writes the report of all that was measured into the comparison's directory; returns its files.

    Raises:
        UserError: the directory cannot be written.
    """
    results = Results(comparison)
    found = figures(results)
    drawn = plots(found)
    files: dict[str, str | bytes] = {
        "report.json": json.dumps(found, indent=1, ensure_ascii=False),
        "report.md": markdown(found, [name for name in drawn if name.endswith(".svg")]),
        "sentences.html": sentences_page(results),
        **drawn,
    }
    written = []
    for name, content in files.items():
        path = comparison.out / name
        try:
            path.parent.mkdir(exist_ok=True)
            write_file(path, content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error}). Free some space.") from error
        written.append(path)
    return written


def markdown(found: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The report for people.

    Args:
        found: what `tables.figures` returned.
        pictures: names of the plots' files.
    """
    parts = [
        _head(found),
        _f1(found),
        _gains(found),
        _precision_and_recall(found),
        _changed(found),
        _cost(found),
        _varied(found, "neighbours", "F1 against K", "K"),
        _varied(found, "inner_lr", "F1 against the inner learning rate", "inner_lr"),
        _similarity(found),
        _shots(found),
        _pictures(pictures),
        _failed(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [[text.replace("|", "\\|") for text in line] for line in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Mapping[str, Any] | None) -> str:
    """Mean and standard deviation.

    >>> cell({"mean": 71.25, "sd": 0.5}), cell(None)
    ('71.2 ± 0.5', '')
    """
    return "" if value is None or value["mean"] is None else f"{value['mean']:.1f} ± {value['sd']:.1f}"


def signs(by_seed: Mapping[str, float]) -> str:
    """The sign of each seed's value.

    >>> signs({"95": 0.4, "495": -0.1, "539": 0.0})
    '+ - 0'
    """
    return " ".join("+" if value > 0 else "-" if value < 0 else "0" for value in by_seed.values())


def _head(found: Mapping[str, Any]) -> str:
    sentences = ", ".join(f"{language} {count}" for language, count in found["sentences"].items())
    seeds = ", ".join(map(str, found["seeds"]))
    return f"# {found['suite']}\n\nSeeds {seeds}. Sentences measured: {sentences or 'none yet'}."


def _columns(found: Mapping[str, Any]) -> list[str]:
    return [*found["languages"], MEAN]


def _f1(found: Mapping[str, Any]) -> str:
    columns = _columns(found)
    rows = [[name, *(cell(part.get(one)) for one in columns)] for name, part in found["f1"].items()]
    for name, part in found["paper"].items():
        row = [f"{part[one]:.1f}" if one in part else "" for one in found["languages"]]
        complete = [part[one] for one in found["languages"] if one in part]
        average = f"{sum(complete) / len(complete):.1f}" if len(complete) == len(found["languages"]) else ""
        rows.append([f"*paper: {name}*", *row, average])
    return f"## F1\n\nEntity F1 in percent, mean ± standard deviation over seeds.\n\n{table(['', *columns], rows)}"


def _gains(found: Mapping[str, Any]) -> str:
    if not found["gains"]:
        return ""
    rows = []
    for row in found["gains"]:
        average = row["languages"][MEAN]
        low, high = average["interval"]
        by_language = [f"{row['languages'][one]['mean']:+.1f}" for one in found["languages"]]
        interval = f"{low:+.1f} to {high:+.1f}"
        rows.append(
            [row["method"], row["over"], *by_language, f"{average['mean']:+.1f}", interval, signs(average["by_seed"])]
        )
    control = f" The best control is {found['best_control']}." if found["best_control"] else ""
    return (
        "## Gains\n\nDifferences in F1, in points. The interval holds 95 % of 10,000 bootstrap resamples of seeds and "
        f"sentences, for the mean over languages; the signs are those of each seed's mean.{control}\n\n"
        + table(["", "over", *_columns(found), "95 %", "seeds"], rows)
        + "\n\nBy language, with intervals:\n\n"
        + table(["", "over", *found["languages"]], list(_intervals(found)))
    )


def _intervals(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for row in found["gains"]:
        cells = []
        for language in found["languages"]:
            part = row["languages"][language]
            low, high = part["interval"]
            cells.append(f"{low:+.1f} to {high:+.1f} ({signs(part['by_seed'])})")
        yield [row["method"], row["over"], *cells]


def _precision_and_recall(found: Mapping[str, Any]) -> str:
    rows = []
    for name, precision in found["precision"].items():
        recall = found["recall"][name]
        pairs = [f"{precision[one]['mean']:.1f} / {recall[one]['mean']:.1f}" for one in _columns(found)]
        rows.append([name, *pairs])
    return f"## Precision / recall\n\nMeans over seeds, in percent.\n\n{table(['', *_columns(found)], rows)}"


def _changed(found: Mapping[str, Any]) -> str:
    if not found["changed"]:
        return ""
    rows = []
    for name, part in found["changed"].items():
        cells = [f"{value['share']:.1f} % ({value['won']} : {value['lost']})" for value in part.values()]
        rows.append([name, *cells])
    return (
        "## What changes\n\nShare of sentences tagged otherwise than by the same weights plainly, and how "
        "many of these have fewer errors : more errors, all seeds together.\n\n"
        + table(["", *found["languages"]], rows)
    )


def _cost(found: Mapping[str, Any]) -> str:
    rows = []
    for name, part in found["cost"].items():
        pace = part["requests_per_second"]
        f1 = found["f1"][name][MEAN]
        rows.append([name, cell(f1), "" if pace is None else f"{pace:.1f}", f"{part['memory_mb']:.0f}"])
    return (
        "## Cost\n\nSentences a second, one after the other, and memory of the process, on the machines that ran the "
        "cells, beside whatever else they ran. Controls are not timed.\n\n"
        + table(["", "F1", "sentences/s", "memory, MiB"], rows)
    )


def _varied(found: Mapping[str, Any], key: str, title: str, name: str) -> str:
    if not found[key]:
        return ""
    rows = [[value, *(cell(part.get(one)) for one in _columns(found))] for value, part in found[key].items()]
    return f"## {title}\n\n{found['main']}, all else unchanged.\n\n{table([name, *_columns(found)], rows)}"


def _similarity(found: Mapping[str, Any]) -> str:
    if not found["similarity"]:
        return ""
    rows = [
        [
            language,
            f"{row['similarity']:.3f}",
            f"{row['plain']:.1f}",
            f"{row['adapted']:.1f}",
            f"{row['gain']:+.1f}",
        ]
        for language, parts in found["similarity"].items()
        for row in parts
    ]
    return (
        f"## Similarity of neighbours\n\n{found['main']}: a language's sentences, of all seeds, in equal parts by the "
        "mean similarity of their neighbours.\n\n" + table(["", "similarity", "plain F1", "adapted F1", "gain"], rows)
    )


def _shots(found: Mapping[str, Any]) -> str:
    if not found["shots"]:
        return ""
    rows = [
        [name, size, *(cell(part[one]) for one in _columns(found))]
        for name, sizes in found["shots"].items()
        for size, part in sizes.items()
    ]
    return (
        "## A few labelled sentences\n\nF1 with labelled sentences of the target language, mean ± standard deviation "
        "over draws; a draw has its own sentences and the next seed in turn.\n\n"
        + table(["", "sentences", *_columns(found)], rows)
    )


def _pictures(names: Sequence[str]) -> str:
    return "\n\n".join(f"![{Path(name).stem.replace('-', ' ')}]({name})" for name in names)


def _failed(found: Mapping[str, Any]) -> str:
    if not found["failed"]:
        return ""
    return "## Not measured\n\n" + "\n".join(f"- {label}: {error}" for label, error in found["failed"].items())
