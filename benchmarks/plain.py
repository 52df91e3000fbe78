"""Plain answers against what a user would pick instead: transformers' pipeline over the same bundle, and ONNX Runtime.

    python -m benchmarks.plain BUNDLE --data nl=europeana/nl/train.txt --onnx-python VENV/bin/python

The same sentences are tagged in each way in turn, in short bursts, one thread each. Ratios are taken within a burst;
what is printed are medians with quartiles. Processor time is what a busy machine moves least. `pipeline` ways get
their texts in lists of the batch size; with more than 8, lists of 8 are tried as well, since a list is padded to its
longest text. The last column is the share of the entities of metacross in fp32 that a way finds, with the same type:
transformers' pipeline groups word pieces, not words, so its answers are not quite the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import pipeline

from benchmarks.machine import machine
from benchmarks.ratios import ratio
from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus

SIZES = (1, 32)
LIST = 8  # texts; larger lists are padded to long ones
OURS = "metacross"
LONGEST = 600  # characters of a sentence: longer ones would be several windows, which the pipelines cut off

Entities = list[set[tuple[int, int, str]]]
Burst = tuple[tuple[float, float], Entities]  # seconds on the wall and of the processor; what was found
Way = Callable[[list[str], int], Burst]


def in_process(tag: Callable[[list[str], int], list[list[dict[str, Any]]]]) -> Way:
    """A way that runs here."""

    def burst(texts: list[str], size: int) -> Burst:
        wall, processor = time.perf_counter(), time.process_time()
        found = [answer for at in range(0, len(texts), size) for answer in tag(texts[at : at + size], size)]
        seconds = time.perf_counter() - wall, time.process_time() - processor
        return seconds, [{(e["start"], e["end"], e["entity_group"]) for e in answer} for answer in found]

    return burst


def tagger_way(bundle: Path, precision: str) -> Way:
    """Metacross without adaptation."""
    settings = [f"train.precision={precision}", "data.tag_map={}"]
    tagger = AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=settings)
    return in_process(lambda texts, _: tagger(texts, adapt=False))


def pipeline_way(bundle: Path, dtype: torch.dtype) -> Way:
    """Transformers' pipeline."""
    tagger: Any = pipeline(
        "token-classification", model=str(bundle), device="cpu", dtype=dtype, aggregation_strategy="simple"
    )
    return in_process(lambda texts, size: tagger(texts, batch_size=size))


def onnx_way(bundle: Path, python: Path) -> Way:
    """ONNX Runtime behind the same pipeline, in another process; see `benchmarks.onnx_peer`."""
    command = [str(python), str(Path(__file__).with_name("onnx_peer.py")), str(bundle)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def burst(texts: list[str], size: int) -> Burst:
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps({"texts": texts, "batch": size}), file=process.stdin, flush=True)
        answer = json.loads(process.stdout.readline())
        wall, processor = answer["seconds"]
        return (wall, processor), [{(e[0], e[1], e[2]) for e in entities} for entities in answer["entities"]]

    return burst


def compare(
    ways: dict[str, Way], texts: list[str], size: int, bursts: int, exact: Entities, *, lists: bool = True
) -> Table:
    """Runs all ways in turn; returns their figures. The first burst of each warms up.

    Args:
        ways: by name; one is OURS.
        texts: of a burst.
        size: texts of a batch.
        bursts: of each way.
        exact: what is to be found in the texts.
        lists: whether the other ways are also asked in lists of LIST texts, if a batch is larger.
    """
    asked = {name: (way, size) for name, way in ways.items()}
    if lists and size > LIST:
        asked |= {f"{name}, lists of {LIST}": (way, LIST) for name, way in ways.items() if name != OURS}
    found: dict[str, list[Burst]] = {name: [] for name in asked}
    for burst in range(bursts + 1):
        for name, (way, own_size) in asked.items():
            result = way(texts, own_size)
            if burst:
                found[name].append(result)
    columns = ("sentences/s", "sentences/s of processor time", "wall / ours", "processor / ours", "same entities, %")
    table = Table("", *columns, title=f"batch {size}")
    for name, results in found.items():
        rates = [f"{len(texts) / median(seconds[i] for seconds, _ in results):.1f}" for i in (0, 1)]
        ratios = [ratio([s[i] for s, _ in results], [s[i] for s, _ in found[OURS]]) for i in (0, 1)]
        total = max(1, sum(map(len, exact)))
        same = sum(len(own & other) for own, other in zip(results[-1][1], exact, strict=True))
        table.add_row(name, *rates, *ratios, f"{100 * same / total:.1f}")
    return table


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[str, typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    bursts: Annotated[int, typer.Option(min=3, help="of each way")] = 7,
    sentences: Annotated[int, typer.Option(min=32, help="of a burst")] = 64,
    onnx_python: Annotated[Path | None, typer.Option(help="an interpreter with optimum-onnx")] = None,
) -> None:
    """Times plain answers, in batches of 1 and 32."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    language, _, path = data.partition("=")
    texts = [s.text for s in read_corpus(path, language=language).sentences if len(s.text) <= LONGEST]
    texts = texts[:: max(1, len(texts) // sentences)][:sentences]
    _, exact = tagger_way(bundle, "fp32")(texts, 32)
    ways = {
        OURS: tagger_way(bundle, "auto"),
        "pipeline, fp32": pipeline_way(bundle, torch.float32),
        "pipeline, bf16": pipeline_way(bundle, torch.bfloat16),
    }
    if onnx_python is not None:
        ways["ONNX Runtime, fp32"] = onnx_way(bundle, onnx_python)
    print("; ".join(f"{key} {value}" for key, value in machine(threads=1).items()), file=sys.stderr)
    for size in SIZES:
        Console(width=160).print(compare(ways, texts, size, bursts, exact))


if __name__ == "__main__":
    typer.run(main)
