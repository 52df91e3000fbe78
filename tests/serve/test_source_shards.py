"""Shards behind handles: all are asked at once, one that is gone is named, and asked again when it is back."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from metacross.bundle import load_bundle
from metacross.errors import UserError
from metacross.retrieval.index_shard import read_shards
from metacross.retrieval.sharded import ShardedIndex
from metacross.tagging.tagger import AdaptiveTagger
from serve import replicas
from serve.replicas import ATTEMPTS, OtherVersionError, ShardsGoneError, is_lost, shards_gone
from serve.source_shards import RemoteShards, ShardsVersion, open_shards, refuse_other_tags, refuse_other_vectors
from tests.helpers.shards import unit_vectors, write_parts, write_shards

OTHER = RayTaskError("call", "", OtherVersionError("gone"))
VERSION = ShardsVersion("/shards", "0123456789ab")


class Response:
    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self, timeout_s: float) -> Any:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value

    def results(self, timeout_s: float) -> list[Any]:
        return [self.result(timeout_s)]


class Handle:
    """A handle of a shard's deployment, whose replicas may be gone."""

    def __init__(self, number: int) -> None:
        self.number, self.calls, self.loaded = number, 0, 0
        self.error: Exception | None = None
        self.back = threading.Event()
        self.back.set()
        self.call = self.load = self

    def remote(self, version: ShardsVersion, *arguments: Any) -> Response:
        assert version == VERSION
        if not arguments:
            self.back.wait(30)
            self.loaded += 1
            return Response(None)
        self.calls += 1
        return Response(self.error or (self.number, *arguments))

    def broadcast(self, method: str, version: ShardsVersion) -> Response:
        self.loaded += 1
        return Response(None)


@pytest.fixture
def handles(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(replicas, "LONGEST_PAUSE_SECONDS", 0.001)
    return [Handle(i) for i in range(3)]


def test_all_shards_are_asked(handles: list[Any]) -> None:
    shards = RemoteShards(handles, VERSION, partial=False)
    shards.load()
    assert [handle.loaded for handle in handles] == [2, 2, 2]
    assert shards("search", {0: (5,), 2: (7,)}) == {0: (0, "search", (5,)), 2: (2, "search", (7,))}
    assert [handle.calls for handle in handles] == [1, 0, 1]


@pytest.mark.parametrize(("error", "attempts"), [(ActorDiedError(), ATTEMPTS), (TimeoutError(), 1), (OTHER, ATTEMPTS)])
def test_a_shard_that_is_gone_is_named_and_comes_back(handles: list[Any], error: Exception, attempts: int) -> None:
    every: dict[int, tuple[Any, ...]] = dict.fromkeys(range(3), ())
    whole, partial = (RemoteShards(handles, VERSION, partial=allowed) for allowed in (False, True))
    handles[1].error = error
    handles[1].back.clear()
    for _ in range(3):
        with pytest.raises(ShardsGoneError, match=r"does not answer: SourceShard1\."):
            whole("search", every)
        assert partial("search", every).keys() == {0, 2}
    assert handles[1].calls == 2 * attempts, "one that is known to be gone is not waited for again"
    with pytest.raises(ShardsGoneError):
        partial("candidates", every)  # what was found there cannot be left out any more
    handles[1].error = None
    handles[1].back.set()
    deadline = time.monotonic() + 30
    while len(partial("search", every)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_faults_of_a_shard_are_no_absence(handles: list[Any]) -> None:
    handles[0].error = RayTaskError("call", "", ValueError("a fault"))
    with pytest.raises(RayTaskError):
        RemoteShards(handles, VERSION, partial=True)("search", {0: ()})


def test_what_a_caller_learns_of_it() -> None:
    gone = ShardsGoneError("A part of the source index does not answer: SourceShard1.")
    assert shards_gone(RayTaskError("tag", "", gone)) is gone
    assert shards_gone(ValueError()) is None
    assert not is_lost(gone), "trying again at another Tagger would not help"
    assert is_lost(OtherVersionError())


def test_shards_that_do_not_fit(tiny_bundle: Path, adopted_bundle: Path, tmp_path: Path) -> None:
    encoded = write_parts(tmp_path / "parts", unit_vectors(12, 32), rows=5)
    place = write_shards(tmp_path / "shards", encoded, "Flat", 2)
    facts, bundle = read_shards(place), load_bundle(tiny_bundle, source=False)
    refuse_other_tags(bundle, facts, str(place))
    with pytest.raises(UserError, match="tag B-DATE is not one of the bundle's"):
        refuse_other_tags(bundle, {**facts, "tags": ["B-DATE", "O"]}, str(place))
    with pytest.raises(UserError, match=r"has adopted de, and shards would leave"):
        refuse_other_tags(load_bundle(adopted_bundle, source=False), facts, str(place))
    with pytest.raises(UserError, match="has 2 shards, and the service was started with 3"):
        open_shards([None, None, None], str(place), rerank=0, partial=False)  # type: ignore[list-item]
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    with pytest.raises(UserError, match="are not those of this bundle's encoder"):
        refuse_other_vectors(tagger, ShardedIndex.open(place, rerank=0), str(place))
