"""`metacross evaluate`: figures, settings, and every way it can go wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from metacross.cli import terminal
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError
from tests.helpers.commands import run, tagged


@pytest.fixture
def dev(tiny_folder: Path) -> Path:
    return tiny_folder / "dev.conll"


def test_evaluate_prints_and_writes_all_figures(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("old")
    found = run("evaluate", tiny_bundle, "--data", f"en={dev}", "--data", f"es={dev}", "--limit", 7, "--json", out)
    assert (found.status, found.err) == (0, "")
    record = json.loads(out.read_text(encoding="utf-8"))
    assert set(record) == {"en", "es"}
    rows = {words[0]: words[1:] for line in found.out.splitlines() if (words := line.split())}
    result = record["en"]
    figures = [result[part][key] for part in ("plain", "adapted") for key in ("precision", "recall", "f1")]
    assert rows["en"] == [
        "7",
        str(rows_entities(result)),
        *(f"{x:.2f}" for x in figures),
        f"{result['difference']['f1']:+.2f}",
    ]
    assert rows["PER"][1:4] == [
        f"{result['plain']['per_type']['PER'][key]:.2f}" for key in ("precision", "recall", "f1")
    ]
    assert rows["mean"][-2] == f"{(record['en']['adapted']['f1'] + record['es']['adapted']['f1']) / 2:.2f}"
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"], "no temporary file stays"


def rows_entities(result: dict[str, Any]) -> int:
    return sum(row["entities"] for row in result["adapted"]["per_type"].values())


def test_evaluate_takes_settings(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    found = run(
        "evaluate", tiny_bundle, "--data", f"en={dev}", "--neighbours", 3, "--inner-lr", 0, "--json", out,
        "data.tag_map={LOC: O}",
    )  # fmt: skip
    assert found.status == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert list(record["en"]["plain"]["per_type"]) == ["PER"]
    assert record["en"]["difference"]["f1"] == 0


def test_examples_shape_what_is_measured_and_tagged(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    out, shaped = tmp_path / "out.json", tmp_path / "shaped.json"
    assert run("evaluate", tiny_bundle, "--data", f"en={dev}", "--json", out).status == 0
    found = run("evaluate", tiny_bundle, "--data", f"en={dev}", "--json", shaped, "--examples", dev)
    assert (found.status, found.err) == (0, f"{dev}: 12 of 12 sentences may shape answers\n")
    before, after = (json.loads(path.read_text(encoding="utf-8"))["en"] for path in (out, shaped))
    assert before["plain"] == after["plain"]
    assert before["adapted"] != after["adapted"]
    text = read_corpus(dev).sentences[0].text
    (record,) = tagged(tiny_bundle, "-", "--explain", "--examples", dev, stdin=text).records
    assert record["support"][0]["text"] == text
    assert record["support"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    (record,) = tagged(tiny_bundle, "-", "--explain", stdin=text).records
    assert record["support"][0]["text"] != text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to measure on"),
        (["--data", "en={dev}", "--examples", "{unknown}"], "'data.tag_map={OTH: O}'"),
        (["--data", "en={dev}", "--examples", "{nothing}"], "no entities"),
        (["--data", "dev.conll"], "expected a language and a file"),
        (["--data", "en="], "expected a language and a file"),
        (["--data", "en={dev}", "--data", "en={dev}"], "en was given before"),
        (["--data", "en=missing.conll"], "missing.conll: no such file"),
        (["--data", "en={empty}"], "the file is empty"),
        (["--data", "en={nothing}"], "no entities"),
        (["--data", "en={unknown}"], "'data.tag_map={OTH: O}'"),
        (["--data", "en={dev}", "--neighbours", "99"], "Lower episodes.support_size (or --neighbours)"),
        (["--data", "en={dev}", "inner.lrr=1"], "Did you mean inner.lr?"),
        (["--data", "en={dev}", "model.frozen_layers=2"], "was trained with 1"),
        (["--data", "en={dev}", "--json", "no/where/out.json"], "is no directory"),
    ],
)
def test_evaluate_names_what_is_wrong(
    tiny_bundle: Path, dev: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {name: tmp_path / name for name in ("empty", "nothing", "unknown")}
    places["empty"].touch()
    places["nothing"].write_text("Oslo O\n")
    places["unknown"].write_text("Oslo B-LOC\nEuro B-OTH\n")
    given = [a.format(dev=dev, **places) if a.startswith(("en={", "{")) else a for a in arguments]
    found = run("evaluate", tiny_bundle, *given)
    assert found.status == 2
    assert message in found.err
    assert found.err.startswith("error: ")
    assert "Traceback" not in found.err


def test_oddities_are_told_beside_the_table(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "places.conll"
    path.write_text("Oslo B-LOC\n", encoding="utf-8")
    found = run("evaluate", tiny_bundle, "--data", f"nb={path}")
    assert found.status == 0
    assert found.err == (
        f"nb: {path} has no PER, so whatever is found of it counts as wrong; 'data.tag_map={{PER: O}}' leaves it out\n"
    )


def test_a_full_disk_behind_json(tiny_bundle: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("evaluate", tiny_bundle, "--data", f"en={dev}", "--limit", 3, "--json", "/dev/full")
    assert found.status == 2
    assert "error: /dev/full: cannot be written (No space left on device)" in found.err
    assert Path("/dev/full").is_char_device()

    def fsync(number: int) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out.json"
    out.write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"out\.json: cannot be written \(No space left on device\)"):
        terminal.write_output(out, {})
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert out.read_text() == "old"


def test_damaged_bundles_are_told_by_every_command(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / "tokenizer.json").write_text("{}")
    for arguments in (("tag", bundle), ("evaluate", bundle, "--data", f"en={dev}")):
        found = run(*arguments)
        assert (found.status, "tokenizer.json: not as it was written" in found.err) == (2, True)
    assert "not a bundle" in run("tag", tmp_path).err
