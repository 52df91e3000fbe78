"""A shard of an index: some of the windows that may be support, as `metacross index --shards N` leaves them.

    shards.json              what the shards were made from, and what is in each; written last
    0000/index.faiss         FAISS index over the shard's windows, by their numbers among all windows
    0000/numbers.npy         these numbers, ascending
    0000/pieces.npy          each window's length in word pieces
    0000/vectors.npy         each window's unit vector in float16, (N, H)
    0000/windows.arrow       the windows with their labelled sentences

All shards' indexes were trained once, so they compare vectors alike. In memory are index, numbers and lengths; vectors
and windows are read from the disk when they are asked for.

Shapes: B windows looked up, K neighbours, H vector size, N windows of the shard, P pairs of a window looked up and one
of the shard.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import Window
from metacross.errors import UserError
from metacross.retrieval.index import Ids, VectorIndex, Vectors
from metacross.retrieval.pools import Candidate
from metacross.retrieval.prepared import Facts
from metacross.storage.files import file_record, sha256

FORMAT = 1
FILE = "shards.json"
PAIRS_AT_ONCE = 16_384  # vectors that are in memory at a time while similarities are computed
INDEX, NUMBERS, PIECES, VECTORS, WINDOWS = "index.faiss", "numbers.npy", "pieces.npy", "vectors.npy", "windows.arrow"

WINDOW_SCHEMA = pa.schema(
    [
        ("sentence", pa.int64()),
        ("piece_ids", pa.list_(pa.int32())),
        ("first_pieces", pa.list_(pa.int32())),
        ("start", pa.int32()),
        ("scored_start", pa.int32()),
        ("scored_end", pa.int32()),
        ("text", pa.string()),
        ("starts", pa.list_(pa.int32())),
        ("ends", pa.list_(pa.int32())),
        ("tags", pa.list_(pa.string())),
        ("place", pa.string()),
    ]
)


class Found(NamedTuple):
    """What a search found: similarities, numbers and lengths in word pieces, each (B, K), best first.

    Where there are fewer than K, the rest of a row has the number -1 and a similarity of minus infinity.
    """

    similarity_BK: Vectors
    number_BK: Ids
    pieces_BK: NDArray[np.int32]


class ShardRecord(TypedDict):
    """What is in a shard.

    Attributes:
        first: number of its first window.
        windows: number of its windows, N.
        files: sizes and SHA-256 of its files, by name.
    """

    first: int
    windows: int
    files: dict[str, dict[str, Any]]


class ShardsFacts(Facts):
    """What shards.json holds, beside what prepared.json does for a source that is not in shards.

    Attributes:
        vector_size: length of a vector, H.
        quantized: whether the index stores codes in place of vectors, so that similarities are approximate.
        tags: the tags of the windows' sentences, in alphabetical order.
        recall_reranked: as `recall`, with the best re-ranked by their vectors in float16.
        reranked: how many these are.
        shards: one record a shard, in the order of their numbers.
    """

    vector_size: int
    quantized: bool
    tags: list[str]
    recall_reranked: float
    reranked: int
    shards: list[ShardRecord]


class IndexShard:
    """A shard, opened for searches.

    Args:
        index: over its windows.
        numbers_N: their numbers among all windows, ascending.
        pieces_N: their lengths in word pieces.
        vectors_NH: their unit vectors in float16; may be on the disk.
        windows: reads them and their sentences.
    """

    def __init__(
        self,
        index: VectorIndex,
        numbers_N: Ids,
        pieces_N: NDArray[np.int32],
        vectors_NH: NDArray[np.float16],
        windows: pa.RecordBatchFileReader,
    ) -> None:
        self._index, self._numbers_N, self._pieces_N, self._vectors_NH = index, numbers_N, pieces_N, vectors_NH
        self._windows = windows
        rows = [windows.get_batch(i).num_rows for i in range(windows.num_record_batches)]
        self._batch_starts = np.cumsum([0, *rows])

    @classmethod
    def open(
        cls, folder: Path, record: ShardRecord, *, use_gpu: bool | str = False, mapped: bool = False
    ) -> IndexShard:
        """Opens the shard in a directory.

        Args:
            folder: the directory.
            record: what shards.json says of it.
            use_gpu: see `VectorIndex`.
            mapped: see `VectorIndex.load`.

        Raises:
            UserError: a file is missing, or not as it was written.
        """
        for name, written in record["files"].items():
            if not (folder / name).is_file() or file_record(folder / name) != written:
                raise UserError(f"{folder / name}: missing, or not as it was written. Copy the shards again.")
        return cls(
            VectorIndex.load(folder / INDEX, use_gpu=use_gpu, mapped=mapped),
            np.load(folder / NUMBERS, allow_pickle=False),
            np.load(folder / PIECES, allow_pickle=False),
            np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False),
            pa.ipc.open_file(pa.memory_map(str(folder / WINDOWS))),
        )

    def __len__(self) -> int:
        return len(self._index)

    def search(self, vectors_BH: Vectors, k: int) -> Found:
        """The K most similar windows by the index; where it stores codes, by approximate similarity."""
        similarity_BK, number_BK = self._index.search(vectors_BH, min(k, len(self)))
        pieces_BK = self._pieces_N[self._rows(number_BK)]
        return Found(similarity_BK, number_BK, pieces_BK)

    def similarities(self, vectors_BH: Vectors, row_P: Ids, number_P: Ids) -> Vectors:
        """Similarities (P,) by the vectors on the disk.

        Args:
            vectors_BH: unit vectors of the windows looked up.
            row_P: which of these is compared.
            number_P: with which window of the shard.
        """
        # In the order of the file: reading on is faster than reading back and forth.
        order_P = np.argsort(number_P, kind="stable")
        out_P = np.empty(len(number_P), dtype=np.float32)
        for some_P in np.array_split(order_P, len(order_P) // PAIRS_AT_ONCE + 1):
            stored_PH = self._vectors_NH[self._rows(number_P[some_P])].astype(np.float32)
            out_P[some_P] = np.einsum("ph,ph->p", vectors_BH[row_P[some_P]], stored_PH)
        return out_P

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """The windows with these numbers, in the same order."""
        return [self._candidate(int(row)) for row in self._rows(np.asarray(numbers, dtype=np.int64))]

    def _rows(self, numbers: Ids) -> Ids:
        """Where windows stand in the shard's files; anywhere for a number that is -1."""
        return np.searchsorted(self._numbers_N, numbers).clip(max=len(self._numbers_N) - 1)

    def _candidate(self, row: int) -> Candidate:
        batch = int(np.searchsorted(self._batch_starts, row, side="right")) - 1
        (read,) = self._windows.get_batch(batch).slice(row - self._batch_starts[batch], 1).to_pylist()
        spans = tuple(zip(read["starts"], read["ends"], strict=True))
        text = read["text"]
        sentence = Sentence(
            text, tuple(text[start:end] for start, end in spans), spans, tuple(read["tags"]), place=read["place"]
        )
        window = Window(
            read["sentence"],
            tuple(read["piece_ids"]),
            tuple(read["first_pieces"]),
            read["start"],
            (read["scored_start"], read["scored_end"]),
        )
        return Candidate(window, sentence)


def shard_folder(path: Path, number: int) -> Path:
    """The directory of a shard."""
    return path / f"{number:04}"


def shards_digest(path: Path) -> str:
    """Names what is in all shards of a directory: 12 digits of the SHA-256 of shards.json.

    Raises:
        UserError: there are no shards.
    """
    read_shards(path)
    return sha256(path / FILE)[:12]


def read_shards(path: Path) -> ShardsFacts:
    """Reads shards.json.

    Raises:
        UserError: there is none, or this version cannot read it.
    """
    make = f"Make it: metacross index --shards N --out {path}"
    try:
        facts: ShardsFacts = json.loads((path / FILE).read_text(encoding="utf-8"))
        known = facts["format"] == FORMAT
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no index in shards ({FILE} is missing). {make}") from None
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(f"{path / FILE}: cannot be read ({error}). {make}") from error
    if not known:
        raise UserError(f"{path / FILE}: not of format {FORMAT}, which this version reads. {make}")
    return facts
