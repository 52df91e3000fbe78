"""Shards answer as one index does, and the best are re-ranked by their vectors; what does not answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metacross.errors import UserError
from metacross.indexing.parts import Encoded
from metacross.retrieval.index import VectorIndex
from metacross.retrieval.index_shard import Found, IndexShard, read_shards, shard_folder, shards_digest
from metacross.retrieval.sharded import ShardedIndex, ShardedPool, merged
from tests.helpers.shards import TAGS, unit_vectors, write_parts, write_shards

COUNT, SIZE = 700, 96
QUERIES = unit_vectors(40, SIZE, seed=1)
KINDS = ["Flat", "IVF8,SQ8", "IVF8,PQ96"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return write_parts(tmp_path_factory.mktemp("parts"), unit_vectors(COUNT, SIZE), rows=150)


@pytest.fixture(scope="module", params=KINDS)
def places(request: pytest.FixtureRequest, parts: Encoded, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same index in 1 and in 3 shards."""
    place = tmp_path_factory.mktemp("shards")
    return {count: write_shards(place / str(count), parts, request.param, count) for count in (1, 3)}


def unsharded(place: Path) -> VectorIndex:
    """The whole index as `metacross index` without --shards fills it, of the same training."""
    index = VectorIndex.load(place / "trained.faiss", use_gpu=False)
    index.add(unit_vectors(COUNT, SIZE), np.arange(COUNT))
    return index


def test_answers_are_those_of_one_index(places: dict[int, Path]) -> None:
    similarity_BK, number_BK = unsharded(places[1]).search(QUERIES, 10)
    for place in places.values():
        found = ShardedIndex.open(place, rerank=0).find(QUERIES, 10)
        assert (found.number_BK[:, :10] == number_BK).all()
        assert (found.similarity_BK[:, :10] == similarity_BK).all()
        assert (found.pieces_BK == 3 + found.number_BK % 5).all()


def test_the_best_are_re_ranked_by_their_vectors(places: dict[int, Path]) -> None:
    """Against the slow way: the best by codes, each compared with its vector as float16 holds it."""
    index = unsharded(places[1])
    vectors = unit_vectors(COUNT, SIZE).astype(np.float16).astype(np.float32)
    _, best_BR = index.search(QUERIES, 50)
    exact_BR = np.array([q @ vectors[row].T for q, row in zip(QUERIES, best_BR, strict=True)])
    expected = np.take_along_axis(best_BR, np.argsort(-exact_BR, axis=1)[:, :5], 1)
    true_BK = np.argsort(-(QUERIES @ unit_vectors(COUNT, SIZE).T), axis=1)[:, :5]
    for place in places.values():
        number_BK = ShardedIndex.open(place, rerank=50, mapped=True).search(QUERIES, 5)[1]
        assert (number_BK == (expected if index.quantized else true_BK)).all()
    recall = [
        np.mean([len({*a} & {*b}) for a, b in zip(found[:, :5].tolist(), true_BK.tolist(), strict=True)])
        for found in (best_BR, number_BK)
    ]
    assert recall[1] >= recall[0]


def test_own_sentence_and_duplicates_are_left_out_after_the_merge(places: dict[int, Path], parts: Encoded) -> None:
    owner_M = parts.owner_M.copy()
    owner_M[[5, 300, 650]] = owner_M[5]  # one sentence three times, in three shards
    vectors = unit_vectors(COUNT, SIZE)[[5, 300]]
    whole = unsharded(places[1]).neighbours(vectors, 6, own_B=owner_M[[5, 300]], owner_M=owner_M)
    for place in places.values():
        found = ShardedIndex.open(place, rerank=0).neighbours(vectors, 6, own_B=owner_M[[5, 300]], owner_M=owner_M)
        assert (found == whole).all()
        assert not {5, 300, 650} & {*found.ravel().tolist()}


def test_windows_come_from_the_disk(places: dict[int, Path]) -> None:
    pool = ShardedPool(ShardedIndex.open(places[3], rerank=20))
    assert len(pool) == COUNT
    numbers = [699, 0, 233, 234, 149, 150, 466, 467]  # at the borders of shards and parts
    for number, candidate in zip(numbers, pool.candidates(numbers), strict=True):
        assert (candidate.sentence.text, candidate.sentence.tags) == (f"Oslo {number}", tuple(TAGS))
        assert (candidate.window.sentence, len(candidate.window)) == (number, 3 + number % 5)
        assert candidate.window.scored_pieces() == (1, 2)
    (row,) = pool.search(unit_vectors(COUNT, SIZE)[[400]], 3)
    assert (row[0].number, row[0].pieces) == (400, 3)
    assert row[0].similarity == pytest.approx(1, abs=2e-3)
    with pytest.raises(UserError, match="support_size=701 but the index holds 700"):
        pool.search(QUERIES, 701)


def test_a_shard_that_does_not_answer(places: dict[int, Path]) -> None:
    """Once it is missing from the search, once only when the best are to be re-ranked."""
    facts = read_shards(places[3])
    shards = [IndexShard.open(shard_folder(places[3], i), record) for i, record in enumerate(facts["shards"])]
    gone_for = ""

    def ask(method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        gone = 1 if method == gone_for else None
        return {i: getattr(shards[i], method)(*given) for i, given in arguments.items() if i != gone}

    index = ShardedIndex(facts, ask, rerank=30)
    for gone_for in ("search", "similarities") if facts["quantized"] else ("search",):  # noqa: B007  # `ask` reads it
        found = index.find(QUERIES, 5)
        assert index.missing == (1,)
        assert not ((found.number_BK >= 234) & (found.number_BK < 467)).any()
    gone_for = ""
    index.find(QUERIES, 5)
    assert index.missing == ()


def test_merging_orders_by_similarity_and_then_by_number() -> None:
    lacking = float(np.finfo(np.float32).min)
    one = Found(np.array([[0.9, 0.5, lacking]], "f4"), np.array([[8, 3, -1]]), np.array([[1, 2, 9]], "i4"))
    other = Found(np.array([[0.9, 0.9]], "f4"), np.array([[12, 2]]), np.array([[3, 4]], "i4"))
    found = merged([one, other], 4, rows=1)
    assert found.number_BK.tolist() == [[2, 8, 12, 3]]
    assert found.pieces_BK.tolist() == [[4, 1, 3, 2]]
    assert merged([one, other], 9, rows=1).number_BK.tolist() == [[2, 8, 12, 3, -1]]
    assert merged([], 3, rows=2).number_BK.shape == (2, 0), "no shard answered"


def test_what_is_not_as_it_was_written(parts: Encoded, tmp_path: Path) -> None:
    place = write_shards(tmp_path / "shards", parts, "Flat", 2)
    digest = shards_digest(place)
    with (place / "0001" / "vectors.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=r"0001/vectors\.npy: missing, or not as it was written"):
        ShardedIndex.open(place, rerank=0)
    assert digest == shards_digest(place)
    (place / "shards.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"shards\.json: cannot be read"):
        shards_digest(place)
    (place / "shards.json").unlink()
    with pytest.raises(UserError, match=r"no index in shards .*metacross index --shards N"):
        read_shards(place)
