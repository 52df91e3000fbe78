"""Writing an index in shards (retrieval/index_shard.py): trained once, then every shard filled and stored by itself.

Memory holds one shard's index and the vectors of one part. A shard is a directory that is complete or not there, so an
interrupted call goes on with the shards that it has not written.

Shapes: N windows that may be support, H vector size, P windows of one part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from metacross.errors import UserError
from metacross.events import Note, Preparation, Show
from metacross.indexing.parts import Encoded
from metacross.retrieval.index import UntrainedIndex, VectorIndex
from metacross.retrieval.index_shard import (
    INDEX,
    NUMBERS,
    PIECES,
    VECTORS,
    WINDOW_SCHEMA,
    WINDOWS,
    ShardRecord,
    shard_folder,
)
from metacross.sequences import spread
from metacross.storage.directories import tidy, write_directory
from metacross.storage.files import file_record, temporary_name, write_json
from metacross.wording import counted

RECORD = "record.json"  # of a shard; its content goes into shards.json
TRAINED = "trained.faiss"  # the index without vectors that every shard is filled from


class ShardWriter:
    """Writes the shards of one index.

    Args:
        encoded: the windows.
        candidates: numbers (N,) of those that may be support, ascending.
        sentences: directory of the parts of sentences.
        untrained: the kind of index.
        count: number of shards.
        folder: where they are written, each completely or not at all; shards that are there stay.
        show: is called with events.

    Raises:
        UserError: there are fewer windows than shards.
    """

    def __init__(
        self,
        encoded: Encoded,
        candidates: NDArray[np.int64],
        *,
        sentences: Path,
        untrained: UntrainedIndex,
        count: int,
        folder: Path,
        show: Show,
    ) -> None:
        if count > len(candidates):
            raise UserError(f"--shards {count}: more than {counted(len(candidates), 'windows')}. Ask for fewer shards.")
        self._encoded, self._candidates, self._sentences = encoded, candidates, sentences
        self._untrained, self._count, self._folder, self._show = untrained, count, folder, show
        self._done = 0

    def write(self) -> tuple[list[ShardRecord], list[str]]:
        """Writes the shards that are not there yet; returns the records of all, and the tags of their sentences."""
        self._folder.mkdir(parents=True, exist_ok=True)
        tidy(self._folder)
        self._train()
        records: list[ShardRecord] = []
        tags: set[str] = set()
        for number, own in enumerate(np.array_split(self._candidates, self._count)):
            shard = shard_folder(self._folder, number)
            if shard.is_dir():
                self._show(Note(f"shard {number} was written by an earlier call and is used again"))
            else:
                write_directory(shard, lambda folder, own=own: self._fill(folder, own))  # type: ignore[misc]
            found = json.loads((shard / RECORD).read_text(encoding="utf-8"))
            records.append(found["record"])
            tags.update(found["tags"])
            self._done += len(own)
        return records, sorted(tags)

    def _train(self) -> None:
        """Leaves the trained index in the directory, where an earlier call has not."""
        trained = self._folder / TRAINED
        if trained.is_file():
            return
        wanted = self._untrained.wanted
        self._show(Note(f"index: {self._untrained.factory} over {counted(len(self._candidates), 'windows')}"))
        sample = self._candidates[list(spread(len(self._candidates), wanted))] if wanted else self._candidates[:1]
        temporary = temporary_name(trained)
        VectorIndex.empty(self._untrained, self._encoded.gather(sample), use_gpu=False).save(temporary)
        temporary.replace(trained)

    def _fill(self, folder: Path, own: NDArray[np.int64]) -> None:
        """Writes all files of a shard of the windows with these numbers."""
        index = VectorIndex.load(self._folder / TRAINED, use_gpu=False)
        halves_NH: np.memmap[Any, np.dtype[np.float16]] | None = None
        pieces: list[NDArray[np.int32]] = []
        tags: set[str] = set()
        with pa.OSFile(str(folder / WINDOWS), "wb") as sink, pa.ipc.new_file(sink, WINDOW_SCHEMA) as windows:
            at = 0
            for file, numbers, rows in self._encoded.files_of(own):
                table = pq.read_table(file).take(rows)
                vectors_PH = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
                index.add(vectors_PH, numbers)
                if halves_NH is None:
                    shape = (len(own), vectors_PH.shape[1])
                    halves_NH = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float16, shape)
                halves_NH[at : at + len(rows)] = vectors_PH
                for batch in self._windows(table, self._sentences / file.name):
                    windows.write_batch(batch)
                    tags.update(batch["tags"].flatten().unique().to_pylist())
                pieces.append(pc.list_value_length(table["piece_ids"]).to_numpy())
                at += len(rows)
                self._show(Preparation("filling the shards", self._done + at, len(self._candidates)))
        assert halves_NH is not None
        halves_NH.flush()
        index.save(folder / INDEX)
        np.save(folder / NUMBERS, own)
        np.save(folder / PIECES, np.concatenate(pieces).astype(np.int32))
        files = {name: file_record(folder / name) for name in (INDEX, NUMBERS, PIECES, VECTORS, WINDOWS)}
        record = ShardRecord(first=int(own[0]), windows=len(own), files=files)
        write_json(folder / RECORD, {"record": record, "tags": sorted(tags)})

    def _windows(self, encoded: pa.Table, sentences: Path) -> Iterator[pa.RecordBatch]:
        """The windows of a part with their sentences, as a shard holds them."""
        labelled = pq.read_table(sentences)
        first = labelled["sentence"][0].as_py()
        theirs = labelled.take(encoded["sentence"].to_numpy() - first)
        columns = [(encoded if name in encoded.column_names else theirs)[name] for name in WINDOW_SCHEMA.names]
        yield from pa.table(columns, schema=WINDOW_SCHEMA).combine_chunks().to_batches()
