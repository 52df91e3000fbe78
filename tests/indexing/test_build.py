"""A prepared source holds what a run would make itself; what does not fit, or is not whole, is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from metacross.config import Config
from metacross.errors import RunError, UserError
from metacross.events import Event, Note
from metacross.indexing import parts, window_encoder
from metacross.indexing.build import prepare
from metacross.indexing.parts import Encoded
from metacross.retrieval.prepared import FILE
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.tiny_bundle import tiny_config, write_corpus, write_inputs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder and corpora; the source has a duplicate, and sentences of several windows."""
    place = write_inputs(tmp_path_factory.mktemp("indexing"))
    corpus = place / "train.conll"
    text = corpus.read_text(encoding="utf-8")
    long = "\n".join(f"{word} {tag}" for word, tag in [("Oslo", "B-LOC"), *[("quux", "O")] * 40, ("Lima", "B-LOC")])
    corpus.write_text(f"{text}\n{long}\n\n{text.split(chr(10) * 2)[0]}\n\n", encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def prepared(place: Path) -> Iterator[Path]:
    """Prepared in small parts and batches; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", 7)
        patch.setattr(window_encoder, "BATCH", 3)
        facts = prepare(settings(place), place / "prepared")
    assert facts["sentences"] == 26
    assert facts["windows"] > 26
    assert (facts["index"], facts["recall"]) == ("Flat", 1.0)
    yield place / "prepared"


def settings(place: Path, *overrides: str) -> Config:
    return tiny_config(
        place, "train.steps=4", "train.plain_steps=1", "train.eval_every=4", "episodes.support_size=3", *overrides
    )


def with_prepared(place: Path, prepared: Path, *overrides: str) -> Learner:
    return Learner.from_config(settings(place, f"retrieval.prepared={prepared}", *overrides), device=CPU)


def test_a_run_ends_with_the_same_weights(place: Path, prepared: Path, tmp_path: Path) -> None:
    without = Learner.from_config(settings(place), device=CPU)
    taken = with_prepared(place, prepared)
    assert (taken.episodes.neighbours_MK == without.episodes.neighbours_MK).all()
    assert len(taken.index) == len(without.index)
    start = torch.cat([p.detach().flatten() for p in without.model.theta()])
    for name, one in (("without", without), ("taken", taken)):
        run(one, tmp_path / name)
    ends = [torch.cat([p.detach().flatten() for p in one.model.theta()]) for one in (without, taken)]
    moved = float((ends[0] - start).norm())
    assert moved > 0
    assert float((ends[0] - ends[1]).norm()) < 1e-3 * moved  # trunk states come from batches of other lengths
    assert without.progress.history == taken.progress.history


def test_files_hold_the_windows_in_order(place: Path, prepared: Path) -> None:
    one = Learner.from_config(settings(place), device=CPU)
    encoded = Encoded.read(prepared / "vectors", sentences=26)
    assert len(encoded.files) == 4
    numbers, vectors = zip(*encoded.batches(), strict=True)
    assert np.concatenate(numbers).tolist() == list(range(len(one.source.windows)))
    assert np.allclose(np.concatenate(vectors), one.source.vectors(one.sentence_encoder), atol=1e-5)
    same = one.source.owner_M[:, None] == one.source.owner_M
    assert ((encoded.owner_M[:, None] == encoded.owner_M) == same).all()
    assert np.flatnonzero(encoded.with_entities_M).tolist() == one.source.candidates("with_entities").tolist()
    assert len(one.source.candidates("with_entities")) < len(one.source.windows)
    some = np.array([1, 8, 25])
    assert (encoded.gather(some) == np.concatenate(vectors)[some]).all()


def test_what_differs_is_named(place: Path, prepared: Path, tmp_path: Path) -> None:
    for override in ("retrieval.pooling=cls", "model.max_pieces=40", "retrieval.candidates=all", "retrieval.layer=2"):
        with pytest.raises(UserError, match=rf"{override.split('=')[0]} \(was .*, is .*metacross index --out"):
            with_prepared(place, prepared, override)
    with pytest.raises(UserError, match=r"retrieval\.layer \(was 3, is 2\)"):  # the trunk's, by its number
        with_prepared(place, prepared, "model.frozen_layers=2", "retrieval.layer=trunk")
    changed = write_corpus(tmp_path / "changed.conll", sentences=20)
    with pytest.raises(UserError, match=r"source sentences \(26 then, 20 now, data\.source was .*changed\.conll"):
        with_prepared(place, prepared, f"data.source={changed}")
    with pytest.raises(UserError, match=r"source sentences \(data\.tag_map was \{\}, is"):
        with_prepared(place, prepared, "data.tag_map={LOC: PLACE}")
    moved = shutil.copy(place / "train.conll", tmp_path / "moved.conll")
    assert len(with_prepared(place, prepared, f"data.source={moved}").index) > 0  # the content counts, not the name


def test_another_encoder_under_the_same_name(place: Path, prepared: Path, tmp_path: Path) -> None:
    from tests.helpers.tiny_bundle import write_encoder

    other = write_encoder(tmp_path / "encoder", seed=1)
    with pytest.raises(UserError, match=r"encoder \(model\.encoder was"):
        with_prepared(place, prepared, f"model.encoder={other}")


def test_the_number_of_neighbours(place: Path, prepared: Path) -> None:
    fewer = with_prepared(place, prepared, "episodes.support_size=2")
    alone = Learner.from_config(settings(place), device=CPU)
    assert (fewer.episodes.neighbours_MK == alone.episodes.neighbours_MK[:, :2]).all()
    with pytest.raises(UserError, match=r"support_size=5, but .* prepared with episodes\.support_size=3"):
        with_prepared(place, prepared, "episodes.support_size=5")


def test_nothing_there_or_not_whole(place: Path, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        with_prepared(place, tmp_path / "nowhere")
    broken = tmp_path / "broken"
    shutil.copytree(prepared, broken)
    with (broken / "index.faiss").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"index\.faiss: missing, or not as it was written"):
        with_prepared(place, broken)
    (broken / FILE).write_text('{"format": 1', encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        with_prepared(place, broken)
    (broken / FILE).write_text(json.dumps({"format": 0}), encoding="utf-8")
    with pytest.raises(UserError, match="not of format"):
        with_prepared(place, broken)
    (broken / FILE).unlink()
    with pytest.raises(UserError, match=r"no prepared source \(prepared\.json is missing\)"):
        with_prepared(place, broken)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError])
def test_an_interrupted_call_leaves_what_was_there(
    place: Path, prepared: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted(sentences: Path, vectors: Path, total: int) -> None:
        assert (len(list(sentences.glob("*.parquet"))), total) == (1, 26)
        (vectors / ".part-000000.parquet.0123.tmp").write_bytes(b"PAR1")
        raise error("stop")

    killed = tmp_path / ".out.0123abcd.tmp"  # of an earlier call that could not clean up
    killed.mkdir()
    with pytest.raises(error):
        prepare(settings(place), tmp_path / "out", encode=interrupted)
    assert [path.name for path in tmp_path.iterdir()] == [".out.encoding"]
    shutil.copytree(prepared, tmp_path / "out")
    with pytest.raises(error):
        prepare(settings(place), tmp_path / "out", encode=interrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.encoding", "out"]
    assert len(with_prepared(place, tmp_path / "out").index) > 0


def test_an_interrupted_call_is_gone_on_with(
    place: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 7)
    monkeypatch.setattr(window_encoder, "BATCH", 3)
    encoded: list[str] = []
    events: list[Event] = []

    def counted(encoder: window_encoder.WindowEncoder, part: Path, vectors: Path) -> int:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(part.name)
        return real(encoder, part, vectors)

    real = window_encoder.encode_part
    monkeypatch.setattr(window_encoder, "encode_part", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings(place), tmp_path / "out")
    first = list(encoded)
    encoded.clear()
    prepare(settings(place), tmp_path / "out", show=events.append)
    assert Note("uses again 2 parts that an earlier call encoded") in events
    assert (len(first), len(encoded)) == (2, 2)
    assert first + encoded == sorted(path.name for path in (prepared / "vectors").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for file in (prepared / "vectors").iterdir():
        assert pq.read_table(file).equals(pq.read_table(tmp_path / "out" / "vectors" / file.name))


def test_what_other_settings_encoded_is_not_taken(place: Path, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def interrupted(sentences: Path, vectors: Path, total: int) -> None:
        seen.append([path.name for path in vectors.iterdir()])
        (vectors / "part-000000.parquet").write_bytes(b"of before")
        raise KeyboardInterrupt

    for overrides in ((), (), ("retrieval.pooling=cls",), ()):
        with pytest.raises(KeyboardInterrupt):
            prepare(settings(place, *overrides), tmp_path / "out", encode=interrupted)
    assert seen == [[], ["part-000000.parquet"], [], []]
    with pytest.raises(RunError, match=r"is not complete .* Run the command again"):
        prepare(settings(place), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [], "what cannot be read is not met again"
    prepare(settings(place), tmp_path / "out")


def test_a_lost_shard_is_noticed(place: Path, prepared: Path, tmp_path: Path) -> None:
    for lost in sorted((prepared / "vectors").iterdir()):
        shutil.copytree(prepared / "vectors", tmp_path / lost.stem)
        (tmp_path / lost.stem / lost.name).unlink()
        with pytest.raises(RunError, match="not those of 26 sentences in order"):
            Encoded.read(tmp_path / lost.stem, sentences=26)


def test_mistakes_are_told_before_anything_is_encoded(place: Path, tmp_path: Path) -> None:
    def never(sentences: Path, vectors: Path, total: int) -> None:
        pytest.fail("encoded all the same")

    with pytest.raises(UserError, match=r"retrieval\.index=IVF8,PQ7: no index that FAISS can make .* 32 values"):
        prepare(settings(place, "retrieval.index=IVF8,PQ7"), tmp_path / "out", encode=never)
    with pytest.raises(UserError, match=r"retrieval\.index=Falt: .*could not parse"):
        prepare(settings(place, "retrieval.index=Falt"), tmp_path / "out", encode=never)
    with pytest.raises(UserError, match=r"retrieval\.layer=9"):
        prepare(settings(place, "retrieval.layer=9"), tmp_path / "out", encode=never)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(UserError, match="is no prepared source"):
        prepare(settings(place), tmp_path / "notes", encode=never)


def test_too_few_vectors_for_the_index(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"retrieval\.index=IVF64,Flat: cannot be trained on \d+ vectors"):
        prepare(settings(place, "retrieval.index=IVF64,Flat"), tmp_path / "out")
    with pytest.raises(UserError, match=r"retrieval\.index=IVF64,Flat: cannot be trained on \d+ vectors"):
        Learner.from_config(settings(place, "retrieval.index=IVF64,Flat"), device=CPU)
