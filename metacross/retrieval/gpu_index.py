"""FAISS indexes on a GPU: which kinds can be there, and with which options they are copied to it.

FAISS's own options do not fit the index that `factory_string` chooses for large sources (inverted lists with product
quantization, 96 codes), and FAISS raises an error where an option is wrong. What is decided here was read in FAISS
1.15, without its cuVS part: `GpuIndexIVFPQ::verifyPQSettings_`, `IVFPQ::isSupportedPQCodeLength`,
`IVFPQ::setPrecomputedCodes` and `ToGpuCloner::clone_Index` of faiss/gpu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEMPORARY_MB = 256  # FAISS would reserve up to 1.5 GiB by default
SHARED_MEMORY_BYTES = 48 << 10  # of a block of threads on every GPU; a query's table of distances has to fit into it
CODE_COUNTS = frozenset({1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96})  # that GPUs know, of 8 bits each


@dataclass(frozen=True)
class GpuOptions:
    """How an index is copied to a GPU.

    Attributes:
        float16: product quantization: distances of a query are tabled in float16, half of the shared memory of float32.
            For 96 codes a table of float32 has 96 KiB, which does not fit, one of float16 has 48 KiB, which does. Other
            kinds have no tables; this option would store their vectors in float16.
        coarse_on_cpu: inverted lists: the nearest lists are found on the CPU, because the coarse index is a graph.
    """

    float16: bool = False
    coarse_on_cpu: bool = False

    def cloner_options(self, faiss: Any) -> Any:
        """FAISS's own options object.

        Tables that are computed before any query stay off: for the inner product FAISS refuses them as not needed.
        """
        options = faiss.GpuClonerOptions()
        options.useFloat16 = self.float16
        options.usePrecomputed = False
        options.allowCpuCoarseQuantizer = self.coarse_on_cpu
        return options


def gpu_options(faiss: Any, index: Any) -> GpuOptions | None:
    """The options for an index; None if FAISS has nothing like it for GPUs.

    Args:
        faiss: the module.
        index: an index on the CPU, without the numbers of `IndexIDMap` around it.
    """
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexFlat):
        return GpuOptions()
    if not isinstance(index, faiss.IndexIVFFlat | faiss.IndexIVFScalarQuantizer | faiss.IndexIVFPQ):
        return None
    coarse_on_cpu = not isinstance(faiss.downcast_index(index.quantizer), faiss.IndexFlat)
    if not isinstance(index, faiss.IndexIVFPQ):
        return GpuOptions(coarse_on_cpu=coarse_on_cpu)
    codes, bits = index.pq.M, index.pq.nbits
    if bits != 8 or codes not in CODE_COUNTS:
        return None
    return GpuOptions(float16=codes * 2**bits * 4 > SHARED_MEMORY_BYTES, coarse_on_cpu=coarse_on_cpu)


def copy_to_gpu(faiss: Any, index: Any, options: GpuOptions) -> tuple[Any, Any]:
    """An index's copy on the first GPU, and the GPU resources that have to live as long as the copy."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMPORARY_MB << 20)
    return faiss.index_cpu_to_gpu(resources, 0, index, options.cloner_options(faiss)), resources
