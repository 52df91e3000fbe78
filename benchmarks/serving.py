"""What adaptation costs an answer, in this process: against the plain forward, and against copied weights.

    python -m benchmarks.serving BUNDLE --data pt=UNER/pt_bosque/dev.iob2 --data zh=UNER/zh_gsdsimp/dev.iob2

Batches of real sentences are tagged by turns, from text to entities:

    plain     by theta: trunk, layers, decoding
    warm      adapted, the support sentences' factors at hand: no backward
    cold      adapted, no factors kept
    copied    adapted as others do it, a sentence at a time: copy theta, step, tag, copy back

Ratios are taken within a repeat; what is printed are medians with quartiles. The stages of the warm way are timed too:
encode (trunk and sentence encoder), search, adapt (factors), tag.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import machine
from benchmarks.ratios import ratio
from metacross import AdaptiveTagger
from metacross.algorithm import episode_losses, tag
from metacross.bundle import load_bundle
from metacross.config_loading import FILE_NAME, load_config
from metacross.corpora.reader import read_corpus
from metacross.corpora.sentence import Sentence, sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.encoder.device import autocast
from metacross.encoder.rows import pack
from metacross.errors import UserError

SIZES = (1, 8, 32)
WAYS = ("plain", "warm", "cold", "copied")
POOL = 64  # distinct sentences of each language; so many that a warm cache holds their support


class Copied:
    """Adapts a sentence as others do: by a step on theta itself, undone afterwards. Same neighbours, same step."""

    def __init__(self, tagger: AdaptiveTagger) -> None:
        self.tagger = tagger
        self.theta: list[Tensor] = list(tagger.bundle.model.inner_theta())

    def __call__(self, texts: Sequence[str]) -> None:
        """Tags texts one by one."""
        for text in texts:
            for start, end in split_sentences(text):
                self.probabilities(sentence_from_text(text[start:end]))

    def probabilities(self, sentence: Sentence) -> list[Tensor]:
        """Tag probabilities of each of a sentence's windows."""
        tagger, model, precision = self.tagger, self.tagger.bundle.model, self.tagger.config.train.precision
        windows = tagger._pieces.windows([sentence])
        with tagger._windows.precision():
            states, vectors_BH = tagger._windows.encode(windows)
            found = tagger._support.search(vectors_BH, tagger.config.episodes.support_size)
        out = []
        for window, state_TH, row in zip(windows, states, found, strict=True):
            with tagger._windows.precision():
                support = pack(tagger._support.support([[neighbour.number for neighbour in row]]))
            with torch.enable_grad(), autocast(precision, tagger.device):
                loss = episode_losses(model.logits(support), support, max_weight=0).sum()
            grads = torch.autograd.grad(loss, self.theta)
            step = tagger.config.inner.lr
            if tagger.config.inner.step == "normalized":
                step /= float(torch.stack([g.square().sum() for g in grads]).sum().sqrt())
            with torch.no_grad():
                kept = [p.clone() for p in self.theta]
                torch._foreach_add_(self.theta, grads, alpha=-step)
                query = pack([[(state_TH, torch.empty(len(window), dtype=torch.long))]])
                with autocast(precision, tagger.device):  # a new one: it keeps bf16 copies of weights
                    found_TC = tag(model, query)[0]
                torch._foreach_copy_(self.theta, kept)
            out.append(found_TC[list(window.scored_pieces())].cpu())
        return out


class Stages:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Counts the block's time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began


def batches_of(files: Sequence[str], size: int, count: int, seed: int) -> list[list[str]]:
    """Batches of raw texts, drawn from so few sentences of each file that a warm cache knows their support."""
    texts: list[str] = []
    for file in files:
        language, _, path = file.partition("=")
        if not path:
            raise UserError(f"--data {file}: expected LANGUAGE=FILE, such as pt=dev.iob2.")
        sentences = read_corpus(path, language=language).sentences
        texts += [s.text for s in sentences[:: max(1, len(sentences) // POOL)][:POOL]]
    draw = random.Random(seed)
    return [draw.sample(texts, size) if size <= len(texts) else draw.choices(texts, k=size) for _ in range(count)]


def measure(
    ways: dict[str, Callable[[Sequence[str]], Any]],
    batches: Sequence[Sequence[str]],
    repeats: int,
    *,
    stages: Sequence[Stages],
) -> dict[str, list[float]]:
    """Seconds of all batches, by way, and by stage; the first repeat meets everything for the first time: left out."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        if repeat == 1:
            for clock in stages:
                clock.seconds.clear()
        for name, way in ways.items():
            began = time.perf_counter()
            for batch in batches:
                way(batch)
            if repeat:
                found[name].append(time.perf_counter() - began)
    return found


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[list[str], typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    repeats: Annotated[int, typer.Option(min=3, help="turns")] = 7,
    batches: Annotated[int, typer.Option(min=1, help="batches of a turn, at each size")] = 6,
    threads: Annotated[int, typer.Option(min=1, help="torch's")] = 1,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16")] = "auto",
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
) -> None:
    """Times answers, plain and adapted, in batches of 1, 8 and 32."""
    torch.set_num_threads(threads)
    stages = {name: Stages() for name in ("plain", "warm", "cold")}
    try:
        settings = [f"train.precision={precision}", "data.tag_map={}"]
        taggers = {
            name: AdaptiveTagger.from_pretrained(
                bundle,
                device="cpu",
                overrides=[*settings, f"serve.factor_cache_mb={0 if name == 'cold' else 8192}"],
                timed=clock,
            )
            for name, clock in stages.items()
        }
        copied = untouched(bundle, settings)
        texts = {size: batches_of(data, size, batches, seed=size) for size in SIZES}
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    ways: dict[str, Callable[[Sequence[str]], Any]] = {
        "plain": lambda batch: taggers["plain"](list(batch), adapt=False),
        "warm": lambda batch: taggers["warm"](list(batch)),
        "cold": lambda batch: taggers["cold"](list(batch)),
        "copied": Copied(copied),
    }
    about = machine(threads=threads)
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    table = Table("batch", "plain, ms", *(f"{name} / plain" for name in WAYS[1:]), "copied / warm", "stages, warm, ms")
    found: dict[str, Any] = {}
    for size in SIZES:
        seconds = measure(ways, texts[size], repeats, stages=list(stages.values()))
        ms = 1000 / batches
        spent = {k: v * ms / repeats for k, v in stages["warm"].seconds.items()}
        ratios = [ratio(seconds[name], seconds["plain"]) for name in WAYS[1:]]
        shown = ", ".join(f"{k} {v:.1f}" for k, v in spent.items())
        best = ratio(seconds["copied"], seconds["warm"])
        table.add_row(str(size), f"{ms * median(seconds['plain']):.1f}", *ratios, best, shown)
        found[str(size)] = {"seconds": seconds, "stages_warm_ms": spent}
    Console(width=160).print(table)
    if json_path is not None:
        json_path.write_text(json.dumps({"machine": about, "found": found}, indent=1) + "\n", encoding="utf-8")


def untouched(bundle: Path, settings: list[str]) -> AdaptiveTagger:
    """A tagger whose weights are as they were saved, in fp32: steps may be taken on them."""
    loaded = load_bundle(bundle, use_gpu=False)
    config = load_config([loaded.path / FILE_NAME], settings, alone=True)
    return AdaptiveTagger(loaded, device=torch.device("cpu"), config=config)


if __name__ == "__main__":
    typer.run(main)
