"""The windows that are most similar to a window: an index over unit vectors, by FAISS and the inner product.

Shapes: B windows looked up, K neighbours, H vector size, M source windows, N of them in the index (all, or those that
may be support), S of a sample.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metacross.errors import UserError
from metacross.retrieval.gpu_index import copy_to_gpu, gpu_options
from metacross.sequences import spread
from metacross.wording import counted

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
FLAT_UP_TO = 1_000_000  # vectors; with more, exact search is slow and takes too much memory
# An index that has to be trained is trained on this many vectors, or if it has inverted lists (IVF) and that is more,
# on this many per list (FAISS wants at least 39).
TRAINING_VECTORS = 65_536
TRAINING_VECTORS_PER_LIST = 50


def factory_string(setting: str, count: int, size: int) -> str:
    """FAISS's name of the index that `retrieval.index` asks for.

    Up to a million vectors `auto` is exact. With more, it has inverted lists (IVF), about four times the square root of
    N, and stores vectors as codes of one byte per four values (product quantization): a sixteenth of the memory.

    Args:
        setting: `flat`, `auto`, or a FAISS factory string, which is returned unchanged.
        count: number of vectors that will be in the index, N.
        size: length of a vector, H.

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
    """An index over unit vectors; exact by default.

    Args:
        vectors_NH: unit vectors of windows.
        ids_N: the windows' numbers, which searches return; 0, 1, ... by default.
        use_gpu: False keeps the index on the CPU; `auto` puts it on the GPU if FAISS sees one and has this kind of
            index for it (see `gpu_index`); True demands that.
        factory: FAISS's name of the kind of index; see `factory_string`.
        lists_searched: IVF only: inverted lists searched per query (FAISS nprobe).

    Raises:
        UserError: FAISS knows no such index, there are too few vectors to train it, or it cannot be on a GPU.
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
        """Makes an index without vectors, trained on a sample of those that will be added."""
        self = cls.__new__(cls)
        self._faiss = untrained.faiss
        self._set(untrained.trained(sample_SH), use_gpu)
        return self

    @classmethod
    def load(cls, path: Path, *, use_gpu: bool | str = "auto", mapped: bool = False) -> VectorIndex:
        """Loads the index that `save` wrote.

        Args:
            path: its file.
            use_gpu: see `VectorIndex`.
            mapped: leave inverted lists in the file, from which they are read in every search; nothing can be added.
        """
        self = cls.__new__(cls)
        self._faiss = _faiss()
        self._set(self._faiss.read_index(str(path), self._faiss.IO_FLAG_MMAP if mapped else 0), use_gpu)
        return self

    def add(self, vectors_NH: Vectors, ids_N: Ids) -> None:
        """Adds unit vectors under their windows' numbers."""
        # On the CPU the two are the same index; on a GPU the CPU's copy is what `save` writes.
        for index in {id(index): index for index in (self._cpu, self._index)}.values():
            index.add_with_ids(np.ascontiguousarray(vectors_NH, dtype=np.float32), ids_N.astype(np.int64))

    def remove(self, ids_N: Ids) -> None:
        """Removes the vectors with these numbers; only for an index on the CPU, since FAISS's GPU indexes cannot."""
        self._cpu.remove_ids(ids_N.astype(np.int64))

    def save(self, path: Path) -> None:
        """Writes the index as a CPU index, which any machine can read."""
        self._faiss.write_index(self._cpu, str(path))

    def __len__(self) -> int:
        return int(self._cpu.ntotal)

    @property
    def exact(self) -> bool:
        """Whether searches compare with every vector, unquantized."""
        inner = self._faiss.downcast_index(self._cpu.index)
        return isinstance(inner, self._faiss.IndexFlat)

    @property
    def quantized(self) -> bool:
        """Whether it stores codes in place of vectors, so that similarities are approximate."""
        inner = self._faiss.downcast_index(self._cpu.index)
        whole = self._faiss.IndexFlat | self._faiss.IndexIVFFlat | self._faiss.IndexHNSWFlat
        return not isinstance(inner, whole)

    def search(self, vectors_BH: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Similarities and numbers (B, K) of the K most similar vectors, best first.

        Ties are ordered by the order of adding, so an answer does not depend on the rest of its batch.

        Raises:
            UserError: there are fewer than K vectors in the index.
        """
        if k > len(self):
            raise UserError(
                f"support_size={k} but the index holds {counted(len(self), 'sentences')}. "
                "Lower episodes.support_size (or --neighbours), or index more sentences."
            )
        similarity_BK, number_BK = self._index.search(np.ascontiguousarray(vectors_BH, dtype=np.float32), k)
        return similarity_BK, number_BK

    def neighbours(self, vectors_BH: Vectors, k: int, *, own_B: Ids, owner_M: Ids) -> Ids:
        """See `nearest_others`."""
        return nearest_others(self, vectors_BH, k, own_B=own_B, owner_M=owner_M)

    def _set(self, index: Any, use_gpu: bool | str) -> None:
        self._cpu = self._index = index
        gpus = getattr(self._faiss, "get_num_gpus", lambda: 0)()
        if use_gpu is True and gpus == 0:
            raise UserError("FAISS sees no GPU: install faiss-gpu in place of faiss-cpu, or set use_gpu to auto")
        if use_gpu is False or gpus == 0:
            return
        options = gpu_options(self._faiss, index.index)
        if options is not None:
            self._index, self._resources = copy_to_gpu(self._faiss, index, options)
        elif use_gpu is True:
            raise UserError(
                f"FAISS has no {type(self._faiss.downcast_index(index.index)).__name__} of these sizes for GPUs. "
                "Set use_gpu to auto, or choose another retrieval.index, such as IVF4096,PQ96 or IVF4096,SQ8."
            )


class UntrainedIndex:
    """A FAISS index before its training.

    Args:
        size: length of a vector, H.
        factory: FAISS's name of the kind of index.
        lists_searched: IVF only: inverted lists searched per query (FAISS nprobe).

    Attributes:
        wanted: number of vectors to train it on; 0 if it needs no training.

    Raises:
        UserError: FAISS knows no such index.
    """

    def __init__(self, size: int, *, factory: str, lists_searched: int) -> None:
        self.faiss = _faiss()
        self.factory = factory
        try:
            self._index = self.faiss.index_factory(size, factory, self.faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise UserError(
                f"retrieval.index={factory}: no index that FAISS can make of vectors of {size} values "
                f"({_complaint(error)}). Use auto, flat, or a factory string such as IVF1024,PQ{size // 4}."
            ) from error
        self.wanted = 0 if self._index.is_trained else TRAINING_VECTORS
        ivf = self.faiss.try_extract_index_ivf(self._index)
        for quantized in (ivf, self.faiss.downcast_index(self._index)):
            # FAISS would also sort the codes for polysemous search, which nobody asks for: 1.6 s for each of them.
            if hasattr(quantized, "do_polysemous_training"):
                quantized.do_polysemous_training = False
        if ivf is not None:
            ivf.nprobe = min(lists_searched, ivf.nlist)
            self.wanted = max(self.wanted, TRAINING_VECTORS_PER_LIST * ivf.nlist)

    def trained(self, sample_SH: Vectors) -> Any:
        """Trains the index; returns it without vectors, ready to take them under numbers.

        Raises:
            UserError: there are too few vectors to train it.
        """
        if not self._index.is_trained:
            try:
                self._index.train(np.ascontiguousarray(sample_SH, dtype=np.float32))
            except RuntimeError as error:
                raise UserError(
                    f"retrieval.index={self.factory}: cannot be trained on {counted(len(sample_SH), 'vectors')} "
                    f"({_complaint(error)}). Use flat, or fewer lists."
                ) from error
        return self.faiss.IndexIDMap(self._index)


class Searchable(Protocol):
    """An index, complete or in shards."""

    def __len__(self) -> int:
        """How many vectors it holds."""

    @property
    def exact(self) -> bool:
        """Whether searches compare with every vector, unquantized."""

    def search(self, vectors_BH: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Similarities and numbers (B, K) of the K most similar vectors, best first; the number -1 where none is."""


def nearest_others(index: Searchable, vectors_BH: Vectors, k: int, *, own_B: Ids, owner_M: Ids) -> Ids:
    """Numbers (B, K) of the most similar windows that belong to another sentence.

    Args:
        index: over those source windows that may be support.
        vectors_BH: unit vectors of the windows looked up.
        k: number of neighbours of each.
        own_B: the owner of each window looked up: an id that windows of one sentence and of its exact duplicates
            share.
        owner_M: the owners of all source windows, by number.

    Raises:
        UserError: some window has fewer than K such neighbours.
    """
    out_BK = np.full((len(vectors_BH), k), -1, dtype=np.int64)
    open_rows = np.arange(len(vectors_BH))
    # One more than K is enough for most; a sentence with many windows or duplicates needs more.
    fetch = k + 1
    while len(open_rows):
        fetch = min(fetch, len(index))
        _, numbers = index.search(vectors_BH[open_rows], fetch)
        # An IVF index that finds too few in the lists it searches fills up with -1.
        others = (numbers >= 0) & (owner_M[numbers] != own_B[open_rows, None])
        enough = others.sum(1) >= k
        for row, candidates, other in zip(open_rows[enough], numbers[enough], others[enough], strict=True):
            out_BK[row] = candidates[other][:k]
        open_rows = open_rows[~enough]
        if len(open_rows) and fetch == len(index):
            raise UserError(
                f"episodes.support_size={k} but some sentence has fewer than {k} others to be compared with among "
                f"{counted(len(index), 'source sentences')}. Lower episodes.support_size or give more (and "
                f"different) data{'' if index.exact else ', or raise retrieval.lists_searched'}."
            )
        fetch *= 4
    return out_BK


def _complaint(error: RuntimeError) -> str:
    """What FAISS complains about, without the position in its C++ source."""
    text = str(error)
    if "failed: " in text:
        return text.rsplit("failed: ", 1)[1]
    return text.rsplit(".cpp:", 1)[-1].partition(": ")[2] or text


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(
            'FAISS is missing: pip install -e ".[cpu]" or, on a GPU machine, pip install -e ".[gpu]"'
        ) from error
    return faiss
