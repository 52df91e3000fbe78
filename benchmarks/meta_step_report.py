"""What `benchmarks.meta_step` prints and draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import ALIKE, OURS, Comparison, Timing
from benchmarks.flops import GEMM
from benchmarks.plots import save


def best(timings: Sequence[Timing]) -> dict[str, Timing]:
    """Each implementation's faster precision."""
    found: dict[str, Timing] = {}
    for timing in timings:
        if timing.seconds and (timing.name not in found or timing.median < found[timing.name].median):
            found[timing.name] = timing
    return found


def timing_table(result: Comparison) -> Table:
    """One row per implementation and precision."""
    table = Table(box=SIMPLE, pad_edge=False)
    for head in ("implementation", "dtype"):
        table.add_column(head, no_wrap=True)
    for head in ("seconds [q1-q3]", "x ours", "x best", "CPU s", "x ours, CPU", "GFLOP", "GFLOP/s", "error"):
        table.add_column(head, justify="right", no_wrap=True)
    fastest = best(result.timings)
    for t in result.timings:
        if t.error:
            table.add_row(t.name, t.precision, t.error.split(":")[0].split(" (")[0])
            continue
        q1, _, q3 = quantiles(t.seconds, n=4, method="inclusive") if len(t.seconds) > 1 else t.seconds * 3
        is_best = fastest[t.name] is t
        table.add_row(
            t.name,
            t.precision,
            f"{t.median:.3f} [{q1:.3f}-{q3:.3f}]",
            f"{median(t.ratios):.2f}",
            f"{t.median / fastest[OURS].median:.2f}" if is_best else "",
            f"{median(t.cpu_seconds):.3f}",
            f"{median(t.cpu_ratios):.2f}",
            f"{t.flops / 1e9:.4g}",
            f"{t.flops / 1e9 / median(t.seconds[:: result.batches]):.4g}",  # FLOP are the first meta-batch's
            _told(t),
        )
    return table


def _told(timing: Timing) -> str:
    if timing.difference is None:
        return "another"
    differs = timing.difference > ALIKE[timing.precision]
    return f"{timing.difference:.0e}" + (" DIFFERS" if differs else "")


def floor_lines(result: Comparison) -> list[str]:
    """How far ours is from the machine's rate of plain matrix products."""
    lines = []
    for f in result.floors:
        trunk = "trunk kept" if f.trunk_kept else "trunk once a sentence"
        lines.append(
            f"floor {f.precision}, {trunk}: {f.flops / 1e9:.4g} GFLOP at {f.gemm_rate / 1e9:.4g} GFLOP/s "
            f"(plain {'x'.join(map(str, GEMM))} products) = {f.seconds:.3f} s; ours takes {f.distance:.2f} times that"
        )
    return lines


def print_comparison(result: Comparison, console: Console) -> None:
    """Prints the table, what did not run, the floors, and how to read them."""
    console.print(timing_table(result))
    for error in dict.fromkeys(f"{t.name}: {t.error}" for t in result.timings if t.error):
        console.print(error, markup=False)
    for line in floor_lines(result):
        console.print(line)
    console.print(
        "x ours: within a repeat, same dtype, by seconds and by CPU s. x best: medians, each side's fastest dtype. "
        "error: against our gradient. "
        "First-order gradient of the mean query loss, plain SGD inner steps; the released loop computes another "
        f"(BertAdam, dropout, sum). Without inner steps ours would differ by {result.effect:.0e}."
    )


def draw(result: Comparison, path: Path, title: str) -> list[Path]:
    """Bars of seconds per implementation, whiskers from quartile to quartile, as `path`.png and .svg."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [t for t in result.timings if t.seconds]
    names = list(dict.fromkeys(t.name for t in shown))
    precisions = list(dict.fromkeys(t.precision for t in shown))
    height = 0.8 / len(precisions)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.3 * len(shown)), layout="constrained")
    for number, precision in enumerate(precisions):
        for t in (t for t in shown if t.precision == precision):
            q1, _, q3 = quantiles(t.seconds, n=4, method="inclusive") if len(t.seconds) > 1 else t.seconds * 3
            y = names.index(t.name) + (number - (len(precisions) - 1) / 2) * height
            whiskers = [[max(0.0, t.median - q1)], [max(0.0, q3 - t.median)]]
            first = t is next(s for s in shown if s.precision == precision)
            color = ("#2a6f97", "#e09f3e")[number % 2]
            label = precision if first else None
            axes.barh(y, t.median, height=0.9 * height, xerr=whiskers, color=color, label=label)
            axes.annotate(f" {t.median:.3g} s", (q3, y), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds per meta-step")
    axes.set_xlim(0, 1.15 * axes.dataLim.xmax)
    axes.set_title(title, fontsize=10)
    axes.legend()
    return save(figure, path)
