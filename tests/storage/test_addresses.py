"""Runs kept at an address: over S3's protocol (a server of this machine) and by a file:// address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.errors import UserError
from metacross.events import Event, Note
from metacross.storage import addresses
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.s3 import s3_server
from tests.helpers.tiny_bundle import tiny_config, write_inputs

CPU = torch.device("cpu")
SETTINGS = ("train.steps=10", "train.plain_steps=0", "train.eval_every=5", "train.checkpoint_every=2")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as options:
        yield options


@pytest.fixture(params=["s3", "file"])
def address(request: pytest.FixtureRequest, s3: str, tmp_path: Path) -> str:
    return f"s3://{tmp_path.name.replace('_', '-')}/runs/one{s3}" if request.param == "s3" else f"file://{tmp_path}/one"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("storage"))


def learner(place: Path, *overrides: str, events: list[Event] | None = None) -> Learner:
    return Learner.from_config(
        tiny_config(place, *SETTINGS, *overrides), device=CPU, report=([] if events is None else events).append
    )


def test_files_and_directories_there_and_back(address: str, tmp_path: Path) -> None:
    with addresses.working_copy(address) as (local, mirror):
        assert mirror is not None
        assert not mirror.exists("a")
        assert not mirror.pull("a")
        assert mirror.names("a") == []
        (local / "a" / "b").mkdir(parents=True)
        (local / "a" / "b" / "one").write_bytes(b"1" * 3_000_000)
        (local / "a" / "manifest.json").write_text("{}")
        (local / "note").write_text("first")
        mirror.push("a")
        mirror.push("note")
        (local / "a" / "b" / "one").rename(local / "a" / "two")
        (local / "note").write_text("second")
        mirror.push("a")
        mirror.push("note")
        assert mirror.names("") == ["a", "note"]
    assert not local.exists()
    with addresses.working_copy(address) as (local, mirror):
        assert mirror is not None
        assert mirror.pull("a")
        assert mirror.pull("note")
        assert (local / "a" / "two").stat().st_size == 3_000_000
        assert sorted(file.name for file in (local / "a").rglob("*") if file.is_file()) == ["manifest.json", "two"]
        assert (local / "note").read_text() == "second"
        mirror.remove("a")
        mirror.remove("nothing")
        assert not mirror.exists("a")


def test_files_that_change_are_followed_both_ways(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "FOLLOW_SECONDS", 0.02)
    with addresses.working_copy(address) as (here, one), addresses.working_copy(address) as (there, other):
        assert one is not None
        assert other is not None
        with one.follow(up=["log"], down=["STOP"]), other.follow(up=["STOP"], down=["log"]):
            for line in ("one\n", "two\n"):
                with (here / "log").open("a") as file:
                    file.write(line)
                wait_for(lambda line=line: (there / "log").exists() and (there / "log").read_text().endswith(line))
            (there / "STOP").touch()
            wait_for((here / "STOP").exists)
        with one.follow(up=["last"]):
            (here / "last").write_text("last word")
        assert other.pull("last")


def wait_for(happened: Any) -> None:
    import time

    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_run_at_an_address_goes_on_on_another_machine(address: str, place: Path, tmp_path: Path) -> None:
    """Killed after step 7 on one machine, resumed on another, it ends as a run in a directory does."""
    expected = run(learner(place), tmp_path / "whole")
    calls = iter(range(100))

    def die() -> bool:
        if next(calls) == 7:
            raise KeyboardInterrupt
        return False

    with addresses.working_copy(address) as (local, mirror), pytest.raises(KeyboardInterrupt):
        run(learner(place), local, should_stop=die, mirror=mirror)
    with addresses.working_copy(address) as (local, mirror):
        assert mirror is not None
        assert [name for name in mirror.names("checkpoints") if name <= "step-0000003"] == []
        one = learner(place)
        found = run(one, local, mirror=mirror)
        assert found == expected
        best = checkpoint.best_step(found.progress.history)
        kept = [f"step-{step:07d}" for step in sorted({8, 10, best})]
        assert mirror.names("checkpoints") == kept
    whole = Learner.from_config(one.config, device=CPU)
    checkpoint.restore(tmp_path / "whole", whole.model, whole.optimizer, whole.progress, tags=whole.tags)
    assert all(torch.equal(a, b) for a, b in zip(one.model.theta(), whole.model.theta(), strict=True))


def test_a_bundle_is_loaded_from_its_address(
    address: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METACROSS_CACHE", str(tmp_path / "cache"))
    with addresses.working_copy(address) as (local, mirror):
        run(learner(place, "train.steps=5"), local, mirror=mirror)
        expected = AdaptiveTagger.from_pretrained(local / "bundle")(["Anna Berg lives in Rome ."])
    bundle = addresses.join(address, "bundle")
    assert AdaptiveTagger.from_pretrained(bundle)(["Anna Berg lives in Rome ."]) == expected
    (cached,) = (tmp_path / "cache" / "bundles").iterdir()
    before = cached.stat().st_mtime_ns
    AdaptiveTagger.from_pretrained(bundle)
    assert cached.stat().st_mtime_ns == before  # not fetched again

    with addresses.working_copy(bundle) as (_, mirror):
        assert mirror is not None
        mirror.remove("index.faiss")
    monkeypatch.setenv("METACROSS_CACHE", str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"index\.faiss: missing from the bundle"):
        AdaptiveTagger.from_pretrained(bundle)
    assert not (tmp_path / "other" / "bundles").exists()


def test_damage_at_the_address_is_passed_over(address: str, place: Path) -> None:
    with addresses.working_copy(address) as (local, mirror):
        run(learner(place), local, mirror=mirror)
    with addresses.working_copy(address) as (local, mirror):
        assert mirror is not None
        newest = mirror.names("checkpoints")[-1]
        mirror.remove(f"checkpoints/{newest}/state.safetensors")
    events: list[Event] = []
    with addresses.working_copy(address) as (local, mirror):
        assert mirror is not None
        assert run(learner(place, events=events), local, mirror=mirror).progress.step == 10
        assert "state.safetensors: missing" in " ".join(e.text for e in events if isinstance(e, Note))
        assert mirror.exists(f"checkpoints/{newest}/state.safetensors")


@pytest.mark.parametrize("bad", ["nosuch://bucket/runs", "s3://", "file://relative/path"])
def test_an_address_that_leads_nowhere(bad: str) -> None:
    with pytest.raises(UserError, match=r"cannot be opened .*Check the address"), addresses.working_copy(bad):
        pass


def test_keys_stay_out_of_addresses() -> None:
    with (
        pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY") as caught,
        addresses.working_copy("s3://me:hidden@bucket/runs"),
    ):
        pass
    assert "hidden" not in str(caught.value)


def test_storage_that_cannot_be_written(place: Path, tmp_path: Path) -> None:
    """What is in the way here is a file where a directory should be: root may write everywhere else."""
    one = learner(place, "train.eval_every=100")

    def spoil() -> bool:
        if one.progress.step == 3:
            checkpoints = tmp_path / "runs" / "checkpoints"
            checkpoints.mkdir(parents=True, exist_ok=True)  # the first checkpoint may still be under way
            (checkpoints / "step-0000004").touch()
        return False

    with (
        addresses.working_copy(f"file://{tmp_path}/runs") as (local, mirror),
        pytest.raises(UserError, match=r"file://.*/checkpoints/step-0000004: cannot be written"),
    ):
        run(one, local, should_stop=spoil, mirror=mirror)
    (tmp_path / "runs" / "checkpoints" / "step-0000004").unlink()
    assert checkpoint.newest_complete(tmp_path / "runs") == (tmp_path / "runs" / "checkpoints" / "step-0000002", [])


def test_storage_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    with addresses.working_copy(f"file://{tmp_path}") as (_, mirror):
        assert mirror is not None
        with pytest.raises(UserError, match=r"checkpoints: cannot be read"):
            checkpoint.fetch(mirror)


def test_what_is_not_at_an_address_is_a_directory(tmp_path: Path) -> None:
    with addresses.working_copy(tmp_path) as (local, mirror):
        assert (local, mirror) == (tmp_path, None)
