"""Adapted answers beside plain ones and beside transformers' pipeline, over a source that no cache of factors holds.

    python -m benchmarks.adapted BUNDLE --data nl=europeana/nl/train.txt

The same sentences are tagged in each way, from text to entities, in one process with one thread:

    plain     by theta
    warm      adapted, the support sentences' factors at hand: no backward
    cold      adapted, every batch without factors; states below the adapted layers are at hand, as they are for the
              complete source once it has been in use
    first     adapted, every batch without factors or states
    pipeline  transformers' token classification pipeline over the bundle, in bf16 where that is fast, in lists of 8 at
              most (`benchmarks.plain` compares types and lists)

The ways take turns at every batch, so that whatever else the machine does meets all of them. Ratios are of processor
time within a turn over all batches; what is printed are medians with quartiles. The line below a table tells how many
of the entities that the warm way finds the cold way finds, too.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.plain import LIST, LONGEST, Entities, Way, in_process, pipeline_way
from benchmarks.ratios import ratio
from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from metacross.encoder.device import product_dtype

SIZES = (1, 8, 32)
PLAIN, WARM, COLD, FIRST, PIPELINE = "plain", "warm", "cold", "first", "pipeline"
CACHES: dict[str, dict[str, int]] = {
    PLAIN: {},
    WARM: {"factor": 8192},
    COLD: {"factor": 0},
    FIRST: {"factor": 0, "trunk": 0},
}


def tagger_way(bundle: Path, name: str, overrides: Sequence[str]) -> Way:
    """Metacross, with the caches of one way."""
    sizes = {"factor": "serve.factor_cache_mb", "trunk": "train.trunk_cache_mb"}
    settings = [
        "data.tag_map={}",
        *overrides,
        *(f"{sizes[cache]}={megabytes}" for cache, megabytes in CACHES[name].items()),
    ]
    tagger = AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=settings)
    return in_process(lambda texts, _: tagger(texts, adapt=name != PLAIN))


def measure(ways: dict[str, Way], texts: Sequence[str], size: int, turns: int) -> dict[str, list[float]]:
    """Seconds of the processor that all texts take, by way, one number a turn; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [0.0] * turns for name in ways}
    for turn in range(-1, turns):
        for at in range(0, len(texts), size):
            batch = list(texts[at : at + size])
            for name, way in ways.items():
                (_, processor), _ = way(batch, min(size, LIST) if name == PIPELINE else size)
                if turn >= 0:
                    seconds[name][turn] += processor
    return seconds


def found(way: Way, texts: Sequence[str], size: int) -> Entities:
    """The entities of each text."""
    return way(list(texts), size)[1]


def table_of(seconds: dict[str, list[float]], texts: int, title: str) -> Table:
    """Medians and ratios of what was measured."""
    table = Table("", "sentences/s", "time / plain", "time of the pipeline / time", title=title)
    for name, own in seconds.items():
        table.add_row(name, f"{texts / median(own):.1f}", ratio(own, seconds[PLAIN]), ratio(seconds[PIPELINE], own))
    return table


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run; its source should be large")],
    data: Annotated[str, typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    turns: Annotated[int, typer.Option(min=3)] = 7,
    sentences: Annotated[int, typer.Option(min=32, help="of a turn")] = 64,
    sizes: Annotated[str, typer.Option(help="of batches, with commas")] = ",".join(map(str, SIZES)),
    overrides: Annotated[list[str] | None, typer.Argument(help="settings, such as inner.layers=3")] = None,
) -> None:
    """Times answers, in batches of 1, 8 and 32."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    language, _, path = data.partition("=")
    texts = [s.text for s in read_corpus(path, language=language).sentences if len(s.text) <= LONGEST]
    texts = texts[:: max(1, len(texts) // sentences)][:sentences]
    ways = {name: tagger_way(bundle, name, overrides or []) for name in CACHES}
    ways[PIPELINE] = pipeline_way(bundle, product_dtype("auto", torch.device("cpu")) or torch.float32)
    print("; ".join(f"{key} {value}" for key, value in machine(threads=1).items()), file=sys.stderr)
    for size in map(int, sizes.split(",")):
        seconds = measure(ways, texts, size, turns)
        Console(width=160).print(table_of(seconds, len(texts), f"batch {size}"))
        warm, cold = (found(ways[name], texts, size) for name in (WARM, COLD))
        same = sum(len(a & b) for a, b in zip(warm, cold, strict=True))
        print(f"entities: {sum(map(len, warm))} warm, {sum(map(len, cold))} cold, {same} the same", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
