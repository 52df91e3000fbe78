"""Recall is measured against exact search, and an index that finds too few says so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metacross.errors import UserError
from metacross.indexing import recall
from metacross.indexing.build import build_index, find_neighbours
from metacross.indexing.parts import Encoded
from metacross.indexing.recall import measure_recall
from metacross.retrieval.index import UntrainedIndex
from metacross.sequences import spread


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    """A thousand random vectors in three files; every tenth sentence is a duplicate of the one before."""
    folder = tmp_path_factory.mktemp("many")
    vectors = np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[9::10] = vectors[8::10]
    owners = np.arange(1000)
    owners[9::10] = owners[8::10]
    for part, rows in enumerate(np.array_split(np.arange(1000), 3)):
        table = pa.table(
            {
                "sentence": rows,
                "window": np.zeros(len(rows), dtype=np.int32),
                "owner": owners[rows],
                "with_entities": rows % 3 > 0,
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].ravel()), 16),
            }
        )
        pq.write_table(table, folder / f"part-{part}.parquet")
    return Encoded.read(folder, sentences=1000)


@pytest.mark.parametrize(
    ("factory", "lists", "least", "most"),
    [("Flat", 1, 1, 1), ("IVF8,Flat", 8, 1, 1), ("IVF8,Flat", 1, 0.2, 0.8), ("IVF8,PQ4x4", 8, 0.1, 0.8)],
)
def test_recall_is_measured(many: Encoded, factory: str, lists: int, least: float, most: float) -> None:
    candidates = np.flatnonzero(many.with_entities_M)
    untrained = UntrainedIndex(16, factory=factory, lists_searched=lists)
    index = build_index(many, candidates, untrained, use_gpu=False, show=lambda event: None)
    assert len(index) == len(candidates)
    assert index.exact == (factory == "Flat")
    found = measure_recall(many, candidates, index, k=5)
    assert least <= found <= most

    vectors = many.gather(np.arange(1000))
    similarity = vectors @ vectors.T
    similarity[:, ~many.with_entities_M] = -np.inf
    similarity[many.owner_M[:, None] == many.owner_M] = -np.inf
    exact = np.argsort(-similarity, axis=1)[:, :5]
    queries = candidates[list(spread(len(candidates), recall.QUERIES))]
    asked = index.neighbours(vectors[queries], 5, own_B=many.owner_M[queries], owner_M=many.owner_M)
    hits = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(asked, exact[queries], strict=True)]
    # Duplicates have equal similarities: which of the two is fifth is left open.
    assert found == pytest.approx(np.mean(hits) / 5, abs=0.02)
    neighbours = find_neighbours(many, index, k=5, show=lambda event: None)
    assert (neighbours[queries] == asked).all()


def test_lists_that_hold_too_few_are_no_neighbours(many: Encoded) -> None:
    """An IVF fills up with -1; that is no window, and the message says what helps."""
    candidates = np.arange(40)
    untrained = UntrainedIndex(16, factory="IVF20,Flat", lists_searched=1)
    index = build_index(many, candidates, untrained, use_gpu=False, show=lambda event: None)
    with pytest.raises(UserError, match=r"raise retrieval\.lists_searched"):
        index.neighbours(many.gather(candidates), 30, own_B=many.owner_M[:40], owner_M=many.owner_M)
