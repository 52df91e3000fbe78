"""What the parts of a long request cost in a Tagger: in slices, looked up ahead or not, explained or not.

    python -m benchmarks.slices BUNDLE --data samples/de/test.conll --data samples/nl/test.conll

Sentences of the corpora are one request. A Tagger's engine does it in this process, without HTTP and with an index of
its own, in slices of the cost that a batch of long requests has on a busy service (`serve.pace.LEAST`) and of three
times that. `ahead` is what the service does: neighbours are looked up for many windows together, in slices of their
own. `each` looks up a slice's neighbours with the slice. In a service every search calls SourceIndex; that time comes
on top of what is measured here.

Then the same sentences are tagged eight at a time, plainly, adapted, explained without influences and with them. The
last column tells what the constants in `serve.work_parts` should be: they are in units of what a window's pieces cost
in a plain answer.

What is measured is processor time of the thread, in turns; what is printed are medians with quartiles. The factors of
the support are at hand.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.ratios import ratio
from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError
from metacross.sequences import groups
from metacross.tagging.window_tagger import TaggedWindow
from serve.pace import LEAST
from serve.work_parts import WindowPart, window_parts

TOGETHER = 8  # sentences of a forward, where kinds of answers are compared
SLICES = (LEAST, 3 * LEAST)
WAYS = ("each", "ahead")

Seconds = dict[str, list[float]]


class Request:
    """Sentences that are tagged again and again.

    Args:
        tagger: tags them.
        texts: the sentences.
    """

    def __init__(self, tagger: AdaptiveTagger, texts: Sequence[str]) -> None:
        self._tagger, self._texts = tagger, texts

    def windows(self, *, adapt: bool = True, explain: bool = False, influences: bool = False) -> list[TaggedWindow]:
        """Its windows, not tagged yet, in the order in which a service tags them."""
        settings = replace(self._tagger.settings(adapt=adapt, explain=explain), influences=influences)
        return self._tagger.cut([(text, settings) for text in self._texts]).by_length()

    def in_slices(self, cost: int, *, ahead: bool) -> int:
        """Tags all in slices of a cost; returns in how many of them neighbours are searched."""
        parts = [part for part in window_parts(self.windows()) if part.tags or ahead]
        if not ahead:  # the windows' own look-up is part of their cost
            parts = [replace(part, cost=part.cost + len(part.windows[0].window)) for part in parts]
        searches = 0
        for some in groups(parts, size=lambda part: part.cost, most=cost):
            self._do(some)
            searches += not ahead or not all(part.tags for part in some)
        return searches

    def tag(self, **how: bool) -> None:
        """Tags all, a few windows at a time."""
        for some in groups(self.windows(**how), size=lambda tagged: 1, most=TOGETHER):
            self._tagger.tag_windows(some)

    def _do(self, parts: Sequence[WindowPart]) -> None:
        """As `serve.engine.Engine.do` does."""
        self._tagger.look_up([tagged for part in parts if not part.tags for tagged in part.windows])
        self._tagger.tag_windows([tagged for part in parts if part.tags for tagged in part.windows])


def measured(ways: dict[str, Callable[[], object]], turns: int) -> Seconds:
    """Processor seconds of each way; a turn before the first is not counted."""
    found: Seconds = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            began = time.thread_time()
            way()
            if turn:
                found[name].append(time.thread_time() - began)
    return found


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[list[str], typer.Option(help="FILE, a corpus whose sentences are tagged")],
    turns: Annotated[int, typer.Option(min=3)] = 7,
    sentences: Annotated[int, typer.Option(min=1, help="of each corpus, at most")] = 60,
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
) -> None:
    """Measures slices with neighbours looked up ahead and not, and what explanations cost."""
    torch.set_num_threads(1)
    try:
        texts = [sentence.text for file in data for sentence in read_corpus(file).sentences[:sentences]]
        request = Request(AdaptiveTagger.from_pretrained(bundle, device="cpu"), texts)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    about = machine(threads=1)
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    pieces = sum(len(tagged.window) for tagged in request.windows()) / len(request.windows())
    print(f"{len(texts)} sentences, {len(request.windows())} windows of {pieces:.1f} pieces")
    console = Console(width=120)
    sliced = measured(
        {f"{cost}, {way}": partial(request.in_slices, cost, ahead=way == "ahead") for cost in SLICES for way in WAYS},
        turns,
    )
    console.print(_slices_table(request, sliced, len(texts)))
    kinds = measured(
        {
            "plain": lambda: request.tag(adapt=False),
            "adapted": request.tag,
            "explained": lambda: request.tag(explain=True),
            "influences": lambda: request.tag(explain=True, influences=True),
        },
        turns,
    )
    console.print(_kinds_table(kinds, len(texts), pieces))
    if json_path is not None:
        content = {"machine": about, "data": data, "slices": sliced, "kinds": kinds}
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _slices_table(request: Request, seconds: Seconds, sentences: int) -> Table:
    table = Table(
        "slices of", "each, searches", "each, ms a sentence", "ahead, searches", "ahead, ms a sentence", "each / ahead"
    )
    for cost in SLICES:
        each, ahead = (seconds[f"{cost}, {way}"] for way in WAYS)
        searches = [str(request.in_slices(cost, ahead=way == "ahead")) for way in WAYS]
        times = [f"{1000 * median(some) / sentences:.1f}" for some in (each, ahead)]
        table.add_row(f"{cost} pieces", searches[0], times[0], searches[1], times[1], ratio(each, ahead))
    return table


def _kinds_table(seconds: Seconds, sentences: int, pieces: float) -> Table:
    plain = seconds["plain"]
    table = Table("answer", "ms a sentence", "times plain", "constant")
    for kind, taken in seconds.items():
        constant = ""
        if kind == "adapted":
            more = median((a - b) / b for a, b in zip(taken, plain, strict=True))
            constant = f"{more * pieces:.0f} pieces for the support"
        elif kind != "plain":
            more = median((a - b) / c for a, b, c in zip(taken, seconds["adapted"], plain, strict=True))
            constant = f"{1 + more:.1f} times the window"
        table.add_row(kind, f"{1000 * median(taken) / sentences:.1f}", ratio(taken, plain), constant)
    return table


if __name__ == "__main__":
    typer.run(main)
