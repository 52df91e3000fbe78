"""Which source sentences are most like a sentence: FAISS inner product over unit vectors.

Shapes: B sentences looked up, K neighbours, H vector size, M source windows, N of them in the index (all, or those that
may be support).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metacross.errors import UserError
from metacross.sequences import spread

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
GPU_TEMPORARY_MB = 256  # a GPU index reserves up to 1.5 GiB unless told otherwise
FLAT_UP_TO = 1_000_000  # vectors; beyond, an exact index is slow, and its memory is better spent otherwise
TRAINING_VECTORS = 65_536  # an index that has to be trained sees this many,
TRAINING_VECTORS_A_LIST = 50  # or, of an IVF, this many for each of its lists (FAISS asks for 39 or more)


def factory_string(setting: str, count: int, size: int) -> str:
    """FAISS's name of the index that `retrieval.index` asks for.

    Args:
        setting: `flat`, `auto`, or a FAISS factory string, which is taken as it stands.
        count: vectors that will be in the index, N.
        size: of a vector, H.

    `auto` is exact up to a million vectors. Beyond, inverted lists (about four times the square root of N) are searched
    for codes of a byte for every four values (product quantization), so a vector takes a sixteenth of the memory.

    >>> factory_string("auto", 1_000_000, 384), factory_string("auto", 2_000_000, 384)
    ('Flat', 'IVF4096,PQ96')
    """
    if setting == "flat" or (setting == "auto" and count <= FLAT_UP_TO):
        return "Flat"
    if setting != "auto":
        return setting
    codes = next(m for m in range(max(size // 4, 1), 0, -1) if size % m == 0)
    return f"IVF{2 ** round(math.log2(4 * math.sqrt(count)))},PQ{codes}"


class VectorIndex:
    """An index over unit vectors, exact unless asked otherwise, on the GPU where FAISS sees one.

    Args:
        vectors_NH: unit vectors of source windows.
        ids_N: the windows' numbers, which is what searches give back; 0, 1, ... by default.
        use_gpu: False keeps it on the CPU; `auto` takes the GPU where FAISS sees one.
        factory: FAISS's name of the kind of index, as `factory_string` gives it.
        lists_searched: of an IVF's inverted lists, for every sentence looked up (FAISS: nprobe); others have none.

    Raises:
        UserError: FAISS does not know such an index, or there are too few vectors to train it.
    """

    def __init__(
        self,
        vectors_NH: Vectors,
        ids_N: Ids | None = None,
        *,
        use_gpu: bool | str = "auto",
        factory: str = "Flat",
        lists_searched: int = 1,
    ) -> None:
        untrained = UntrainedIndex(vectors_NH.shape[1], factory=factory, lists_searched=lists_searched)
        sample = vectors_NH[np.asarray(spread(len(vectors_NH), untrained.wanted), dtype=np.int64)]
        self._faiss = untrained.faiss
        self._set(untrained.trained(sample), use_gpu)
        self.add(vectors_NH, np.arange(len(vectors_NH)) if ids_N is None else ids_N)

    @classmethod
    def empty(cls, untrained: UntrainedIndex, sample_SH: Vectors, *, use_gpu: bool | str = "auto") -> VectorIndex:
        """An index of no vectors yet, trained on a sample of those to come; `add` fills it part by part."""
        self = cls.__new__(cls)
        self._faiss = untrained.faiss
        self._set(untrained.trained(sample_SH), use_gpu)
        return self

    @classmethod
    def load(cls, path: Path, *, use_gpu: bool | str = "auto") -> VectorIndex:
        """The index that `save` wrote."""
        self = cls.__new__(cls)
        self._faiss = _faiss()
        self._set(self._faiss.read_index(str(path)), use_gpu)
        return self

    def add(self, vectors_NH: Vectors, ids_N: Ids) -> None:
        """Takes in further unit vectors under their windows' numbers."""
        for index in {id(index): index for index in (self._cpu, self._index)}.values():
            index.add_with_ids(np.ascontiguousarray(vectors_NH, dtype=np.float32), ids_N.astype(np.int64))

    def remove(self, ids_N: Ids) -> None:
        """Forgets the vectors under these numbers; not for an index on the GPU, which cannot."""
        self._cpu.remove_ids(ids_N.astype(np.int64))

    def save(self, path: Path) -> None:
        """Writes the index, in the form that any machine can read."""
        self._faiss.write_index(self._cpu, str(path))

    def __len__(self) -> int:
        return int(self._cpu.ntotal)

    @property
    def exact(self) -> bool:
        """Whether searches look at every vector as it is."""
        inner = self._faiss.downcast_index(self._cpu.index)
        return isinstance(inner, self._faiss.IndexFlat)

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
            # An IVF that finds too few in the lists it searches fills up with -1.
            others = (found >= 0) & (owner_M[found] != own_B[open_rows, None])
            enough = others.sum(1) >= k
            for row, candidates, other in zip(open_rows[enough], found[enough], others[enough], strict=True):
                out_BK[row] = candidates[other][:k]
            open_rows = open_rows[~enough]
            if len(open_rows) and fetch == len(self):
                raise UserError(
                    f"episodes.support_size={k} but some sentence has fewer than {k} others to be compared with among "
                    f"the {len(self)} source sentences. Lower episodes.support_size or give more (and different) data"
                    f"{'' if self.exact else ', or raise retrieval.lists_searched'}."
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


class UntrainedIndex:
    """A FAISS index before its training.

    Args:
        size: of a vector, H.
        factory: FAISS's name of it.
        lists_searched: of an IVF's inverted lists.

    Attributes:
        wanted: how many vectors its training should see; 0 where there is nothing to train.

    Raises:
        UserError: FAISS does not know such an index.
    """

    def __init__(self, size: int, *, factory: str, lists_searched: int) -> None:
        self.faiss = _faiss()
        self.factory = factory
        try:
            self._index = self.faiss.index_factory(size, factory, self.faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise UserError(
                f"retrieval.index={factory}: no index that FAISS can make of vectors of {size} values "
                f"({_last_words(error)}). Use auto, flat, or a factory string such as IVF1024,PQ{size // 4}."
            ) from error
        self.wanted = 0 if self._index.is_trained else TRAINING_VECTORS
        ivf = self.faiss.try_extract_index_ivf(self._index)
        if ivf is not None:
            ivf.nprobe = min(lists_searched, ivf.nlist)
            self.wanted = max(self.wanted, TRAINING_VECTORS_A_LIST * ivf.nlist)

    def trained(self, sample_SH: Vectors) -> Any:
        """The FAISS index, trained and empty, searched by number.

        Raises:
            UserError: too few vectors.
        """
        if not self._index.is_trained:
            try:
                self._index.train(np.ascontiguousarray(sample_SH, dtype=np.float32))
            except RuntimeError as error:
                raise UserError(
                    f"retrieval.index={self.factory}: cannot be trained on {len(sample_SH)} vectors "
                    f"({_last_words(error)}). Use flat, or fewer lists."
                ) from error
        return self.faiss.IndexIDMap(self._index)


def _last_words(error: RuntimeError) -> str:
    """What FAISS complains of, without the C++ place."""
    text = str(error)
    if "failed: " in text:
        return text.rsplit("failed: ", 1)[1]
    return text.rsplit(".cpp:", 1)[-1].partition(": ")[2] or text


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(
            "FAISS is missing: pip install 'metacross[cpu]' or, on a GPU machine, 'metacross[gpu]'"
        ) from error
    return faiss
