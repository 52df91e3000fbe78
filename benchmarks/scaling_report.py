"""What benchmarks.train_scaling prints: the measured table, the model's tables and its plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

from benchmarks.inputs import FROZEN_LAYERS
from benchmarks.plots import save
from benchmarks.scaling_model import (
    LINKS,
    WORKERS,
    Gpu,
    Link,
    Task,
    fastest,
    speed_up,
    step_seconds,
    worthwhile,
)

PAIR = 2  # workers that are measured
FROZEN = (FROZEN_LAYERS, 8)  # of the 12 layers of BERT-base size: as it is, and what could help
LARGER = (128, 512)  # episodes of meta-batches that the model tries besides the configured one


@dataclass(frozen=True)
class Step:
    """One worker's part of a timed meta-step, in seconds.

    Attributes:
        round: of the turns.
        workers: of the team, 1 or 2.
        rank: of this worker.
        number: of the step; the same number is the same meta-batch.
        before: its share's losses and gradients.
        reduce: in the all-reduce, waiting for the other worker included.
        after: clipping and AdamW.
    """

    round: int
    workers: int
    rank: int
    number: int
    before: float
    reduce: float
    after: float

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.before + self.reduce + self.after


def rates(steps: Iterable[Step], pieces: Sequence[int], workers: int) -> list[float]:
    """Pieces a second of every round, by the first worker's clock."""
    rounds: dict[int, list[Step]] = {}
    for step in steps:
        if step.workers == workers and step.rank == 0:
            rounds.setdefault(step.round, []).append(step)
    return [sum(pieces[s.number] for s in taken) / sum(s.seconds for s in taken) for taken in rounds.values()]


def waiting(steps: Iterable[Step]) -> tuple[float, float]:
    """Mean seconds a step of both workers' that a worker waits for the other, and that the all-reduce itself takes.

    Both leave the all-reduce together, and who comes last does not wait: its time is the all-reduce's own.
    """
    pairs: dict[tuple[int, int], list[Step]] = {}
    for step in steps:
        if step.workers == PAIR:
            pairs.setdefault((step.round, step.number), []).append(step)
    own = [min(s.reduce for s in pair) for pair in pairs.values()]
    waited = [fmean(s.reduce for s in pair) - least for pair, least in zip(pairs.values(), own, strict=True)]
    return fmean(waited), fmean(own)


def spread(values: Sequence[float], digits: str = ".0f") -> str:
    """Median and quartiles."""
    q1, _, q3 = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return f"{median(values):{digits}} [{q1:{digits}}-{q3:{digits}}]"


def measured_table(found: Sequence[dict[str, Any]]) -> str:
    """What was timed, as Markdown."""
    steps = [Step(**row) for part in found for row in part["steps"]]
    pieces = found[0]["pieces"]
    one, two = rates(steps, pieces, 1), rates(steps, pieces, PAIR)
    waited, reduced = waiting(steps)

    def mean(part: str, workers: int) -> str:
        return f"{1e3 * fmean(getattr(s, part) for s in steps if s.workers == workers):.0f}"

    bert = found[0]["bert_base_all_reduce"]
    size = found[0]["bert_base_bytes"][str(FROZEN[0])]
    rows = [
        ("pieces/s, median [quartiles]", spread(one), spread(two)),
        ("times one worker, within a round", "1", spread([b / a for a, b in zip(one, two, strict=True)], ".2f")),
        ("ms a step, mean", mean("seconds", 1), mean("seconds", PAIR)),
        ("losses and gradients", mean("before", 1), mean("before", PAIR)),
        ("waiting for the other worker", "", f"{1e3 * waited:.0f}"),
        (f"all-reduce of {found[0]['gradient_bytes'] / 1e6:.1f} MB", "", f"{1e3 * reduced:.0f}"),
        ("clipping and AdamW", mean("after", 1), mean("after", PAIR)),
        ("heaviest share over the mean", "1", f"{found[0]['imbalance']:.3f}"),
        (f"all-reduce at BERT-base size, {size / 1e6:.1f} MB, ms", "", spread([1e3 * s for s in bert])),
    ]
    return "\n".join(["| | 1 worker | 2 workers |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def tasks(found: dict[str, Any]) -> list[Task]:
    """BERT-base size as it is trained here, and what could help it to scale."""
    model, size = found["model"], found["model"]["meta_batch_size"]
    balance = {int(m): {int(n): x for n, x in by.items()} for m, by in model["imbalance"].items()}
    flops = {int(k): x for k, x in model["flops"].items()}
    bytes_ = {int(k): x for k, x in found["bert_base_bytes"].items()}
    few, many = FROZEN
    plain = (flops[few], bytes_[few])
    out = [Task(f"as it is, {size} episodes", size, *plain, balance[size])]
    out += [Task(f"{m} episodes", m, plain[0] * m / size, plain[1], balance[m]) for m in LARGER]
    out += [Task("bf16 gradients", size, plain[0], plain[1] / 2, balance[size])]
    out += [Task("all-reduce hidden, at best", size, *plain, balance[size], overlapped=True)]
    out += [Task(f"{many} of 12 layers frozen", size, flops[many], bytes_[many], balance[size])]
    both = f"{LARGER[-1]} episodes, bf16, hidden"
    return [*out, Task(both, LARGER[-1], plain[0] * LARGER[-1] / size, plain[1] / 2, balance[LARGER[-1]], True)]


def model_tables(every: Sequence[Task], gpu: Gpu) -> str:
    """Milliseconds a step by workers and link, then how far each task scales, as Markdown."""
    plain = every[0]
    names = [link.name for link in LINKS]
    lines = [f"| workers | heaviest share over the mean | {' | '.join(names)} |", "|---" * (len(LINKS) + 2) + "|"]
    for n in WORKERS:
        cells = [f"{1e3 * step_seconds(plain, gpu, n, link):.1f}" if n <= link.most else "" for link in LINKS]
        lines.append(f"| {n} | {plain.imbalance[n]:.2f} | {' | '.join(cells)} |")
    lines += ["", f"| | {' | '.join(names)} |", "|---" * (len(LINKS) + 1) + "|"]
    for task in every:
        cells = []
        for link in LINKS:
            n = fastest(task, gpu, link)
            cells.append(f"{speed_up(task, gpu, n, link):.1f} at {n} ({worthwhile(task, gpu, link)})")
        lines.append(f"| {task.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(every: Sequence[Task], gpu: Gpu, path: Path, *, link: Link) -> list[Path]:
    """Speed-up against workers: by link as it is, and over one link with what could help; `path`.png and .svg."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    for each in LINKS:
        ns = [n for n in WORKERS if n <= each.most]
        left.plot(ns, [speed_up(every[0], gpu, n, each) for n in ns], marker="o", label=each.name)
    for task in every:
        right.plot(WORKERS, [speed_up(task, gpu, n, link) for n in WORKERS], marker="o", label=task.name)
    for axes, title in ((left, every[0].name), (right, f"over {link.name}")):
        axes.plot(WORKERS, WORKERS, color="grey", linestyle=":", label="ideal")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(WORKERS, WORKERS)
        axes.set_yticks(WORKERS, WORKERS)
        axes.set_ylim(0.5, WORKERS[-1])
        axes.set_xlabel("workers, one GPU each")
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    left.set_ylabel("episodes/s over one worker's")
    figure.suptitle("A model, not a measurement: BERT-base size, speed of a GPU assumed", fontsize=11)
    return save(figure, path)
