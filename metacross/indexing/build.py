"""Making a prepared source (retrieval/prepared.py) without Ray: read, encode, index, look up neighbours, measure.

Every step works through the source in parts of bounded size; complete in memory are the index and a few numbers per
window. Parts are encoded by a function that the caller gives (`ray_pool`: by a pool of actors; without one, by this
process). Parts that an interrupted call has encoded stay in a hidden directory beside `out`, and the next call
continues with them.

Shapes: M windows, N of them in the index, K neighbours, H vector size, B windows of a file.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from metacross.config import Config
from metacross.errors import RunError, UserError
from metacross.events import Note, Preparation, Show
from metacross.indexing.parts import Encoded, write_sentences
from metacross.indexing.recall import measure_recall
from metacross.indexing.window_encoder import WindowEncoder, encode_here
from metacross.retrieval.index import UntrainedIndex, VectorIndex, factory_string
from metacross.retrieval.prepared import FILE, FORMAT, INDEX, NEIGHBOURS, Facts, encoder_digest, made_from
from metacross.sequences import spread
from metacross.storage.directories import write_directory
from metacross.storage.files import file_record
from metacross.time_left import TimeLeft

Encode = Callable[[Path, Path, int], None]
"""Encodes the parts of sentences in the first directory into parts of vectors in the second.

Parts whose vectors are in the second directory already are left out. The third argument is the number of sentences.
"""

RECALL_AT = 10  # neighbours that are compared for the recall


def build_index(
    encoded: Encoded, candidates: NDArray[np.int64], untrained: UntrainedIndex, *, use_gpu: bool | str, show: Show
) -> VectorIndex:
    """Builds the index over the `candidates`: trained on a sample spread evenly over them, filled file by file."""
    show(Note(f"index: {untrained.factory} over {len(candidates)} windows"))
    # An index that is not trained needs no sample, but `gather` cannot return nothing.
    sample = candidates[list(spread(len(candidates), untrained.wanted))] if untrained.wanted else candidates[:1]
    index = VectorIndex.empty(untrained, encoded.gather(sample), use_gpu=use_gpu)
    for numbers, vectors_NH in encoded.batches(candidates):
        index.add(vectors_NH, numbers)
        show(Preparation("filling the index", len(index), len(candidates)))
    return index


def find_neighbours(encoded: Encoded, index: VectorIndex, *, k: int, show: Show) -> NDArray[np.int64]:
    """Each window's K nearest others (M, K), looked up file by file."""
    found_MK = np.empty((len(encoded.owner_M), k), dtype=np.int64)
    clock = Clock("looking up neighbours", len(found_MK), show)
    for numbers, vectors_BH in encoded.batches():
        own_B = encoded.owner_M[numbers]
        found_MK[numbers] = index.neighbours(vectors_BH, k, own_B=own_B, owner_M=encoded.owner_M)
        clock(int(numbers[-1]) + 1)
    return found_MK


class Clock:
    """Shows how much of a piece of work is done, and how long the rest will take at the rate so far.

    Args:
        what: the work, in words for people.
        total: how much there is to do, in units such as sentences.
        show: gets a `Preparation` event at every call.
        before: how much an interrupted call had done.
    """

    def __init__(self, what: str, total: int, show: Show, *, before: int = 0) -> None:
        self._what, self._total, self._show = what, total, show
        self._time_left = TimeLeft(total, done=before)

    def __call__(self, done: int) -> None:
        """Shows that `done` units of the total are done."""
        self._show(Preparation(self._what, done, self._total, left=self._time_left.seconds(done)))


def prepare(
    config: Config,
    out: Path,
    *,
    encode: Encode | None = None,
    use_gpu: bool | str = False,
    show: Show = lambda event: None,
) -> Facts:
    """Makes a prepared source at `out`, completely or not at all; replaces one that is there.

    If an interrupted call left encoded parts of the same source, encoder and settings, this call continues with them;
    they are in `.NAME.encoding` beside `out` until it is complete.

    Args:
        config: its sections data, model and retrieval; `episodes.support_size` neighbours are looked up per window.
        out: the directory.
        encode: turns sentences into vectors; without it this process does, on the CPU.
        use_gpu: for the index; see `VectorIndex`.
        show: is called with events as `display.Display` takes them.

    Returns:
        What prepared.json holds.

    Raises:
        UserError: corpora, encoder, settings or `out` have to be changed first.
        RunError: encoding failed.
    """
    _make_room(out)
    encoder = WindowEncoder(config, device=torch.device("cpu"))
    loaded = encoder.loaded
    _untrained(config, 1, loaded.sentence_encoder.size)  # refuses an unknown kind of index before hours of encoding
    preparation = _Preparation(
        config,
        encoder=encoder_digest(loaded),
        vector_size=loaded.sentence_encoder.size,
        waiting=out.absolute().parent / f".{out.name}.encoding",
        encode=encode or partial(encode_here, encoder),
        use_gpu=use_gpu,
        show=show,
    )
    if encode is not None:
        del encoder, loaded  # whatever encodes has its own; this one would only take memory
    write_directory(out, preparation.fill)
    shutil.rmtree(preparation.waiting, ignore_errors=True)
    return preparation.facts


@dataclass
class _Preparation:
    """One call of `prepare`.

    Attributes:
        config: the configuration.
        encoder: the encoder's digest.
        vector_size: length of a vector, H.
        waiting: the directory of what was encoded before `out` is complete.
        encode: turns sentences into vectors.
        use_gpu: for the index.
        show: is called with events.
        facts: what prepared.json holds, once the directory is filled.
        seconds: of the steps that are done.
    """

    config: Config
    encoder: str
    vector_size: int
    waiting: Path
    encode: Encode
    use_gpu: bool | str
    show: Show
    facts: Facts = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)

    def fill(self, folder: Path) -> None:
        """Makes all files of a prepared source in `folder`; prepared.json is the last, and the vectors move in."""
        with self._timed("reading"):
            source = write_sentences(self.config, folder / "sentences", show=self.show)
            made = made_from(self.config, source=source, encoder=self.encoder)
        with self._timed("encoding"):
            vectors = self._vectors_directory(made)
            self.encode(folder / "sentences", vectors, source.count)
            encoded = self._read_encoded(vectors, source.count)
        with self._timed("index"):
            candidates = np.arange(len(encoded.owner_M))
            if self.config.retrieval.candidates == "with_entities":
                candidates = np.flatnonzero(encoded.with_entities_M)
            untrained = _untrained(self.config, len(candidates), self.vector_size)
            index = build_index(encoded, candidates, untrained, use_gpu=self.use_gpu, show=self.show)
            index.save(folder / INDEX)
        with self._timed("neighbours"):
            neighbours_MK = find_neighbours(encoded, index, k=self.config.episodes.support_size, show=self.show)
            np.save(folder / NEIGHBOURS, neighbours_MK)
        # A sentence has at most as many neighbours as there are other owners.
        recall_at = min(RECALL_AT, len(np.unique(encoded.owner_M[candidates])) - 1)
        self.facts = Facts(
            format=FORMAT,
            made_from=made,
            sentences=source.count,
            windows=len(encoded.owner_M),
            indexed=len(candidates),
            index=untrained.factory,
            recall=measure_recall(encoded, candidates, index, k=recall_at),
            recall_at=recall_at,
            seconds=self.seconds,
            files={name: file_record(folder / name) for name in (INDEX, NEIGHBOURS)},
        )
        (folder / FILE).write_text(json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        vectors.rename(folder / "vectors")

    def _vectors_directory(self, made: dict[str, Any]) -> Path:
        """Returns the directory that vectors are encoded into, with an interrupted call's parts if they fit.

        Args:
            made: all that the vectors depend on; parts that were made from something else are removed.
        """
        vectors, key = self.waiting / "vectors", self.waiting / "made_from.json"
        text = json.dumps(made, ensure_ascii=False)
        if key.is_file() and key.read_text(encoding="utf-8") == text:
            done = len(list(vectors.glob("*.parquet")))
            self.show(Note(f"{done} parts were encoded by an earlier call and are used again"))
            return vectors
        shutil.rmtree(self.waiting, ignore_errors=True)
        vectors.mkdir(parents=True)
        key.write_text(text, encoding="utf-8")
        return vectors

    def _read_encoded(self, vectors: Path, sentences: int) -> Encoded:
        """Reads what was encoded, after checking that it is complete.

        Raises:
            RunError: it is not. It is removed, or the next call would meet it again.
        """
        try:
            return Encoded.read(vectors, sentences=sentences)
        except (RunError, pa.ArrowException) as error:
            shutil.rmtree(self.waiting)
            raise RunError(
                f"what was encoded is not complete ({error}) and was removed. Run the command again."
            ) from error

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - began, 1)


def _untrained(config: Config, count: int, size: int) -> UntrainedIndex:
    retrieval = config.retrieval
    factory = factory_string(retrieval.index, count, size)
    return UntrainedIndex(size, factory=factory, lists_searched=retrieval.lists_searched)


def _make_room(out: Path) -> None:
    """Refuses a directory that holds something else, and removes what calls that were killed left beside it."""
    if out.exists() and not (out / FILE).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is no prepared source. Choose another place: --out DIR")
    for left in out.absolute().parent.glob(f".{out.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
