"""Shards of random vectors, without an encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metacross.corpora.sentence import sentence_from_words
from metacross.events import Event
from metacross.indexing.parts import Encoded, sentence_table
from metacross.indexing.shard_writer import ShardWriter
from metacross.retrieval.index import UntrainedIndex, Vectors
from metacross.retrieval.index_shard import FILE, FORMAT, ShardsFacts, shard_folder
from metacross.storage.files import write_json

TAGS = ["B-LOC", "O"]


def unit_vectors(count: int, size: int, seed: int = 0) -> Vectors:
    """Random unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def write_parts(folder: Path, vectors_MH: Vectors, *, rows: int) -> Encoded:
    """Parts as encoding leaves them, of `rows` sentences. Sentence i is "Oslo i", one window of 3 + i % 5 pieces."""
    for kind in ("sentences", "vectors"):
        (folder / kind).mkdir(parents=True)
    for part, first in enumerate(range(0, len(vectors_MH), rows)):
        numbers = np.arange(first, min(first + rows, len(vectors_MH)))
        texts = [sentence_from_words(["Oslo", str(i)], TAGS) for i in numbers]
        sentences = sentence_table(texts, first=first)
        flat = pa.array(vectors_MH[numbers].ravel())
        lengths = [3 + int(i) % 5 for i in numbers]
        encoded = pa.table(
            {
                "sentence": sentences["sentence"],
                "window": pa.array(np.zeros(len(numbers), dtype=np.int32)),
                "owner": sentences["owner"],
                "with_entities": pa.array([True] * len(numbers)),
                "vector": pa.FixedSizeListArray.from_arrays(flat, vectors_MH.shape[1]),
                "piece_ids": pa.array([list(range(n)) for n in lengths], pa.list_(pa.int32())),
                "first_pieces": pa.array([[1, 2]] * len(numbers), pa.list_(pa.int32())),
                "start": pa.array([0] * len(numbers), pa.int32()),
                "scored_start": pa.array([0] * len(numbers), pa.int32()),
                "scored_end": pa.array([2] * len(numbers), pa.int32()),
            }
        )
        pq.write_table(sentences, folder / "sentences" / f"part-{part:06}.parquet")
        pq.write_table(encoded, folder / "vectors" / f"part-{part:06}.parquet")
    return Encoded.read(folder / "vectors", sentences=len(vectors_MH))


def write_shards(folder: Path, encoded: Encoded, factory: str, count: int, *, lists_searched: int = 4) -> Path:
    """An index in shards over every window, in `folder`; the parts are those of `write_parts` beside it."""
    candidates, size = np.arange(len(encoded.owner_M)), encoded.gather(np.array([0])).shape[1]
    events: list[Event] = []
    writer = ShardWriter(
        encoded,
        candidates,
        sentences=encoded.files[0].parent.parent / "sentences",
        untrained=UntrainedIndex(size, factory=factory, lists_searched=lists_searched),
        count=count,
        folder=folder,
        show=events.append,
    )
    records, tags = writer.write()
    facts = ShardsFacts(
        format=FORMAT,
        made_from={"retrieval.candidates": "all"},
        sentences=len(candidates),
        windows=len(candidates),
        indexed=len(candidates),
        index=factory,
        recall=1.0,
        recall_at=10,
        seconds={},
        files={},
        vector_size=size,
        quantized=factory.split(",")[-1] not in ("Flat", "HNSW16"),
        tags=tags,
        recall_reranked=1.0,
        reranked=0,
        shards=records,
    )
    write_json(folder / FILE, facts)
    assert all(shard_folder(folder, i).is_dir() for i in range(count))
    return folder
