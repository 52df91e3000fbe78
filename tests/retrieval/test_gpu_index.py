"""What FAISS is told when an index goes to a GPU, with a stand-in for what only its GPU builds have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metacross.errors import UserError
from metacross.retrieval import index as index_module
from metacross.retrieval.gpu_index import GpuOptions, gpu_options
from metacross.retrieval.index import VectorIndex, factory_string

faiss = pytest.importorskip("faiss")


def kind(factory: str, size: int = 384) -> Any:
    return faiss.index_factory(size, factory, faiss.METRIC_INNER_PRODUCT)


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("Flat", GpuOptions()),
        ("IVF8,Flat", GpuOptions()),
        ("IVF8,SQ8", GpuOptions()),
        ("IVF8,PQ48", GpuOptions(float16=False)),  # a table of float32 has 48 KiB, just what a block has
        ("IVF8,PQ64", GpuOptions(float16=True)),
        (factory_string("auto", 2_000_000, 384), GpuOptions(float16=True)),  # IVF4096,PQ96
        ("IVF8_HNSW32,PQ96", GpuOptions(float16=True, coarse_on_cpu=True)),
        ("IVF8,PQ192", None),  # more codes than GPUs know
        ("IVF8,PQ96x4", None),  # codes of four bits
        ("HNSW16", None),
        ("SQ8", None),
    ],
)
def test_what_a_kind_needs(factory: str, options: GpuOptions | None) -> None:
    assert gpu_options(faiss, kind(factory)) == options


class GpuBuild:
    """FAISS as its GPU build is, but its copies stay on the CPU."""

    StandardGpuResources = type("StandardGpuResources", (), {"setTempMemory": lambda self, size: None})
    GpuClonerOptions = SimpleNamespace

    def __init__(self) -> None:
        self.copied: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)

    def get_num_gpus(self) -> int:
        return 1

    def index_cpu_to_gpu(self, resources: Any, device: int, index: Any, options: Any) -> Any:
        self.copied.append(options)
        return faiss.clone_index(index)


def test_the_one_choice_of_device_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    build = GpuBuild()
    monkeypatch.setattr(index_module, "_faiss", lambda: build)
    vectors = np.random.default_rng(0).normal(size=(300, 192)).astype(np.float32)
    VectorIndex(vectors, use_gpu=False, factory="IVF1,PQ96x8")
    assert build.copied == []
    index = VectorIndex(vectors, use_gpu="auto", factory="IVF1,PQ96x8")
    expected = {"useFloat16": True, "usePrecomputed": False, "allowCpuCoarseQuantizer": False}
    assert [vars(options) for options in build.copied] == [expected]
    assert len(index.search(vectors[:2], 3)[1]) == 2
    VectorIndex(vectors, use_gpu="auto", factory="HNSW16")
    assert len(build.copied) == 1, "a kind that GPUs do not have stays on the CPU"
    with pytest.raises(UserError, match="no IndexHNSWFlat of these sizes for GPUs"):
        VectorIndex(vectors, use_gpu=True, factory="HNSW16")


@pytest.mark.gpu
def test_96_codes_on_a_gpu() -> None:
    vectors = np.random.default_rng(0).normal(size=(4000, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    factory = "IVF8,PQ96"
    on_gpu, on_cpu = (VectorIndex(vectors, use_gpu=use, factory=factory, lists_searched=8) for use in (True, False))
    same = on_gpu.search(vectors[:50], 10)[1] == on_cpu.search(vectors[:50], 10)[1]
    assert same.mean() > 0.95, "tables of float16 swap neighbours that are nearly equally near"
