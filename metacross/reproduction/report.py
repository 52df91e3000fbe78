"""The report of a comparison: report.json, report.md, plots as SVG and PNG, and sentences.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metacross.errors import UserError
from metacross.reproduction.page import sentences_page
from metacross.reproduction.plan import Comparison
from metacross.reproduction.plots import plots
from metacross.reproduction.tables import MEAN, OTHERS, OWN_PLAIN, SECONDS, Results, figures
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
        _step(found),
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
    """Mean and standard deviation, if there is one.

    >>> cell({"mean": 71.25, "sd": 0.5}), cell({"mean": 71.25, "sd": None}), cell(None)
    ('71.2 ± 0.5', '71.2', '')
    """
    if value is None or value["mean"] is None:
        return ""
    return f"{value['mean']:.1f}" if value["sd"] is None else f"{value['mean']:.1f} ± {value['sd']:.1f}"


def signs(by_seed: Mapping[str, float]) -> str:
    """The sign of each seed's value.

    >>> signs({"95": 0.4, "495": -0.1, "539": 0.0})
    '+ - 0'
    """
    return " ".join("+" if value > 0 else "-" if value < 0 else "0" for value in by_seed.values())


def _head(found: Mapping[str, Any]) -> str:
    sentences = ", ".join(f"{language} {count}" for language, count in found["sentences"].items())
    seeds = ", ".join(map(str, found["seeds"]))
    text = f"# {found['suite']}\n\nSeeds {seeds}. Sentences measured: {sentences or 'none yet'}."
    if found["adopted"]:
        text += f"\n\nThe languages marked * have text that these methods adopt: {'; '.join(found['adopted'])}."
    if OTHERS in found["means"]:
        text += " The other languages show whether that harms those that it is not meant for."
    return text


def _columns(found: Mapping[str, Any]) -> list[str]:
    return [*found["languages"], *found["means"]]


def _head_of(found: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The columns' names; adopted languages are marked."""
    adopted = {language for languages in found["adopted"].values() for language in languages}
    return [f"{column}*" if column in adopted else column for column in columns]


def _f1(found: Mapping[str, Any]) -> str:
    columns = _columns(found)
    rows = [[name, *(cell(part.get(one)) for one in columns)] for name, part in found["f1"].items()]
    for name, part in found["paper"].items():
        row = [f"{part[one]:.1f}" if one in part else "" for one in found["languages"]]
        complete = [part[one] for one in found["languages"] if one in part]
        average = f"{sum(complete) / len(complete):.1f}" if len(complete) == len(found["languages"]) else ""
        rows.append([f"*paper: {name}*", *row, average, *([""] * (len(found["means"]) - 1))])
    shown = table(["", *_head_of(found, columns)], rows)
    text = "Entity F1 in percent, mean ± standard deviation over seeds."
    if found["averaged"]:
        text += (
            f" The weights of all seeds are averaged in {'; '.join(found['averaged'])}: that is one bundle, so "
            "there is no deviation. Below, it stands beside every seed of the others, and the intervals lack its own "
            "variation."
        )
    return f"## F1\n\n{text}\n\n{shown}"


def _gains(found: Mapping[str, Any]) -> str:
    rows = [row for row in found["gains"] if row["over"] == found["baseline"]]
    if not rows:
        return ""
    return (
        f"## Gains\n\nDifferences in F1 to {found['baseline']}, in points. The intervals hold 95 % of 10,000 bootstrap "
        "resamples of seeds and sentences; the signs are those of each seed.\n\n" + _differences(found, rows)
    )


def _step(found: Mapping[str, Any]) -> str:
    """What the step adds: the same bundles tagged plainly and adapted, and the control that comes closest."""
    if not found["plain_f1"]:
        return ""
    columns = _columns(found)
    f1 = [
        [name, how, *(cell(part[name].get(one)) for one in columns)]
        for name in found["plain_f1"]
        for how, part in (("plain", found["plain_f1"]), ("adapted", found["f1"]))
    ]
    overs = {name: (OWN_PLAIN, found["best_controls"].get(name)) for name in found["plain_f1"]}
    rows = [row for row in found["gains"] if row["over"] in overs.get(row["method"], ())]
    return (
        "## Gain of the step\n\nThe same bundles, tagged plainly and by weights adapted to each sentence; F1.\n\n"
        + table(["", "", *_head_of(found, columns)], f1)
        + "\n\nDifferences in points, over the plain tags and over the best control on the same bundles:\n\n"
        + _differences(found, sorted(rows, key=lambda row: list(overs).index(row["method"])))
    )


def _differences(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: differences with intervals and signs of the mean, then intervals and signs of all columns."""
    columns = _columns(found)
    short, long = [], []
    for row in rows:
        parts = row["languages"]
        names = [row["method"], row["over"]]
        means = [f"{parts[one]['mean']:+z.1f}" for one in columns]
        short.append([*names, *means, _interval(parts[MEAN]), signs(parts[MEAN]["by_seed"])])
        long.append([*names, *(f"{_interval(parts[one])} ({signs(parts[one]['by_seed'])})" for one in columns)])
    head = ["", "over", *_head_of(found, columns)]
    return f"{table([*head, '95 % of mean', 'seeds'], short)}\n\nWith intervals:\n\n{table(head, long)}"


def _interval(part: Mapping[str, Any]) -> str:
    low, high = part["interval"]
    return f"{low:+z.1f} to {high:+z.1f}"


def _precision_and_recall(found: Mapping[str, Any]) -> str:
    rows = []
    for name, precision in found["precision"].items():
        recall = found["recall"][name]
        pairs = [f"{precision[one]['mean']:.1f} / {recall[one]['mean']:.1f}" for one in _columns(found)]
        rows.append([name, *pairs])
    shown = table(["", *_head_of(found, _columns(found))], rows)
    return f"## Precision / recall\n\nMeans over seeds, in percent.\n\n{shown}"


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
        + table(["", *_head_of(found, found["languages"])], rows)
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
    shown = table([name, *_head_of(found, _columns(found))], rows)
    return f"## {title}\n\n{found['main']}, all else unchanged.\n\n{shown}"


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
        [
            name,
            size,
            *(cell(part[one]) for one in (*found["languages"], MEAN)),
            "" if part[SECONDS] is None else f"{part[SECONDS]:.0f}",
        ]
        for name, sizes in found["shots"].items()
        for size, part in sizes.items()
    ]
    return (
        "## A few labelled sentences\n\nF1 with labelled sentences of the target language, mean ± standard deviation "
        "over draws; a draw has its own sentences and the next seed in turn. Counted are sentences with an entity; "
        "others come along as they are drawn. Seconds are those of the complete training on a draw, or of its "
        "adoption, on the machines that ran it: the mean over languages and draws.\n\n"
        + table(["", "sentences", *found["languages"], MEAN, "seconds"], rows)
    )


def _pictures(names: Sequence[str]) -> str:
    return "\n\n".join(f"![{Path(name).stem.replace('-', ' ')}]({name})" for name in names)


def _failed(found: Mapping[str, Any]) -> str:
    if not found["failed"]:
        return ""
    return "## Not measured\n\n" + "\n".join(f"- {label}: {error}" for label, error in found["failed"].items())
