"""Seconds of one meta-step: ours, and other ways to the same meta-gradient, run in turn on the same inputs.

    python -m benchmarks.meta_step                            # BERT-base size, random pieces, fp32 and bf16
    python -m benchmarks.meta_step --data train.conll --batches 4 --repeats 8
    python -m benchmarks.meta_step --encoder tiny --repeats 2 # a look at the output

Every repeat times all implementations on the same meta-batch, one after the other, in an order that moves on by one
with each repeat; ratios are taken within a repeat. So a machine that is busy for a while slows all of them alike.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.baselines import (
    CopiedWeights,
    FuncVmap,
    Higher,
    Implementation,
    KeptTrunk,
    Metacross,
    TorchOpt,
    relative_difference,
)
from benchmarks.flops import GEMM, Sizes, counted, exact_flops, gemm_rate
from benchmarks.inputs import RANDOM_TAGS, MetaBatch, corpus_batches, make_classifier, random_batches, vocabulary_of
from benchmarks.plots import save
from benchmarks.released_loop import ReleasedLoop
from metacross.algorithm import InnerLoop
from metacross.encoder.device import bf16_is_fast
from metacross.errors import UserError

OURS = Metacross.name
TABLE_WIDTH = 140  # no column is cut
SKIPPABLE: tuple[type[Implementation], ...] = (CopiedWeights, ReleasedLoop, FuncVmap, TorchOpt, Higher)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ALIKE = {"fp32": 1e-3, "bf16": 5e-2}  # meta-gradients that differ by more are not the same


@dataclass
class Timing:
    """What was measured of one implementation in one precision."""

    name: str
    precision: str
    seconds: list[float] = field(default_factory=list)  # one a repeat
    cpu_seconds: list[float] = field(default_factory=list)  # of this process, all threads: little moved by others' load
    ratios: list[float] = field(default_factory=list)  # of seconds, to ours in the same precision and repeat
    flops: float = 0.0  # of the first meta-batch
    difference: float | None = None  # of its meta-gradient from ours in the same precision; None: computes another
    error: str = ""

    @property
    def median(self) -> float:
        """Seconds; infinite where it did not run."""
        return median(self.seconds) if self.seconds else float("inf")


@dataclass(frozen=True)
class Floor:
    """The least time for the exact method on this machine, over all repeats."""

    precision: str
    trunk_kept: bool
    flops: float  # mean over the meta-batches
    gemm_rate: float  # FLOP/s, median over the repeats
    distance: float  # ours over the floor, median over the repeats

    @property
    def seconds(self) -> float:
        """FLOP over rate."""
        return self.flops / self.gemm_rate


@dataclass
class Result:
    """A whole run."""

    timings: list[Timing]
    floors: list[Floor]
    gemm_rates: dict[str, list[float]]
    batches: int  # repeat r ran meta-batch r modulo this
    effect: float  # of the inner steps: relative distance of the meta-gradient from the plain gradient


def compare(
    classifier: PreTrainedModel,
    batches: Sequence[MetaBatch],
    *,
    frozen_layers: int,
    inner: InnerLoop,
    precisions: Sequence[str],
    repeats: int,
    skip: Sequence[str] = (),
    keep_trunk: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Result:
    """Warms every implementation up, compares meta-gradients, then times them in turn."""
    kinds: list[type[Implementation]] = [Metacross]
    if keep_trunk:
        kinds.append(KeptTrunk)
    kinds += [k for k in SKIPPABLE if k.name not in skip]
    timings = [Timing(k.name, p) for k in kinds for p in precisions]
    ready = _ready(kinds, timings, classifier, frozen_layers=frozen_layers, inner=inner)
    kept = ready.get(KeptTrunk.name)
    if isinstance(kept, KeptTrunk):
        for batch in batches:
            for precision in precisions:
                kept.keep(batch, precision)

    ours: dict[str, list[Tensor]] = {}
    for timing in timings:
        if timing.error:
            continue
        tell(f"warming up {timing.name}, {timing.precision}")
        gradient = _warm_up(ready[timing.name], timing, batches)
        if timing.name == OURS and gradient is not None:
            ours[timing.precision] = gradient
        if gradient is not None and ready[timing.name].comparable:
            timing.difference = relative_difference(gradient, ours[timing.precision])
        del gradient
    still = Metacross(classifier, frozen_layers=frozen_layers, inner=InnerLoop(0, 0.0, False, inner.max_weight))
    effect = relative_difference(still.meta_gradient(batches[0], precisions[0]), ours[precisions[0]])
    del still, ours

    runs = [t for t in timings if not t.error]
    rates: dict[str, list[float]] = {p: [] for p in precisions}
    for repeat in range(repeats):
        tell(f"repeat {repeat + 1} of {repeats}")
        for precision in precisions:
            rates[precision].append(gemm_rate(DTYPES[precision]))
        at = repeat % len(runs)
        for timing in (*runs[at:], *runs[:at]):
            start, cpu_start = time.perf_counter(), time.process_time()
            ready[timing.name].meta_gradient(batches[repeat % len(batches)], timing.precision)
            timing.seconds.append(time.perf_counter() - start)
            timing.cpu_seconds.append(time.process_time() - cpu_start)
    by_name = {(t.name, t.precision): t for t in timings}
    for t in runs:
        t.ratios = [a / b for a, b in zip(t.seconds, by_name[OURS, t.precision].seconds, strict=True)]
    sizes = Sizes.of(classifier.config, frozen_layers)
    floors = [
        _floor(by_name[k.name, p], batches, sizes, inner.steps, rates[p], trunk_kept=k is KeptTrunk)
        for k in kinds
        if issubclass(k, Metacross)
        for p in precisions
    ]
    return Result(timings, floors, rates, len(batches), effect)


def _ready(
    kinds: Sequence[type[Implementation]],
    timings: Sequence[Timing],
    classifier: PreTrainedModel,
    *,
    frozen_layers: int,
    inner: InnerLoop,
) -> dict[str, Implementation]:
    ready = {}
    for kind in kinds:
        try:
            ready[kind.name] = kind(classifier, frozen_layers=frozen_layers, inner=inner)
        except ImportError as error:
            for timing in timings:
                if timing.name == kind.name:
                    timing.error = f"not installed ({error}): pip install 'metacross[bench]'"
    return ready


def _warm_up(implementation: Implementation, timing: Timing, batches: Sequence[MetaBatch]) -> list[Tensor] | None:
    """The first meta-batch's gradient. Every shape is met once: compiling its products is no part of a step's time."""
    try:
        gradient, timing.flops = counted(lambda: implementation.meta_gradient(batches[0], timing.precision))
        gradient = [g.clone() for g in gradient]
        for batch in () if implementation.one_shape else batches[1:]:
            implementation.meta_gradient(batch, timing.precision)
    except Exception as error:
        if timing.name == OURS:
            raise
        # Others' code on a torch they may not know: that it cannot run is a result, and is printed as one.
        timing.error = f"did not run: {type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
        return None
    return gradient


def _floor(
    timing: Timing, batches: Sequence[MetaBatch], sizes: Sizes, steps: int, rates: Sequence[float], *, trunk_kept: bool
) -> Floor:
    flops = [exact_flops(b, sizes, steps=steps, trunk_kept=trunk_kept) for b in batches]
    rate = median(rates)
    distance = median(s * rate / flops[i % len(flops)] for i, s in enumerate(timing.seconds))
    return Floor(timing.precision, trunk_kept, sum(flops) / len(flops), rate, distance)


def best(timings: Sequence[Timing]) -> dict[str, Timing]:
    """Each implementation's faster precision."""
    found: dict[str, Timing] = {}
    for timing in timings:
        if timing.seconds and (timing.name not in found or timing.median < found[timing.name].median):
            found[timing.name] = timing
    return found


def timing_table(result: Result) -> Table:
    """One row per implementation and precision."""
    table = Table(box=SIMPLE, pad_edge=False)
    for head in ("implementation", "dtype"):
        table.add_column(head, no_wrap=True)
    for head in ("seconds [q1-q3]", "x ours", "x best", "CPU s", "GFLOP", "GFLOP/s", "error"):
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


def floor_lines(result: Result) -> list[str]:
    """How far ours is from the machine's rate of plain matrix products."""
    lines = []
    for f in result.floors:
        trunk = "trunk kept" if f.trunk_kept else "trunk once a sentence"
        lines.append(
            f"floor {f.precision}, {trunk}: {f.flops / 1e9:.4g} GFLOP at {f.gemm_rate / 1e9:.4g} GFLOP/s "
            f"(plain {'x'.join(map(str, GEMM))} products) = {f.seconds:.3f} s; ours takes {f.distance:.2f} times that"
        )
    return lines


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "amx_bf16": bf16_is_fast(torch.device("cpu")),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def draw(result: Result, path: Path, title: str) -> list[Path]:
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


def _refuse(**limits: int) -> None:
    for name, value in limits.items():
        if value < 1:
            raise UserError(f"--{name}={value}: at least 1")


def run(
    *,
    encoder: str,
    data: str,
    dtype: str,
    repeats: int,
    threads: int,
    batches: int,
    episodes: int,
    support_size: int,
    inner_steps: int,
    inner_lr: float,
    max_weight: float,
    pieces: int,
    neighbours: str,
    sentences: int,
    skip: Sequence[str],
    keep_trunk: bool,
    seed: int,
    json_path: Path | None,
    plot: Path | None,
    console: Console,
) -> Result:
    """The whole benchmark; see `main` for the arguments."""
    _refuse(repeats=repeats, threads=threads, batches=batches, episodes=episodes, sentences=sentences)
    names = [kind.name for kind in SKIPPABLE]
    for name in skip:
        if name not in names:
            raise UserError(f"--skip {name!r}: choose among {', '.join(map(repr, names))}")
    if dtype not in (*DTYPES, "both"):
        raise UserError(f"--dtype={dtype}: choose fp32, bf16 or both")
    if neighbours not in ("retrieval", "random"):
        raise UserError(f"--neighbours={neighbours}: choose retrieval or random")
    torch.set_num_threads(threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # a new tag head is no news here
    about = machine(threads)
    vocabulary = vocabulary_of(encoder)
    tags: tuple[str, ...] = RANDOM_TAGS
    shape: dict[str, int] = {"episodes": episodes, "support_size": support_size, "vocabulary": vocabulary, "seed": seed}
    if data == "random":
        inputs = random_batches(batches, pieces=pieces, **shape)
    else:
        inputs, tags = corpus_batches(
            Path(data), batches, encoder=encoder, neighbours=neighbours, sentences=sentences, **shape
        )
    classifier, frozen_layers = make_classifier(encoder, tags, seed=seed)
    inner = InnerLoop(steps=inner_steps, lr=inner_lr, normalized=False, max_weight=max_weight)
    support, query = (sum(n) / len(inputs) for n in zip(*(b.pieces() for b in inputs), strict=True))
    task = (
        f"{encoder}, {episodes} episodes x ({support_size} support sentences, {inner_steps} inner steps, 1 query), "
        f"{Path(data).name}"
    )
    console.print("; ".join(f"{k} {v}" for k, v in about.items()))
    console.print(f"{task}; {support:.0f} support and {query:.0f} query pieces a meta-batch, {batches} meta-batches")
    result = compare(
        classifier,
        inputs,
        frozen_layers=frozen_layers,
        inner=inner,
        precisions=list(DTYPES) if dtype == "both" else [dtype],
        repeats=repeats,
        skip=skip,
        keep_trunk=keep_trunk,
        tell=lambda line: print(line, file=sys.stderr),
    )
    console.print(timing_table(result))
    for error in dict.fromkeys(f"{t.name}: {t.error}" for t in result.timings if t.error):
        console.print(error, markup=False)
    for line in floor_lines(result):
        console.print(line)
    console.print(
        "x ours: within a repeat, same dtype. x best: medians, each side's fastest dtype. error: against our gradient. "
        "First-order gradient of the mean query loss, plain SGD inner steps; the released loop computes another "
        f"(BertAdam, dropout, sum). Without inner steps ours would differ by {result.effect:.0e}."
    )
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        settings = {"neighbours": neighbours, "repeats": repeats, "inner": asdict(inner), "pieces": [support, query]}
        content = {"machine": about, "task": task, "settings": settings, **asdict(result)}
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        for path in draw(result, plot, f"{task}\n{about['cpu']}, {threads} threads, torch {about['torch']}"):
            console.print(f"wrote {path}")
    return result


def main(
    encoder: Annotated[
        str, typer.Option(help="bert-base or tiny (random weights), embedded, or a directory")
    ] = "bert-base",
    data: Annotated[str, typer.Option(help="random, or a tagged corpus (CoNLL, IOB2, ...)")] = "random",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 (autocast) or both")] = "both",
    repeats: Annotated[int, typer.Option(help="timed runs of each; more than --batches go round again")] = 5,
    threads: Annotated[int, typer.Option(help="torch's threads")] = torch.get_num_threads(),
    batches: Annotated[int, typer.Option(help="different meta-batches")] = 1,
    episodes: Annotated[int, typer.Option(help="E, episodes of a meta-batch")] = 8,
    support_size: Annotated[int, typer.Option(help="K, support sentences of an episode")] = 2,
    inner_steps: Annotated[int, typer.Option(help="inner steps")] = 2,
    inner_lr: Annotated[
        float, typer.Option(help="alpha; takes no time, but shows whether steps are really taken")
    ] = 0.01,
    max_weight: Annotated[float, typer.Option(help="lambda, weight of the maximum term")] = 2.0,
    pieces: Annotated[int, typer.Option(help="pieces of a random sentence")] = 32,
    neighbours: Annotated[
        str, typer.Option(help="support sentences of a corpus: by retrieval, or random")
    ] = "retrieval",
    sentences: Annotated[int, typer.Option(help="sentences of the corpus that take part")] = 2000,
    skip: Annotated[list[str] | None, typer.Option(help="an implementation to leave out, by its name")] = None,
    keep_trunk: Annotated[bool, typer.Option("--keep-trunk", help="also ours with trunk states from before")] = False,
    seed: Annotated[int, typer.Option(help="of weights, pieces and batches")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write PATH.png and PATH.svg")] = None,
) -> None:
    """Times one meta-step of every implementation on the same inputs, and checks that they compute the same."""
    try:
        run(
            encoder=encoder,
            data=data,
            dtype=dtype,
            repeats=repeats,
            threads=threads,
            batches=batches,
            episodes=episodes,
            support_size=support_size,
            inner_steps=inner_steps,
            inner_lr=inner_lr,
            max_weight=max_weight,
            pieces=pieces,
            neighbours=neighbours,
            sentences=sentences,
            skip=skip or (),
            keep_trunk=keep_trunk,
            seed=seed,
            json_path=json_path,
            plot=plot,
            console=Console(width=max(TABLE_WIDTH, Console().width)),
        )
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
