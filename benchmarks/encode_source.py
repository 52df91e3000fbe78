"""Encoding and indexing a large source: sentences a second, resident memory, recall, and what a million would take.

    python -m benchmarks.encode_source
    python -m benchmarks.encode_source --sentences 20000 --index-vectors 1000000 --data EWT/train.iob2

The source is made of the sentences in --data: names are exchanged for others of their type, numbers get other digits.
It is written in files of a bounded size, encoded on Ray Data and indexed, as `metacross index` does it. Then an IVF-PQ
is built over --index-vectors vectors. Where those are more than were encoded they are a STAND-IN: the encoded ones
again, each moved in a random direction by the mean distance of a vector to its nearest other.
"""

from __future__ import annotations

import os
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console

from metacross.background import repeated
from metacross.cli.display import clock
from metacross.config import Config
from metacross.config_loading import load_config
from metacross.corpora.reader import read_corpus
from metacross.corpora.sentence import Sentence, entities
from metacross.errors import UserError
from metacross.events import Event, Preparation
from metacross.indexing.build import build_index
from metacross.indexing.on_ray import prepare_on_ray
from metacross.indexing.parts import PART, Encoded
from metacross.indexing.recall import measure_recall
from metacross.retrieval.index import UntrainedIndex

ROOT = Path(__file__).parent.parent
MILLION = 1_000_000
FILE_SENTENCES = 20_000  # of one corpus file: the reader holds one file at a time
SAMPLE_SECONDS = 0.5  # between two looks at the memory


def varied(sentences: Sequence[Sentence], draw: random.Random) -> Iterator[str]:
    """Endless sentences in columns, made of real ones: other names of the same type, other digits."""
    names: dict[str, list[tuple[str, ...]]] = {}
    for s in sentences:
        for kind, start, end in entities(s.tags or ()):
            names.setdefault(kind, []).append(s.words[start:end])
    while True:
        s = draw.choice(sentences)
        lines, at = [], 0
        for kind, start, end in [*entities(s.tags or ()), ("", len(s.words), len(s.words))]:
            lines += [f"{_digits(word, draw)} O" for word in s.words[at:start]]
            if kind:
                name = draw.choice(names[kind])
                lines += [f"{word} {'I' if i else 'B'}-{kind}" for i, word in enumerate(name)]
            at = end
        yield "\n".join(lines) + "\n\n"


def _digits(word: str, draw: random.Random) -> str:
    return re.sub(r"\d", lambda _: str(draw.randrange(10)), word)


def write_source(sentences: Sequence[Sentence], count: int, folder: Path, *, seed: int) -> list[str]:
    """Writes `count` varied sentences, in files of at most FILE_SENTENCES; returns the files' names."""
    made, files = varied(sentences, random.Random(seed)), list[str]()
    for first in range(0, count, FILE_SENTENCES):
        path = folder / f"source-{len(files):04}.conll"
        with path.open("w", encoding="utf-8") as file:
            for _ in range(min(FILE_SENTENCES, count - first)):
                file.write(next(made))
        files.append(str(path))
    return files


@dataclass
class Memory:
    """The most resident memory seen, in MiB: this process, the largest encoder, and all of Ray's other processes."""

    driver: float = 0.0
    encoder: float = 0.0
    rest: float = 0.0
    encoders: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Looks at this process and those that descend from it."""
        parents, titles, sizes = {}, {}, {}
        for place in Path("/proc").iterdir():
            if not place.name.isdecimal():
                continue
            try:
                fields = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
                titles[int(place.name)] = (place / "cmdline").read_text(errors="replace")
            except (OSError, ValueError):  # ended in the meantime
                continue
            parents[int(place.name)] = int(fields["PPid"])
            sizes[int(place.name)] = int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
        own, rest = os.getpid(), 0.0
        for pid in titles:
            up = pid
            while up in parents and up != own:
                up = parents[up]
            if up != own or pid == own:
                continue
            if titles[pid].startswith("ray::") and "Encoder" in titles[pid]:
                self.encoders.add(pid)
                self.encoder = max(self.encoder, sizes[pid])
            else:
                rest += sizes[pid]
        self.rest = max(self.rest, rest)
        self.driver = max(self.driver, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class ProgressLines:
    """Prints how far the encoding is, a line for every event."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        """Takes an event of `indexing.build.prepare`."""
        if isinstance(event, Preparation) and event.what == "encoding source" and event.left is not None:
            self._console.print(f"encoded {event.done} of {event.total}, {clock(event.left)} left")


def stand_in(encoded: Encoded, count: int, folder: Path, *, seed: int) -> Encoded:
    """`count` vectors made of the encoded ones: see the top of this file. Every one has an owner of its own."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    real_MH = encoded.gather(np.arange(len(encoded.owner_M)))
    some = draw.choice(len(real_MH), min(500, len(real_MH)), replace=False)
    similarity = real_MH[some] @ real_MH.T
    similarity[encoded.owner_M[some][:, None] == encoded.owner_M] = -1
    length = float(np.sqrt(np.maximum(2 - 2 * similarity.max(1), 0)).mean())
    size = real_MH.shape[1]
    for first in range(0, count, PART):
        number = np.arange(first, min(first + PART, count))
        moved = real_MH[number % len(real_MH)]
        step = draw.normal(size=moved.shape).astype(np.float32)
        moved = moved + length * step / np.linalg.norm(step, axis=1, keepdims=True)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        columns = {
            "sentence": number,
            "window": np.zeros(len(number), dtype=np.int32),
            "owner": number,
            "with_entities": np.ones(len(number), dtype=bool),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(moved.ravel()), size),
        }
        pq.write_table(pa.table(columns), folder / f"part-{first:09}.parquet")
    return Encoded.read(folder, sentences=count)


def report_index(encoded: Encoded, factory: str, config: Config, console: Console, *, what: str) -> None:
    """Builds an index over all vectors and prints time, bytes and recall."""
    every = np.arange(len(encoded.owner_M))
    size = encoded.gather(every[:1]).shape[1]
    began = time.monotonic()
    untrained = UntrainedIndex(size, factory=factory, lists_searched=config.retrieval.lists_searched)
    index = build_index(encoded, every, untrained, use_gpu=False, show=lambda event: None)
    built = time.monotonic() - began
    recall = measure_recall(encoded, every, index, k=10)
    console.print(
        f"{factory} over {len(every)} {what}: built in {built:.0f} s; recall@10 against flat {recall:.3f} "
        f"with {config.retrieval.lists_searched} lists searched"
    )


def main(
    sentences: Annotated[int, typer.Option(min=100, max=MILLION, help="of the source, made and encoded")] = 8000,
    data: Annotated[list[Path] | None, typer.Option(help="corpora of real sentences; samples/en otherwise")] = None,
    encoder: Annotated[str, typer.Option(help="model.encoder")] = "embedded",
    actors: Annotated[int | None, typer.Option(min=1, help="encoders side by side")] = None,
    index_vectors: Annotated[int, typer.Option(min=0, help="vectors of the IVF-PQ; 0: those encoded")] = 0,
    seed: Annotated[int, typer.Option(help="of names, numbers and directions")] = 0,
) -> None:
    """Makes a source, encodes and indexes it, and prints what was measured."""
    console, memory = Console(highlight=False, soft_wrap=True), Memory()
    pace = ProgressLines(console)
    try:
        real = [s for path in data or [ROOT / "samples/en/train.conll"] for s in read_corpus(path).sentences]
        with tempfile.TemporaryDirectory(prefix="metacross-encode-") as name:
            folder = Path(name)
            files = write_source(real, sentences, folder, seed=seed)
            config = load_config(
                [ROOT / "ray_config.yaml"], [f"data.source=[{', '.join(files)}]", f"model.encoder={encoder}"]
            )
            console.print(f"{sentences} sentences made of {len(real)} real ones, in {len(files)} files")
            with repeated(memory.look, seconds=SAMPLE_SECONDS, name="memory"):
                facts = prepare_on_ray(config, folder / "prepared", actors=actors, show=pace)
            seconds = facts["seconds"]
            rate = facts["windows"] / seconds["encoding"]
            whole = MILLION * facts["windows"] / facts["sentences"]
            console.print(f"seconds by part: {seconds}; {facts['windows']} windows")
            console.print(f"encoding: {rate:.0f} windows/s, Ray's start counted in")
            console.print(
                f"at that rate a million sentences take {clock(MILLION * seconds['reading'] / sentences)} to read and "
                f"{clock(whole / rate)} to encode"
            )
            console.print(
                f"most resident memory: {memory.driver:.0f} MiB driver, {memory.encoder:.0f} MiB each of "
                f"{len(memory.encoders)} encoders, {memory.rest:.0f} MiB all of Ray's other processes"
            )
            console.print(
                f"{facts['index']} over {facts['indexed']}: recall@{facts['recall_at']} {facts['recall']:.3f}"
            )
            encoded, what = Encoded.read(folder / "prepared" / "vectors", sentences=sentences), "encoded vectors"
            if index_vectors > len(encoded.owner_M):
                encoded = stand_in(encoded, index_vectors, folder / "stand-in", seed=seed)
                what = "stand-in vectors (encoded ones, moved at random)"
            count = len(encoded.owner_M)
            lists = 2 ** round(np.log2(4 * np.sqrt(count)))
            size = encoded.gather(np.arange(1)).shape[1]
            with repeated(memory.look, seconds=SAMPLE_SECONDS, name="memory"):
                report_index(encoded, f"IVF{lists},PQ{size // 4}", config, console, what=what)
            console.print(f"most resident memory of the driver by then: {memory.driver:.0f} MiB")
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
