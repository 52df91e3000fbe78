"""Which source sentences are most like a sentence: FAISS inner product over unit vectors.

Shapes: B sentences looked up, K neighbours, H vector size, M source windows, N of them in the index (all, or those that
may be support).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metacross.errors import UserError

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
GPU_TEMPORARY_MB = 256  # a GPU index reserves up to 1.5 GiB unless told otherwise


class SourceIndex:
    """An exact index over unit vectors, on the GPU where FAISS sees one.

    Args:
        vectors_NH: unit vectors of source windows.
        ids_N: the windows' numbers, which is what searches give back; 0, 1, ... by default.
        use_gpu: False keeps it on the CPU; `auto` takes the GPU where FAISS sees one.
    """

    def __init__(self, vectors_NH: Vectors, ids_N: Ids | None = None, *, use_gpu: bool | str = "auto") -> None:
        self._faiss = _faiss()
        self._set(self._faiss.IndexIDMap(self._faiss.IndexFlatIP(vectors_NH.shape[1])), use_gpu)
        self.add(vectors_NH, np.arange(len(vectors_NH)) if ids_N is None else ids_N)

    @classmethod
    def load(cls, path: Path, *, use_gpu: bool | str = "auto") -> SourceIndex:
        """The index that `save` wrote."""
        self = cls.__new__(cls)
        self._faiss = _faiss()
        self._set(self._faiss.read_index(str(path)), use_gpu)
        return self

    def add(self, vectors_NH: Vectors, ids_N: Ids) -> None:
        """Takes in further unit vectors under their windows' numbers."""
        for index in {id(index): index for index in (self._cpu, self._index)}.values():
            index.add_with_ids(np.ascontiguousarray(vectors_NH, dtype=np.float32), ids_N.astype(np.int64))

    def save(self, path: Path) -> None:
        """Writes the index, in the form that any machine can read."""
        self._faiss.write_index(self._cpu, str(path))

    def __len__(self) -> int:
        return int(self._cpu.ntotal)

    def search(self, vectors_BH: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Similarities and numbers (B, K) of the K most similar, best first; ties by place, whatever the batch.

        Raises:
            UserError: fewer than K vectors in the index.
        """
        if k > len(self):
            raise UserError(
                f"support_size={k} but the index holds {len(self)} sentences. "
                "Lower episodes.support_size (or --neighbours), or index more sentences."
            )
        similarity_BK, found_BK = self._index.search(np.ascontiguousarray(vectors_BH, dtype=np.float32), k)
        return similarity_BK, found_BK

    def neighbours(self, vectors_BH: Vectors, k: int, *, own_B: Ids, owner_M: Ids) -> Ids:
        """Numbers (B, K) of the most similar whose owner is not the looked-up sentence's own.

        Args:
            vectors_BH: unit vectors of the sentences looked up.
            k: how many neighbours each gets.
            own_B: an id per looked-up sentence: the same for exact duplicates and for windows of one sentence.
            owner_M: the same ids for all source windows, by number.

        Raises:
            UserError: K others are not to be had for some sentence.
        """
        out_BK = np.full((len(vectors_BH), k), -1, dtype=np.int64)
        open_rows = np.arange(len(vectors_BH))
        fetch = k + 1
        while len(open_rows):
            fetch = min(fetch, len(self))
            _, found = self.search(vectors_BH[open_rows], fetch)
            others = owner_M[found] != own_B[open_rows, None]
            enough = others.sum(1) >= k
            for row, candidates, other in zip(open_rows[enough], found[enough], others[enough], strict=True):
                out_BK[row] = candidates[other][:k]
            open_rows = open_rows[~enough]
            if len(open_rows) and fetch == len(self):
                raise UserError(
                    f"episodes.support_size={k} but some sentence has fewer than {k} others to be compared with among "
                    f"the {len(self)} source sentences. Lower episodes.support_size or give more (and different) data."
                )
            fetch *= 4
        return out_BK

    def _set(self, index: Any, use_gpu: bool | str) -> None:
        self._cpu = self._index = index
        gpus = getattr(self._faiss, "get_num_gpus", lambda: 0)()
        if use_gpu is True and gpus == 0:
            raise UserError("FAISS sees no GPU: install faiss-gpu in place of faiss-cpu, or set use_gpu to auto")
        if use_gpu is not False and gpus > 0:
            self._resources = self._faiss.StandardGpuResources()
            self._resources.setTempMemory(GPU_TEMPORARY_MB << 20)
            self._index = self._faiss.index_cpu_to_gpu(self._resources, 0, index)


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(
            "FAISS is missing: pip install 'metacross[cpu]' or, on a GPU machine, 'metacross[gpu]'"
        ) from error
    return faiss
