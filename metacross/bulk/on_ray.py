"""Tagging on a cluster: a pool of actors of Ray Data turns parts of the input into parts of the output.

Only the driver reads the input and writes the output, so nodes need to see nothing but the bundle, and the input may
come from a pipe. Parts travel as rows of Ray Data, each in a block of its own; they come back in any order, and the
number in their names is what orders them. The rows of a round are in Ray's object store at the same time, which is why
there are rounds.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray

from metacross.actor_pool import actor_pool, first_cause, quiet
from metacross.bulk.items import Item
from metacross.bulk.lines import Wanted, tag_lines
from metacross.bulk.processes import load_tagger
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError
from metacross.events import Note, Show
from metacross.indexing.build import Clock
from metacross.ray_session import ray_session
from metacross.sequences import groups
from metacross.storage.addresses import Mirror, working_copy
from metacross.storage.files import write_file
from metacross.wording import counted

PART_ITEMS = 1024  # a lost actor costs at most so much work
PART_CHARACTERS = 1 << 19
ROUND_CHARACTERS = 1 << 28  # about half a gigabyte of items in the object store


@dataclass(frozen=True)
class Source:
    """What every actor tags with.

    Attributes:
        bundle: an address, or a path that all nodes see.
        digest: tells this bundle from others.
        examples: labelled sentences that shape answers beside those of the bundle.
        wanted: what is wanted of every item.
    """

    bundle: str
    digest: str
    examples: Sequence[Sentence]
    wanted: Wanted


@dataclass(frozen=True)
class Part:
    """A part of the input.

    Attributes:
        name: of its file: its number, and a digest of all that its content depends on.
        items: what is in it.
    """

    name: str
    items: Sequence[Item]


def tag_on_ray(
    items: Iterable[Item], out: str, source: Source, *, actors: int | None = None, show: Show = lambda event: None
) -> tuple[int, int]:
    """Tags items on all of the cluster's GPUs or CPUs, into files that hold them in order.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine. Parts that an
    interrupted call left are not tagged again where the items in them, the bundle and what is wanted are the same.

    Args:
        items: what is to be tagged.
        out: a directory or an address. It gets `part-000000-DIGEST.jsonl` and so on; other parts in it are removed when
            all are written.
        source: what they are tagged with.
        actors: the number of taggers; None for as many as there is room for.
        show: is called with events.

    Returns:
        How many parts there are, and how many of them were there before.

    Raises:
        UserError: an item cannot be read or written; parts before it are complete.
        RunError: a tagger failed; what is tagged is kept.
    """
    expected: set[str] = set()
    there_before = 0
    with working_copy(out) as (folder, mirror):
        directory = Parts(folder, mirror)
        for round_ in groups(_parts(items, source), size=_characters, most=ROUND_CHARACTERS):
            expected |= {part.name for part in round_}
            missing = [part for part in round_ if part.name not in directory.names]
            there_before += len(round_) - len(missing)
            if missing:
                _tag_round(missing, directory, source, actors=actors, show=show)
        for old in directory.remove_others(expected):
            show(Note(f"{old} was removed: it is no part of this output"))
    return len(expected), there_before


class Parts:
    """The parts at a directory or an address.

    Args:
        folder: the directory, or the one from which parts go to the address.
        mirror: what copies to the address, if it is one.

    Attributes:
        names: of the parts that are complete.
    """

    def __init__(self, folder: Path, mirror: Mirror | None) -> None:
        self._folder, self._mirror = folder, mirror
        folder.mkdir(parents=True, exist_ok=True)
        there = mirror.names("") if mirror else [path.name for path in folder.iterdir()]
        self.names = {name for name in there if name.startswith("part-")}

    def write(self, name: str, content: bytes) -> None:
        """Writes a part, completely or not at all."""
        write_file(self._folder / name, content)
        if self._mirror is not None:
            self._mirror.push(name)
            (self._folder / name).unlink()
        self.names.add(name)

    def remove_others(self, expected: set[str]) -> list[str]:
        """Removes the parts that are not among the expected; returns their names."""
        others = sorted(self.names - expected)
        for name in others:
            if self._mirror is not None:
                self._mirror.remove(name)
            else:
                (self._folder / name).unlink()
        self.names -= {*others}
        return others


def _parts(items: Iterable[Item], source: Source) -> Iterator[Part]:
    """Cuts items into parts. Those before an item that cannot be read are given before the error is raised."""
    made_with = repr((source.digest, source.examples, source.wanted))
    in_parts = groups(items, size=lambda item: len(item.text), most=PART_CHARACTERS, most_items=PART_ITEMS)
    for number, part in enumerate(in_parts):
        digest = hashlib.blake2b(f"{made_with}{part!r}".encode(errors="surrogatepass"), digest_size=6).hexdigest()
        yield Part(f"part-{number:06}-{digest}.{source.wanted.output}", part)


def _characters(part: Part) -> int:
    return sum(len(item.text) for item in part.items)


def _tag_round(parts: Sequence[Part], directory: Parts, source: Source, *, actors: int | None, show: Show) -> None:
    """Tags parts in a pool of actors, and writes each as it comes back."""
    with ray_session() as ours, quiet():
        taggers = actor_pool("auto", ours=ours, actors=actors)
        show(Note(f"{counted(taggers.actors, 'taggers')}, {'with' if taggers.use_gpu else 'without'} GPU"))
        rows = [{"name": part.name, "items": pickle.dumps(part.items)} for part in parts]
        tagged = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            TaggerActor,
            fn_constructor_kwargs={"source": source, "use_gpu": taggers.use_gpu, "threads": taggers.threads},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(taggers.actors, len(rows))),
            num_cpus=taggers.cpus,
            num_gpus=1 if taggers.use_gpu else 0,
        )
        clock = Clock("tagging", sum(len(part.items) for part in parts), show)
        counts = {part.name: len(part.items) for part in parts}
        done, refused = 0, {}
        for row in _rows(tagged):
            if row["error"]:
                refused[row["name"]] = row["error"]
            else:
                directory.write(row["name"], row["content"])
            done += counts[row["name"]]
            clock(done)
    if refused:
        raise UserError(refused[min(refused)])


def _rows(tagged: ray.data.Dataset) -> Iterator[Mapping[str, Any]]:
    try:
        yield from tagged.iter_rows()
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise RunError(
            f"tagging failed: {first_cause(error)}. What is tagged is kept; run the command again."
        ) from error


class TaggerActor:
    """A tagger in an actor of its own."""

    def __init__(self, source: Source, use_gpu: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        self._wanted = source.wanted
        self._tagger = load_tagger(source.bundle, (), source.examples, "cuda" if use_gpu else "cpu")

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Tags parts, given by their names and pickled items; returns their names, contents and errors."""
        lines = [tag_lines(self._tagger, pickle.loads(items), self._wanted) for items in batch["items"]]
        return {
            "name": batch["name"],
            "content": np.array([one.content for one in lines], dtype=object),
            "error": np.array([one.error for one in lines], dtype=object),
        }
