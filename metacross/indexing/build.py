"""Making a prepared source (retrieval/prepared.py) without Ray: read, encode, index, look up neighbours, measure.

Every step works through the source in parts of bounded size; complete in memory are the index and a few numbers per
window. Parts are encoded by a function that the caller gives (`on_ray`: by a pool of actors; without one, by this
process). Parts that an interrupted call has encoded stay in a hidden directory beside `out`, and the next call
continues with them. With `shards` the result is an index in shards (retrieval/index_shard.py) in place of a prepared
source, and never more than one shard's index is in memory.

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
from metacross.indexing.shard_writer import TRAINED, ShardWriter
from metacross.indexing.window_encoder import WindowEncoder, encode_here
from metacross.retrieval.index import UntrainedIndex, VectorIndex, factory_string
from metacross.retrieval.index_shard import FILE as SHARDS_FILE
from metacross.retrieval.index_shard import FORMAT as SHARDS_FORMAT
from metacross.retrieval.index_shard import IndexShard, ShardsFacts, shard_folder
from metacross.retrieval.prepared import FILE, FORMAT, INDEX, NEIGHBOURS, Facts, encoder_digest, made_from
from metacross.retrieval.sharded import ShardedIndex, one_by_one
from metacross.sequences import spread
from metacross.storage.directories import write_directory
from metacross.storage.files import file_record
from metacross.time_left import TimeLeft
from metacross.wording import counted

Encode = Callable[[Path, Path, int], None]
"""Encodes the parts of sentences in the first directory into parts of vectors in the second.

Parts whose vectors are in the second directory already are left out. The third argument is the number of sentences.
"""

PARTS_FORMAT = 2  # of the columns of encoded parts
RECALL_AT = 10  # neighbours that are compared for the recall


def build_index(
    encoded: Encoded, candidates: NDArray[np.int64], untrained: UntrainedIndex, *, use_gpu: bool | str, show: Show
) -> VectorIndex:
    """Builds the index over the `candidates`: trained on a sample spread evenly over them, filled file by file."""
    show(Note(f"index: {untrained.factory} over {counted(len(candidates), 'windows')}"))
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
    shards: int | None = None,
    encode: Encode | None = None,
    use_gpu: bool | str = False,
    show: Show = lambda event: None,
) -> Facts:
    """Makes a prepared source, or an index in shards, at `out`: completely or not at all; replaces one that is there.

    If an interrupted call left encoded parts, or shards, of the same source, encoder and settings, this call continues
    with them; they are in `.NAME.encoding` beside `out` until it is complete.

    Args:
        config: its sections data, model and retrieval; for a prepared source `episodes.support_size` neighbours are
            looked up per window, and of shards the `serve.rerank` best are re-ranked to measure the recall.
        out: the directory.
        shards: how many shards; None for a prepared source.
        encode: turns sentences into vectors; without it this process does, on the CPU.
        use_gpu: for the index; see `VectorIndex`.
        show: is called with events as `display.Display` takes them.

    Returns:
        What prepared.json or shards.json holds.

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
        shards=shards,
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
        shards: number of shards; None for a prepared source.
        encode: turns sentences into vectors.
        use_gpu: for the index.
        show: is called with events.
        facts: what prepared.json or shards.json holds, once the directory is filled.
        seconds: of the steps that are done.
    """

    config: Config
    encoder: str
    vector_size: int
    waiting: Path
    shards: int | None
    encode: Encode
    use_gpu: bool | str
    show: Show
    facts: Facts = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)

    def fill(self, folder: Path) -> None:
        """Makes all files in `folder`; prepared.json or shards.json is the last."""
        with self._timed("reading"):
            source = write_sentences(self.config, folder / "sentences", show=self.show)
            made = made_from(self.config, source=source, encoder=self.encoder)
        with self._timed("encoding"):
            vectors = self._vectors_directory(made)
            self.encode(folder / "sentences", vectors, source.count)
            encoded = self._read_encoded(vectors, source.count)
        candidates = np.arange(len(encoded.owner_M))
        if self.config.retrieval.candidates == "with_entities":
            candidates = np.flatnonzero(encoded.with_entities_M)
        untrained = _untrained(self.config, len(candidates), self.vector_size)
        facts = Facts(
            format=FORMAT,
            made_from=made,
            sentences=source.count,
            windows=len(encoded.owner_M),
            indexed=len(candidates),
            index=untrained.factory,
            recall=0.0,  # this one and the rest is filled in by what makes the files
            # A sentence has at most as many neighbours as there are other owners.
            recall_at=min(RECALL_AT, len(np.unique(encoded.owner_M[candidates])) - 1),
            seconds=self.seconds,
            files={},
        )
        if self.shards is None:
            self._fill_prepared(folder, encoded, candidates, untrained, facts)
            vectors.rename(folder / "vectors")
        else:
            self._fill_shards(folder, encoded, candidates, untrained, facts)

    def _fill_prepared(
        self, folder: Path, encoded: Encoded, candidates: NDArray[np.int64], untrained: UntrainedIndex, facts: Facts
    ) -> None:
        """Makes index, neighbours and prepared.json."""
        with self._timed("index"):
            index = build_index(encoded, candidates, untrained, use_gpu=self.use_gpu, show=self.show)
            index.save(folder / INDEX)
        with self._timed("neighbours"):
            neighbours_MK = find_neighbours(encoded, index, k=self.config.episodes.support_size, show=self.show)
            np.save(folder / NEIGHBOURS, neighbours_MK)
        facts["recall"] = measure_recall(encoded, candidates, index, k=facts["recall_at"])
        facts["files"] = {name: file_record(folder / name) for name in (INDEX, NEIGHBOURS)}
        self._write(folder / FILE, facts)

    def _fill_shards(
        self, folder: Path, encoded: Encoded, candidates: NDArray[np.int64], untrained: UntrainedIndex, facts: Facts
    ) -> None:
        """Makes the shards and shards.json; the sentences are in the shards then, and go."""
        assert self.shards is not None
        waiting = self.waiting / f"{self.shards} shards"
        writer = ShardWriter(
            encoded,
            candidates,
            sentences=folder / "sentences",
            untrained=untrained,
            count=self.shards,
            folder=waiting,
            show=self.show,
        )
        with self._timed("shards"):
            records, tags = writer.write()
        rerank = self.config.serve.rerank
        whole: ShardsFacts = {
            **facts,
            "format": SHARDS_FORMAT,
            "vector_size": self.vector_size,
            "quantized": VectorIndex.load(waiting / TRAINED, use_gpu=False).quantized,
            "tags": tags,
            "recall_reranked": 0.0,
            "reranked": rerank,
            "shards": records,
        }
        shards = [IndexShard.open(shard_folder(waiting, i), record, mapped=True) for i, record in enumerate(records)]
        plain, reranked = (ShardedIndex(whole, one_by_one(shards), rerank=count) for count in (0, rerank))
        with self._timed("recall"):
            whole["recall"] = measure_recall(encoded, candidates, plain, k=facts["recall_at"])
            whole["recall_reranked"] = measure_recall(encoded, candidates, reranked, k=facts["recall_at"])
        for number in range(self.shards):
            shard_folder(waiting, number).rename(shard_folder(folder, number))
        shutil.rmtree(folder / "sentences")
        self._write(folder / SHARDS_FILE, whole)

    def _write(self, path: Path, facts: Facts) -> None:
        self.facts = facts
        path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _vectors_directory(self, made: dict[str, Any]) -> Path:
        """Returns the directory that vectors are encoded into, with an interrupted call's parts if they fit.

        Args:
            made: all that the vectors depend on; parts that were made from something else are removed.
        """
        vectors, key = self.waiting / "vectors", self.waiting / "made_from.json"
        text = json.dumps({"parts": PARTS_FORMAT, **made}, ensure_ascii=False)
        if key.is_file() and key.read_text(encoding="utf-8") == text:
            done = len(list(vectors.glob("*.parquet")))
            self.show(Note(f"uses again {counted(done, 'parts')} that an earlier call encoded"))
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
    ours = any((out / file).is_file() for file in (FILE, SHARDS_FILE))
    if out.exists() and not ours and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is no prepared source. Choose another place: --out DIR")
    for left in out.absolute().parent.glob(f".{out.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
