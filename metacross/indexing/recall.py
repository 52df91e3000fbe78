"""How much an approximate index finds of what exact search would find.

Shapes: Q windows looked up, K neighbours, H vector size, N windows of one file that are in the index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metacross.indexing.parts import Encoded
from metacross.retrieval.index import VectorIndex
from metacross.retrieval.sharded import ShardedIndex
from metacross.sequences import spread

QUERIES = 500  # windows that are looked up
ROUNDING = 1e-6  # similarities closer than this are equal


def measure_recall(
    encoded: Encoded, candidates: NDArray[np.int64], index: VectorIndex | ShardedIndex, *, k: int
) -> float:
    """The share of the neighbours found by the index that are as near as the K nearest by exact search, from 0 to 1.

    Up to QUERIES windows, spread evenly, are looked up. Exact search reads the vectors from the files, one at a time.
    A neighbour that is as near as the K-th nearest counts, whichever of several equally near ones it is.

    Args:
        encoded: the windows' vectors.
        candidates: numbers of the windows that are in the index, ascending.
        index: the index.
        k: neighbours that are compared for each window looked up.
    """
    queries = candidates[list(spread(len(candidates), QUERIES))]
    vectors_QH, owner_Q = encoded.gather(queries), encoded.owner_M[queries]
    found_QK = index.neighbours(vectors_QH, k, own_B=owner_Q, owner_M=encoded.owner_M)
    best_QK = np.full((len(queries), k), -np.inf, dtype=np.float32)
    similarity_QK = np.full((len(queries), k), -np.inf, dtype=np.float32)  # of the neighbours that the index found
    for numbers, vectors_NH in encoded.batches(candidates):
        similarity_QN = vectors_QH @ vectors_NH.T
        at_QK = np.searchsorted(numbers, found_QK).clip(max=len(numbers) - 1)
        here_QK = numbers[at_QK] == found_QK
        similarity_QK[here_QK] = np.take_along_axis(similarity_QN, at_QK, 1)[here_QK]
        # Neither the sentence itself nor a duplicate of it counts as a neighbour.
        similarity_QN[owner_Q[:, None] == encoded.owner_M[numbers]] = -np.inf
        best_QK = -np.partition(-np.concatenate([best_QK, similarity_QN], axis=1), k - 1, axis=1)[:, :k]
    return float((similarity_QK >= best_QK.min(axis=1, keepdims=True) - ROUNDING).mean())
