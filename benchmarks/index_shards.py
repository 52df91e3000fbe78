"""An index in 1, 2 and 4 shards: time of an answer, bytes a vector, and recall with and without re-ranking.

    python -m benchmarks.index_shards
    python -m benchmarks.index_shards --vectors 4000000 --factory IVF1024,PQ96 --no-flat

The vectors are a STAND-IN: each lies between two vectors of sentences in samples/, moved in a random direction by up to
the mean distance of such a vector to its nearest other. Queries are made in the same way.

Every shard is called by itself, in one thread, and its processor time is taken: other programs on the machine then
count little, and shards on nodes of their own need not wait for one another. An answer's time is that of the slowest
shard of every round, and of the merge. It has no network, no queue and no disk in it: vectors in float16 are in the
page cache.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
from numpy.typing import NDArray

from benchmarks.machine import machine
from metacross.config_loading import load_config
from metacross.corpora.from_config import read_source
from metacross.indexing.parts import sentence_table
from metacross.indexing.window_encoder import WindowEncoder
from metacross.retrieval.index import UntrainedIndex, VectorIndex, Vectors
from metacross.retrieval.index_shard import WINDOW_SCHEMA, IndexShard, ShardsFacts
from metacross.retrieval.sharded import Ask, ShardedIndex, one_by_one

ROOT = Path(__file__).parent.parent
BLOCK = 100_000  # vectors that are made at a time
MOST = 4  # shards; fewer are made of these by joining neighbours
K = 10
RERANKED = (0, 100, 200, 500, 1000)


class StandIn:
    """Vectors around those of real sentences, in blocks; a block is always the same.

    Args:
        real_SH: unit vectors of sentences.
    """

    def __init__(self, real_SH: Vectors) -> None:
        self._real_SH = real_SH
        similarity_SS = real_SH @ real_SH.T
        np.fill_diagonal(similarity_SS, -1)
        self.nearest = float(np.sqrt(2 - 2 * similarity_SS.max(axis=1)).mean())

    def block(self, number: int, count: int) -> Vectors:
        """The vectors (count, H) of a block; of queries if its number is negative."""
        draw = np.random.default_rng([17, abs(number), number < 0])
        one, other = (self._real_SH[draw.integers(len(self._real_SH), size=count)] for _ in range(2))
        share = draw.random((count, 1), dtype=np.float32)
        moved = draw.standard_normal((count, self._real_SH.shape[1]), dtype=np.float32)
        moved *= draw.random((count, 1), dtype=np.float32) * self.nearest / np.linalg.norm(moved, axis=1, keepdims=True)
        moved += share * one + (1 - share) * other
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return moved


def real_vectors() -> Vectors:
    """Unit vectors of the windows of the sentences in samples/, by the embedded encoder."""
    files = sorted(map(str, ROOT.glob("samples/*/*.conll")))
    config = load_config([ROOT / "ray_config.yaml"], [f"data.source={json.dumps(files)}"], alone=True)
    table = sentence_table(read_source(config, lambda oddity: None), first=0)
    vectors = WindowEncoder(config, device=torch.device("cpu"))(table)["vector"].combine_chunks()
    return np.asarray(vectors.flatten().to_numpy().reshape(len(vectors), -1))


@dataclass
class Timed:
    """Asks shards in this process, and takes the processor time as if each had a node of its own."""

    shards: Sequence[IndexShard]
    all_s: float = 0.0
    slowest_s: float = 0.0

    def __call__(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """See `metacross.retrieval.sharded.Ask`."""
        results, times = {}, [0.0]
        for shard, given in arguments.items():
            began = time.thread_time()
            results[shard] = getattr(self.shards[shard], method)(*given)
            times.append(time.thread_time() - began)
        self.all_s += sum(times)
        self.slowest_s += max(times)
        return results


def answer_times(shards: Sequence[IndexShard], facts: ShardsFacts, queries: Vectors, batch: int, rerank: int) -> Any:
    """Milliseconds of every answer to `batch` queries at once."""
    times = []
    for first in range(0, len(queries) - batch + 1, batch):
        timed = Timed(shards)
        index = ShardedIndex(facts, timed, rerank=rerank)
        began = time.thread_time()
        index.find(queries[first : first + batch], K)
        times.append(1000 * (time.thread_time() - began - timed.all_s + timed.slowest_s))
    return times


@dataclass
class Index:
    """One kind of index over the stand-in, in files.

    Attributes:
        factory: FAISS's name of it.
        folder: where it is.
        vectors_NH: all vectors in float16.
        lists_searched: inverted lists searched for a query.
        files: of the four shards, and of what was joined of them.
    """

    factory: str
    folder: Path
    vectors_NH: NDArray[np.float16]
    lists_searched: int
    files: dict[int, list[Path]] = field(default_factory=dict)

    def build(self, made: StandIn) -> None:
        """Trains it once, fills the four shards, and joins them to two and to one."""
        size, count = self.vectors_NH.shape[1], len(self.vectors_NH)
        untrained = UntrainedIndex(size, factory=self.factory, lists_searched=self.lists_searched)
        sample = made.block(0, min(BLOCK, max(untrained.wanted, 1)))
        trained = self.folder / "trained"
        VectorIndex.empty(untrained, sample, use_gpu=False).save(trained)
        self.files[MOST] = [self.folder / f"{self.factory.replace(',', '_')}-{MOST}-{i}" for i in range(MOST)]
        for file, own in zip(self.files[MOST], np.array_split(np.arange(count), MOST), strict=True):
            index = VectorIndex.load(trained, use_gpu=False)
            for numbers in np.array_split(own, len(own) // BLOCK + 1):
                index.add(self.vectors_NH[numbers[0] : numbers[-1] + 1].astype(np.float32), numbers)
            index.save(file)
            print(f"  {self.factory}: {own[-1] + 1} vectors are in", flush=True)
        for shards in (2, 1):
            halves = self.files[2 * shards]
            self.files[shards] = [
                joined(halves[2 * i], halves[2 * i + 1], self.folder / f"{self.factory.replace(',', '_')}-{shards}-{i}")
                for i in range(shards)
            ]

    def shards(self, count: int) -> list[IndexShard]:
        """The index in so many shards."""
        empty = pa.BufferOutputStream()
        pa.ipc.new_file(empty, WINDOW_SCHEMA).close()
        windows = pa.ipc.open_file(empty.getvalue())
        opened, first = [], 0
        for file in self.files[count]:
            index = VectorIndex.load(file, use_gpu=False)
            numbers = np.arange(first, first + len(index))
            lengths = np.full(len(index), 30, dtype=np.int32)
            vectors = self.vectors_NH[first : first + len(index)]
            opened.append(IndexShard(index, numbers, lengths, vectors, windows))
            first += len(index)
        return opened

    def facts(self, count: int) -> ShardsFacts:
        """What shards.json would say, as far as a search needs it."""
        total = len(self.vectors_NH)
        firsts = [int(own[0]) for own in np.array_split(np.arange(total), count)]
        quantized = VectorIndex.load(self.folder / "trained", use_gpu=False).quantized
        records: Any = [{"first": first, "windows": 0, "files": {}} for first in firsts]
        known = {"index": self.factory, "indexed": total, "quantized": quantized, "shards": records}
        return known  # type: ignore[return-value]

    @property
    def bytes_per_vector(self) -> float:
        """Of the index, which is in memory."""
        return self.files[1][0].stat().st_size / len(self.vectors_NH)


def joined(one: Path, other: Path, out: Path) -> Path:
    """Two indexes of the same training in one file. FAISS joins the parts of IndexIDMap, but not IndexIDMap itself."""
    import faiss

    index: Any = faiss.read_index(str(one))
    more: Any = faiss.read_index(str(other))
    numbers = np.concatenate([faiss.vector_to_array(part.id_map) for part in (index, more)])
    ivf = faiss.try_extract_index_ivf(index.index) is not None
    index.index.merge_from(more.index, index.ntotal if ivf else 0)
    faiss.copy_array_to_vector(numbers, index.id_map)
    index.ntotal = index.index.ntotal
    faiss.write_index(index, str(out))
    return out


def true_neighbours(vectors_NH: NDArray[np.float16], queries_QH: Vectors) -> NDArray[np.int64]:
    """Each query's K nearest vectors (Q, K), compared one by one in float16's values."""
    best = np.empty((len(queries_QH), 0), dtype=np.float32)
    number = np.empty((len(queries_QH), 0), dtype=np.int64)
    for first, block in blocks(vectors_NH):
        similarity = queries_QH @ block.astype(np.float32).T
        at = np.argpartition(-similarity, K, axis=1)[:, :K]
        best = np.concatenate([best, np.take_along_axis(similarity, at, 1)], axis=1)
        number = np.concatenate([number, at + first], axis=1)
    return np.take_along_axis(number, np.argsort(-best, axis=1)[:, :K], 1)


def blocks(vectors_NH: NDArray[np.float16]) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Blocks of vectors, each with the number of its first."""
    for first in range(0, len(vectors_NH), BLOCK):
        yield first, vectors_NH[first : first + BLOCK]


def recall(ask: Ask, facts: ShardsFacts, queries: Vectors, true_QK: NDArray[np.int64], rerank: int) -> float:
    """The share of the true neighbours that are found."""
    found = ShardedIndex(facts, ask, rerank=rerank).search(queries, K)[1]
    return float(np.mean([len({*a} & {*b}) / K for a, b in zip(found.tolist(), true_QK.tolist(), strict=True)]))


def report(index: Index, queries: Vectors, true_QK: NDArray[np.int64], repeats: int) -> None:
    """Prints the rows of one kind of index."""
    print(f"\n{index.factory} over {len(index.vectors_NH):,}: {index.bytes_per_vector:.0f} bytes a vector in memory")
    for count in (1, 2, MOST):
        shards, facts = index.shards(count), index.facts(count)
        if count == MOST:
            for rerank in RERANKED if facts["quantized"] else (0,):
                share = recall(one_by_one(shards), facts, queries[: len(true_QK)], true_QK, rerank)
                print(f"  recall@{K}, {rerank} re-ranked: {share:.3f}", flush=True)
        for batch in (1, 32):
            asked = queries[: repeats * min(batch, 8)]
            cells = []
            for rerank in (0, 200, 1000) if facts["quantized"] else (0,):
                times = answer_times(shards, facts, asked, batch, rerank)
                cells.append(f"{rerank} re-ranked {np.median(times):.1f} / {np.percentile(times, 99):.1f}")
            print(f"  {count} shards, batch {batch}, ms p50 / p99 of {len(times)}: {', '.join(cells)}", flush=True)


def main(
    vectors: Annotated[int, typer.Option(help="How many vectors.")] = 1_000_000,
    factory: Annotated[list[str] | None, typer.Option(help="FAISS's names of kinds of index.")] = None,
    flat: Annotated[bool, typer.Option(help="Also measure the exact index.")] = True,
    lists_searched: Annotated[int, typer.Option(help="Inverted lists searched for a query.")] = 16,
    repeats: Annotated[int, typer.Option(help="Answers to be timed.")] = 200,
) -> None:
    """Build the index, and print what it takes."""
    import faiss

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    print(machine(1), flush=True)
    made = StandIn(real_vectors())
    print(f"mean distance of a sentence's vector to its nearest other: {made.nearest:.3f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="index_shards-") as folder:
        size = made.block(0, 1).shape[1]
        vectors_NH = np.memmap(Path(folder) / "vectors", np.float16, "w+", shape=(vectors, size))
        for number, (_, block) in enumerate(blocks(vectors_NH)):
            block[:] = made.block(number + 1, len(block))
        queries = made.block(-1, max(8 * repeats, 256))
        print("vectors are made", flush=True)
        true_QK = true_neighbours(vectors_NH, queries[:200])
        for name in [*(factory or ["IVF1024,SQ8", "IVF1024,PQ96"]), *(["Flat"] if flat else [])]:
            index = Index(name, Path(folder), vectors_NH, lists_searched)
            index.build(made)
            report(index, queries, true_QK, repeats if name != "Flat" else repeats // 5)
            for file in (file for files in index.files.values() for file in files):
                file.unlink()


if __name__ == "__main__":
    typer.run(main)
