"""Tagging on a real local Ray: the lines that one process writes, in parts that are tagged once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from metacross.bulk import on_ray
from tests.helpers.commands import run, tagged
from tests.helpers.local_ray import started_ray

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with started_ray(2):
        yield


def test_parts_hold_in_order_what_one_process_writes(
    local_ray: None, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "PART_ITEMS", 2)
    lines = [json.dumps({"id": number, "text": f"Anna Berg met {number} people in Oslo."}) for number in range(7)]
    path, out = tmp_path / "in.jsonl", tmp_path / "out"
    path.write_text("\n".join(lines), encoding="utf-8")
    first = run("tag", tiny_bundle, path, "--ray", "--out", out, "--actors", 2)
    assert first.status == 0, first.err
    assert f"{out}: 4 parts\n" in first.err
    parts = sorted(out.iterdir())
    assert [part.name.split("-")[1] for part in parts] == ["000000", "000001", "000002", "000003"]
    together = [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]
    assert together == tagged(tiny_bundle, path).records

    times = {part.name: part.stat().st_mtime_ns for part in parts}
    parts[1].unlink()
    path.write_text("\n".join([*lines[:6], '{"text": "Lima"}', "{oops"]), encoding="utf-8")
    second = run("tag", tiny_bundle, path, "--ray", "--out", out)
    assert second.status == 2
    assert f"error: {path}:8: " in second.err
    kept = {part.name: part.stat().st_mtime_ns for part in out.iterdir()}
    assert len(kept) == 5, "what was tagged before the mistake stays, and so does the old last part"
    path.write_text("\n".join([*lines[:6], '{"text": "Lima"}']), encoding="utf-8")
    third = run("tag", tiny_bundle, path, "--ray", "--out", out)
    assert (third.status, f"{out}: 4 parts, 4 of them from an earlier call" in third.err) == (0, True), third.err
    assert f"{parts[3].name} was removed: it is no part of this output" in third.err
    assert times.items() & kept.items() == {(part.name, times[part.name]) for part in (parts[0], parts[2], parts[3])}


def test_an_item_that_cannot_be_written(local_ray: None, tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"tokens": ["a\\tb"]}', encoding="utf-8")
    found = run("tag", tiny_bundle, path, "--ray", "--out", tmp_path / "out", "--output", "conll")
    assert (found.status, "take --output jsonl" in found.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray"], "--out DIR"),
        (["--out", "x"], "for --ray"),
        (["--ray", "--out", "x", "--processes", "2"], "this machine's"),
        (["--ray", "--out", "x", "--server", "http://localhost:1"], "leave out one of them"),
    ],
)
def test_options_that_contradict_each_other(options: list[str], message: str, tmp_path: Path) -> None:
    found = run("tag", tmp_path / "bundle", *options)
    assert (found.status, message in found.err) == (2, True)
