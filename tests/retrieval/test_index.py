"""The index against a plain matrix product, and whom it leaves out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metacross.errors import UserError
from metacross.retrieval.index import VectorIndex, factory_string


def unit_vectors(n: int, size: int = 12, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_search_is_the_inner_product() -> None:
    source, queries = unit_vectors(50), unit_vectors(7, seed=1)
    similarity_BK, found_BK = VectorIndex(source, use_gpu=False).search(queries, 4)
    expected = np.argsort(-(queries @ source.T), axis=1)[:, :4]
    assert (found_BK == expected).all()
    assert np.allclose(similarity_BK, np.take_along_axis(queries @ source.T, expected, 1), atol=1e-6)


def test_neighbours_leave_out_the_sentence_and_its_duplicates_by_identity() -> None:
    source = unit_vectors(20)
    source[7:17] = source[3]  # ten exact duplicates of sentence 3
    owners = np.arange(20)
    owners[7:17] = 3
    index = VectorIndex(source, use_gpu=False)
    found = index.neighbours(source, 3, own_B=owners, owner_M=owners)
    similarity = source @ source.T
    for row in range(20):
        allowed = [j for j in np.argsort(-similarity[row], kind="stable") if owners[j] != owners[row]]
        assert np.allclose(similarity[row, found[row]], similarity[row, allowed[:3]], atol=1e-6)
        assert all(owners[j] != owners[row] for j in found[row])
    # Another sentence with the same vector is the best neighbour there is, and stays.
    assert owners[index.neighbours(source[3:4], 1, own_B=np.array([99]), owner_M=owners)[0, 0]] == 3


def test_an_index_of_some_windows_gives_their_numbers(tmp_path: Path) -> None:
    source, some = unit_vectors(20), np.array([2, 3, 5, 7, 11, 13, 17, 19])
    VectorIndex(source[some], some, use_gpu=False).save(tmp_path / "index.faiss")
    index = VectorIndex.load(tmp_path / "index.faiss", use_gpu=False)
    assert len(index) == 8
    assert (index.search(source[some], 1)[1][:, 0] == some).all()
    owners = np.arange(20)
    found = index.neighbours(source, 3, own_B=owners, owner_M=owners)
    similarity = source @ source.T
    for row in range(20):
        allowed = sorted((i for i in some if i != row), key=lambda i: -similarity[row, i])
        assert found[row].tolist() == allowed[:3]


def test_too_few_sentences() -> None:
    index = VectorIndex(unit_vectors(3), use_gpu=False)
    with pytest.raises(UserError, match=r"support_size=5 but the index holds 3 sentences\. Lower"):
        index.search(unit_vectors(1), 5)
    owners = np.array([0, 0, 1])
    with pytest.raises(UserError, match="fewer than 2 others"):
        index.neighbours(unit_vectors(3), 2, own_B=owners, owner_M=owners)


def test_saved_and_loaded(tmp_path: Path) -> None:
    source = unit_vectors(9)
    VectorIndex(source, use_gpu=False).save(tmp_path / "index.faiss")
    loaded = VectorIndex.load(tmp_path / "index.faiss", use_gpu=False)
    assert len(loaded) == 9
    assert (loaded.search(source, 1)[1][:, 0] == np.arange(9)).all()


def test_the_index_of_a_size() -> None:
    assert factory_string("auto", 1_000_000, 384) == "Flat"
    assert factory_string("auto", 1_000_001, 384) == "IVF4096,PQ96"
    assert factory_string("auto", 20_000_000, 768) == "IVF16384,PQ192"
    assert factory_string("auto", 2_000_000, 30) == "IVF4096,PQ6"
    assert factory_string("flat", 5_000_000, 384) == "Flat"
    assert factory_string("HNSW32", 10, 384) == "HNSW32"


def test_asking_for_a_gpu_that_is_not_there() -> None:
    faiss = pytest.importorskip("faiss")
    if getattr(faiss, "get_num_gpus", lambda: 0)():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="faiss-gpu"):
        VectorIndex(unit_vectors(3), use_gpu=True)


@pytest.mark.gpu
def test_gpu_index_finds_the_same(tmp_path: Path) -> None:
    source, queries = unit_vectors(500), unit_vectors(20, seed=2)
    on_gpu = VectorIndex(source, use_gpu=True)
    assert (on_gpu.search(queries, 5)[1] == VectorIndex(source, use_gpu=False).search(queries, 5)[1]).all()
    on_gpu.save(tmp_path / "index.faiss")
    assert len(VectorIndex.load(tmp_path / "index.faiss", use_gpu=False)) == 500
