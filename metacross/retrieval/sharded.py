"""An index in shards, searched as one: every shard is asked at the same time, and what they find is merged.

Where the index stores codes, the best of all shards are then ranked anew by their vectors in float16, by the shards
that have them. Where the shards are is the caller's matter: in this process, or behind connections.

Shapes: B windows looked up, K neighbours, H vector size, N windows, P pairs of a window looked up and one found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metacross.errors import UserError
from metacross.retrieval.index import Ids, Vectors, nearest_others
from metacross.retrieval.index_shard import Found, IndexShard, ShardsFacts, read_shards, shard_folder
from metacross.retrieval.pools import Candidate, Neighbour
from metacross.wording import counted

Ask = Callable[[str, Mapping[int, tuple[Any, ...]]], dict[int, Any]]
"""Calls a method of `IndexShard`, by its name, with other arguments for each shard, by its number; returns the results.

Shards that do not answer are missing from the results, unless that is an error.
"""


def merged(found: Sequence[Found], k: int, *, rows: int) -> Found:
    """The K most similar of what several shards found, by similarity; those that are equally similar by number.

    Args:
        found: by each shard that answered.
        k: number of neighbours.
        rows: number of windows looked up, B.
    """
    nothing = Found(np.empty((rows, 0), "f4"), np.empty((rows, 0), np.int64), np.empty((rows, 0), np.int32))
    similarity, number, pieces = (np.concatenate(arrays, axis=1) for arrays in zip(nothing, *found, strict=True))
    similarity = np.where(number < 0, -np.inf, similarity)  # FAISS gives the lowest finite value there
    order_BK = np.lexsort((number, -similarity), axis=1)[:, :k]
    return Found(*(np.take_along_axis(array, order_BK, 1) for array in (similarity, number, pieces)))


class ShardedIndex:
    """Searches shards as one index, see `metacross.retrieval.index.Searchable`.

    Args:
        facts: of the shards.
        ask: calls them.
        rerank: how many of the best are ranked anew where the index stores codes; 0: none.

    Attributes:
        facts: as given.
        missing: numbers of the shards that did not answer the last search.
    """

    def __init__(self, facts: ShardsFacts, ask: Ask, *, rerank: int) -> None:
        self.facts, self._ask = facts, ask
        self._rerank = rerank if facts["quantized"] else 0
        self._firsts = np.array([shard["first"] for shard in facts["shards"]])
        self.missing: tuple[int, ...] = ()

    @classmethod
    def open(cls, path: Path, *, rerank: int, mapped: bool = False) -> ShardedIndex:
        """Opens all shards of a directory in this process, one after another in every search.

        Args:
            path: the directory.
            rerank: see `ShardedIndex`.
            mapped: see `VectorIndex.load`.

        Raises:
            UserError: there are none, or one is not complete.
        """
        facts = read_shards(path)
        shards = [IndexShard.open(shard_folder(path, i), one, mapped=mapped) for i, one in enumerate(facts["shards"])]
        return cls(facts, one_by_one(shards), rerank=rerank)

    def __len__(self) -> int:
        return self.facts["indexed"]

    @property
    def exact(self) -> bool:
        """Whether searches compare with every vector, unquantized."""
        return self.facts["index"] == "Flat"

    def find(self, vectors_BH: Vectors, k: int) -> Found:
        """The K most similar windows of all shards.

        Raises:
            UserError: there are fewer than K.
        """
        if k > len(self):
            raise UserError(
                f"support_size={k} but the index holds {counted(len(self), 'sentences')}. "
                "Lower episodes.support_size (or --neighbours), or index more sentences."
            )
        most = max(k, self._rerank)
        every = dict.fromkeys(range(len(self._firsts)), (vectors_BH, most))
        answers = self._ask("search", every)
        self.missing = tuple(every.keys() - answers.keys())
        found = merged(list(answers.values()), most, rows=len(vectors_BH))
        return self._reranked(vectors_BH, found, k) if self._rerank else found

    def search(self, vectors_BH: Vectors, k: int) -> tuple[Vectors, Ids]:
        """See `metacross.retrieval.index.Searchable`."""
        found = self.find(vectors_BH, k)
        lacking = ((0, 0), (0, k - found.number_BK.shape[1]))
        return (
            np.pad(found.similarity_BK, lacking, constant_values=-np.inf),
            np.pad(found.number_BK, lacking, constant_values=-1),
        )

    def neighbours(self, vectors_BH: Vectors, k: int, *, own_B: Ids, owner_M: Ids) -> Ids:
        """See `nearest_others`: a window's own sentence and duplicates of it are left out of what is merged."""
        return nearest_others(self, vectors_BH, k, own_B=own_B, owner_M=owner_M)

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """The windows with these numbers, in the same order. Their shards have to answer."""
        asked: dict[int, list[int]] = {}
        for number, shard in zip(numbers, self._shards_of(np.array(numbers, dtype=np.int64)).tolist(), strict=True):
            asked.setdefault(shard, []).append(number)
        answers = self._ask("candidates", {shard: (own,) for shard, own in asked.items()})
        found = {n: one for shard, some in answers.items() for n, one in zip(asked[shard], some, strict=True)}
        return [found[number] for number in numbers]

    def similarities(self, vectors_BH: Vectors, row_P: Ids, number_P: Ids) -> Vectors:
        """Similarities (P,) by the vectors on the disk, as `IndexShard.similarities` has them; one shard's pairs."""
        (shard,) = {*self._shards_of(number_P).tolist()}
        found: Vectors = self._ask("similarities", {shard: (vectors_BH, row_P, number_P)})[shard]
        return found

    def _reranked(self, vectors_BH: Vectors, found: Found, k: int) -> Found:
        """The K best of those found, by the vectors on the disk."""
        shard_BK = np.where(found.number_BK < 0, -1, self._shards_of(found.number_BK))
        pairs = {int(shard): np.nonzero(shard_BK == shard) for shard in np.unique(shard_BK) if shard >= 0}
        wanted = {shard: (vectors_BH, row_P, found.number_BK[row_P, col_P]) for shard, (row_P, col_P) in pairs.items()}
        # What is of a shard that does not answer any more was not found after all.
        exact_BK, number_BK = np.full_like(found.similarity_BK, -np.inf), np.full_like(found.number_BK, -1)
        answers = self._ask("similarities", wanted)
        self.missing += tuple(wanted.keys() - answers.keys())
        for shard, similarity_P in answers.items():
            exact_BK[pairs[shard]] = similarity_P
            number_BK[pairs[shard]] = found.number_BK[pairs[shard]]
        return merged([Found(exact_BK, number_BK, found.pieces_BK)], k, rows=len(vectors_BH))

    def _shards_of(self, numbers: Ids) -> Ids:
        return np.searchsorted(self._firsts, numbers, side="right") - 1


class ShardedPool:
    """The windows of all shards, see `metacross.retrieval.pools.Pool`.

    Args:
        index: over them.
    """

    def __init__(self, index: ShardedIndex) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """See `metacross.retrieval.pools.Pool`."""
        rows = zip(*(array.tolist() for array in self._index.find(vectors_BH, k)), strict=True)
        return [[Neighbour(n, s, p) for s, n, p in zip(*row, strict=True) if n >= 0][:k] for row in rows]

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """See `metacross.retrieval.pools.Pool`."""
        return self._index.candidates(numbers)

    def missing(self) -> tuple[int, ...]:
        """See `metacross.retrieval.pools.Pool`."""
        return self._index.missing


def one_by_one(shards: Sequence[IndexShard]) -> Ask:
    """Asks shards in this process, one after another."""

    def ask(method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        return {shard: getattr(shards[shard], method)(*given) for shard, given in arguments.items()}

    return ask
