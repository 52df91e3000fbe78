"""`metacross index --shards`: shards that stand in for a bundle's source sentences, and go on after an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metacross.errors import UserError
from metacross.events import Event, Note
from metacross.indexing import parts, shard_writer
from metacross.indexing.build import prepare
from metacross.retrieval.index_shard import FILE, IndexShard, read_shards, shard_folder
from metacross.retrieval.prepared import read_facts
from metacross.retrieval.sharded import ShardedIndex, ShardedPool
from metacross.tagging.tagger import AdaptiveTagger
from serve.engine import Engine
from serve.jobs import Job, Refusal
from tests.helpers.tiny_bundle import tiny_config

TEXTS = ["Anna Berg left Oslo. Jan Smit lives in Lima.", "In New York , Eva Roth met Tom Hale ."]


@pytest.fixture(scope="module")
def shards(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle's own source sentences in three shards; not to be changed."""
    out = tmp_path_factory.mktemp("indexing") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", 7)
        facts = prepare(tiny_config(tiny_folder), out, shards=3)
    assert (facts["sentences"], facts["index"], facts["recall"]) == (24, "Flat", 1.0)
    return out


def tagger_of(bundle: Path, index: ShardedIndex) -> AdaptiveTagger:
    return AdaptiveTagger.from_pretrained(bundle, device="cpu", pool=lambda loaded: ShardedPool(index))


def test_answers_are_those_of_the_bundle_alone(tiny_bundle: Path, shards: Path) -> None:
    index = ShardedIndex.open(shards, rerank=0)
    alone, sharded = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu"), tagger_of(tiny_bundle, index)
    assert len(alone) == len(sharded)
    expected, found = (tagger.tag_texts(TEXTS, explain=True, neighbours=3) for tagger in (alone, sharded))
    for one, other in zip(expected, found, strict=True):
        for left, right in zip(one.sentences, other.sentences, strict=True):
            assert (left.tags, left.plain_tags) == (right.tags, right.plain_tags)
            assert [(s.text, s.number, s.place, s.entities) for s in left.support] == [
                (s.text, s.number, s.place, s.entities) for s in right.support
            ]
            assert [e.score for e in left.entities] == pytest.approx([e.score for e in right.entities], abs=1e-4)
    assert sorted(path.name for path in shards.iterdir()) == ["0000", "0001", "0002", FILE]
    assert read_shards(shards)["tags"] == ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]


def test_a_partial_answer_says_so(tiny_bundle: Path, shards: Path) -> None:
    facts = read_shards(shards)
    opened = [IndexShard.open(shard_folder(shards, i), record) for i, record in enumerate(facts["shards"])]

    def ask(method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        return {i: getattr(opened[i], method)(*given) for i, given in arguments.items() if i != 1}

    engine = Engine(None, lambda path: tagger_of(tiny_bundle, ShardedIndex(facts, ask, rerank=0)))
    engine.load("a bundle")
    adapted, plain = engine.answer([[Job(TEXTS[0], explain=True)], [Job(TEXTS[0], adapt=False)]])
    assert not isinstance(adapted, Refusal)
    assert not isinstance(plain, Refusal)
    assert adapted.results[0].missing_shards == (1,)
    assert adapted.results[0].adapted
    assert plain.results[0].missing_shards is None, "nothing was looked up for it"


def test_an_interrupted_call_goes_on_with_its_shards(
    tiny_folder: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, filled, events = shard_writer.ShardWriter._fill, [], list[Event]()

    def fill(self: shard_writer.ShardWriter, folder: Path, own: Any) -> None:
        if len(filled) == 2:
            (folder / "half").write_bytes(b"written")
            raise KeyboardInterrupt
        filled.append(folder)
        real(self, folder, own)

    monkeypatch.setattr(parts, "PART", 7)
    monkeypatch.setattr(shard_writer.ShardWriter, "_fill", fill)
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_config(tiny_folder), tmp_path / "out", shards=3)
    assert [path.name for path in tmp_path.iterdir()] == [".out.encoding"]
    filled.clear()
    prepare(tiny_config(tiny_folder), tmp_path / "out", shards=3, show=events.append)
    assert len(filled) == 1
    assert Note("shard 1 was written by an earlier call and is used again") in events
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    written, whole = (json.loads((path / FILE).read_text(encoding="utf-8")) for path in (tmp_path / "out", shards))
    assert written["shards"] == whole["shards"], "files with the same content"


def test_what_cannot_be_done_is_told(tiny_folder: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--shards 99: more than \d+ windows"):
        prepare(tiny_config(tiny_folder), tmp_path / "out", shards=99)
    with pytest.raises(UserError, match=r"no prepared source \(prepared\.json is missing\)\. .*in shards"):
        read_facts(shards)
    shutil.copytree(shards, tmp_path / "again")
    prepare(tiny_config(tiny_folder), tmp_path / "again", shards=2)
    assert len(read_shards(tmp_path / "again")["shards"]) == 2, "shards that were there are replaced"
