"""What a GPU makes of it: answers, meta-steps and searches, and what would keep it waiting.

    python -m benchmarks.gpu BUNDLE --data nl=europeana/nl/dev.txt --source samples/en/train.conll
    python -m benchmarks.gpu BUNDLE --data nl=europeana/nl/dev.txt --source samples/en/train.conll --device cpu

For each kind of work: seconds (medians), the operators that torch starts, the kernels that they become, and the reads,
each of which makes the host wait for the device. Where operators take the host longer than kernels take the GPU, fewer
operators are faster, and a CUDA graph would be; the last columns tell which it is. On a CPU there are no kernels, and
operators and reads of single numbers are counted alike, so what a change does to them can be seen without a GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import machine
from metacross import AdaptiveTagger
from metacross.config_loading import load_config
from metacross.corpora.reader import read_corpus
from metacross.encoder.device import named_device
from metacross.retrieval.index import VectorIndex
from metacross.training.learner import Learner

SIZES = (1, 8, 32)
READS = ("aten::_local_scalar_dense", "Memcpy DtoH")
VECTORS, SIZE = 100_000, 384  # of the index that is searched


@dataclass(frozen=True)
class Figures:
    """What one piece of work takes.

    Attributes:
        seconds: median.
        operators: that torch starts, without those that they start themselves.
        kernels: on the GPU.
        busy: seconds that the GPU works.
        reads: of device memory by the host.
    """

    seconds: float
    operators: int
    kernels: int
    busy: float
    reads: int


def figures(work: Callable[[], object], device: torch.device, repeats: int) -> Figures:
    """Does a piece of work a few times to warm up, a few times to time it, and once under the profiler."""
    seconds = []
    for repeat in range(repeats + 2):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat > 1:
            seconds.append(time.perf_counter() - began)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        work()
    events = list(profiler.events() or ())
    operators = [e for e in events if e.name.startswith("aten::") and not _inside_another(e)]
    kernels = [e for e in events if e.device_type == torch._C._autograd.DeviceType.CUDA]
    reads = [e for e in events if e.name.startswith(READS)]
    busy = sum(float(e.device_time_total) for e in kernels) / 1e6
    return Figures(median(seconds), len(operators), len(kernels), busy, len(reads))


def _inside_another(event: torch.autograd.profiler_util.FunctionEvent) -> bool:
    parent = event.cpu_parent
    return parent is not None and parent.name.startswith("aten::")


def answers(bundle: Path, texts: list[str], device: torch.device, repeats: int) -> Table:
    """Batches of plain and adapted answers."""
    tagger = AdaptiveTagger.from_pretrained(bundle, device=device, overrides=["data.tag_map={}"])
    cold = AdaptiveTagger.from_pretrained(
        bundle, device=device, overrides=["data.tag_map={}", "serve.factor_cache_mb=0"]
    )
    table = _table("answers, a batch", "texts/s")
    for size in SIZES:
        batch = texts[:size]
        for name, work in (
            ("plain", partial(tagger, batch, adapt=False)),
            ("adapted, factors cached", partial(tagger, batch)),
            ("adapted, none cached", partial(cold, batch)),
        ):
            found = figures(work, device, repeats)
            _row(table, f"{size}, {name}", found, size / found.seconds)
    return table


def meta_steps(source: Path, device: torch.device, repeats: int) -> Table:
    """Meta-steps of the default configuration."""
    table = _table("meta-steps", "pieces/s")
    for precision in ("fp32", "auto"):
        overrides = [f"data.source={source}", f"data.source_dev={source}", f"train.precision={precision}"]
        learner = Learner.from_config(load_config([], [*overrides, "train.plain_steps=0"]), device=device)
        found = figures(learner.step, device, repeats)
        _row(table, precision, found, learner.step().pieces / found.seconds)
    return table


def searches(device: torch.device, repeats: int) -> Table:
    """Exact searches."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((VECTORS, SIZE), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = VectorIndex(vectors, use_gpu=device.type == "cuda")
    table = Table("queries", "queries/s", title=f"exact search of {VECTORS} vectors of {SIZE}")
    for size in SIZES:
        found = figures(partial(index.search, vectors[:size], 8), device, repeats)
        table.add_row(str(size), f"{size / found.seconds:.0f}")
    return table


def _table(title: str, rate: str) -> Table:
    return Table("", "ms", rate, "operators", "kernels", "reads", "GPU busy, % of the time", title=title)


def _row(table: Table, name: str, found: Figures, rate: float) -> None:
    busy = f"{100 * found.busy / found.seconds:.0f}" if found.kernels else "-"
    counts = (found.operators, found.kernels, found.reads)
    table.add_row(name, f"{1000 * found.seconds:.1f}", f"{rate:.0f}", *map(str, counts), busy)


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[str, typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    source: Annotated[Path, typer.Option(help="a labelled corpus that meta-steps train on")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    repeats: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Times and counts answers, meta-steps and searches on a device."""
    place = named_device(device)
    language, _, path = data.partition("=")
    texts = [sentence.text for sentence in read_corpus(path, language=language).sentences][: max(SIZES)]
    what = torch.cuda.get_device_name(place) if place.type == "cuda" else "no GPU"
    known = machine(threads=torch.get_num_threads())
    print("; ".join([what, *(f"{key} {value}" for key, value in known.items())]), file=sys.stderr)
    console = Console(width=140)
    console.print(answers(bundle, texts, place, repeats))
    console.print(meta_steps(source, place, repeats))
    console.print(searches(place, repeats))
    if place.type == "cuda":
        console.print(f"most memory: {torch.cuda.max_memory_allocated(place) / 2**30:.1f} GiB")


if __name__ == "__main__":
    typer.run(main)
