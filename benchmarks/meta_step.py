"""Seconds of one meta-step: ours, and other ways to the same meta-gradient, run in turn on the same inputs.

    python -m benchmarks.meta_step                            # BERT-base size, random pieces, fp32 and bf16
    python -m benchmarks.meta_step --data train.conll --batches 4 --repeats 8
    python -m benchmarks.meta_step --encoder tiny --repeats 2 # a look at the output

Every repeat times all implementations on the same meta-batch, one after the other, in an order that moves on by one
with each repeat; ratios are taken within a repeat. So a machine that is busy for a while slows all of them alike.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.comparison import DTYPES, SKIPPABLE, Comparison, compare
from benchmarks.inputs import RANDOM_TAGS, MetaBatch, corpus_batches, make_classifier, random_batches, vocabulary_of
from benchmarks.machine import machine
from benchmarks.meta_step_report import draw, print_comparison
from metacross.algorithm import InnerLoop
from metacross.errors import UserError
from metacross.storage.files import write_json

TABLE_WIDTH = 140  # no column is cut


@dataclass(frozen=True)
class Settings:
    """What is run: the command line's options, see `main`."""

    encoder: str
    data: str
    dtype: str
    repeats: int
    threads: int
    batches: int
    episodes: int
    support_size: int
    inner_steps: int
    inner_lr: float
    max_weight: float
    pieces: int
    neighbours: str
    sentences: int
    skip: Sequence[str]
    keep_trunk: bool
    seed: int

    def check(self) -> None:
        """Raises UserError for an option that makes no sense."""
        for name in ("repeats", "threads", "batches", "episodes", "sentences"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: at least 1")
        names = [kind.name for kind in SKIPPABLE]
        for name in self.skip:
            if name not in names:
                raise UserError(f"--skip {name!r}: choose among {', '.join(map(repr, names))}")
        if self.dtype not in (*DTYPES, "both"):
            raise UserError(f"--dtype={self.dtype}: choose fp32, bf16 or both")
        if self.neighbours not in ("retrieval", "random"):
            raise UserError(f"--neighbours={self.neighbours}: choose retrieval or random")

    @property
    def inner(self) -> InnerLoop:
        """The inner loop that is timed."""
        return InnerLoop(steps=self.inner_steps, lr=self.inner_lr, normalized=False, max_weight=self.max_weight)

    def meta_batches(self) -> tuple[list[MetaBatch], tuple[str, ...]]:
        """The inputs, and the tags that they are labelled with."""
        shape: dict[str, int] = {
            "episodes": self.episodes,
            "support_size": self.support_size,
            "vocabulary": vocabulary_of(self.encoder),
            "seed": self.seed,
        }
        if self.data == "random":
            return random_batches(self.batches, pieces=self.pieces, **shape), RANDOM_TAGS
        return corpus_batches(
            Path(self.data),
            self.batches,
            encoder=self.encoder,
            neighbours=self.neighbours,
            sentences=self.sentences,
            **shape,
        )

    def __str__(self) -> str:
        return (
            f"{self.encoder}, {self.episodes} episodes x ({self.support_size} support sentences, "
            f"{self.inner_steps} inner steps, 1 query), {Path(self.data).name}"
        )


def run(settings: Settings, *, json_path: Path | None, plot: Path | None, console: Console) -> Comparison:
    """Measures, prints, and where asked for writes figures and a plot."""
    settings.check()
    torch.set_num_threads(settings.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # a new tag head is no news here
    about = machine(settings.threads)
    inputs, tags = settings.meta_batches()
    classifier, frozen_layers = make_classifier(settings.encoder, tags, seed=settings.seed)
    support, query = (sum(n) / len(inputs) for n in zip(*(b.pieces() for b in inputs), strict=True))
    console.print("; ".join(f"{k} {v}" for k, v in about.items()))
    console.print(
        f"{settings}; {support:.0f} support and {query:.0f} query pieces a meta-batch, {settings.batches} meta-batches"
    )
    result = compare(
        classifier,
        inputs,
        frozen_layers=frozen_layers,
        inner=settings.inner,
        precisions=list(DTYPES) if settings.dtype == "both" else [settings.dtype],
        repeats=settings.repeats,
        skip=settings.skip,
        keep_trunk=settings.keep_trunk,
        tell=lambda line: print(line, file=sys.stderr),
    )
    print_comparison(result, console)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            "neighbours": settings.neighbours,
            "repeats": settings.repeats,
            "inner": asdict(settings.inner),
            "pieces": [support, query],
        }
        write_json(json_path, {"machine": about, "task": str(settings), "settings": kept, **asdict(result)})
    if plot is not None:
        title = f"{settings}\n{about['cpu']}, {settings.threads} threads, torch {about['torch']}"
        for path in draw(result, plot, title):
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
        settings = Settings(
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
        )
        run(settings, json_path=json_path, plot=plot, console=Console(width=max(TABLE_WIDTH, Console().width)))
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
