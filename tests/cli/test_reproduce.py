"""`metacross reproduce`: what it asks for, what it says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metacross.reproduction.plan import Comparison
from metacross.reproduction.planning import make_plan
from tests.helpers.commands import Outcome, run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a suite (--suite FILE), or --resume and --out DIR"),
        (["--suite", "suites/samples.yaml", "--resume"], "give a suite (--suite FILE), or --resume"),
        (["--resume"], "give --out DIR, and leave out the others"),
        (["--resume", "--out", "x", "train.steps=3"], "give --out DIR, and leave out the others"),
        (["--resume", "--out", "no/where"], "no comparison to go on with (suite.yaml is missing)"),
        (["--suite", "no/suite.yaml"], "no/suite.yaml does not exist"),
        (["--suite", "suites/samples.yaml"], "source.train: no such file"),
        (["--suite", "suites/samples.yaml", "--data", "samples", "--seeds", "9"], "--seeds 9, but there are 2"),
        (["--suite", "suites/samples.yaml", "--data", "samples", "train.stepps=3"], "Unknown key train.stepps"),
    ],
)
def test_reproduce_names_what_is_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(root)
    found = run("reproduce", *arguments)
    assert found.status == 2
    assert found.err.startswith("error: ")
    assert message in found.err


def test_reproduce_reports_how_it_ended(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself is tested on a real Ray; this is what the command makes of it."""

    def ending(failed: dict[str, str], interrupted: bool) -> Outcome:
        def reproduce(suite: Any, base: Any, out: Path, **settings: Any) -> Comparison:
            assert settings["parallel"] == 3
            return Comparison(out, suite, make_plan(suite, base), failed, interrupted)

        monkeypatch.setattr("metacross.reproduction.driver.reproduce", reproduce)
        suite = root / "suites" / "samples.yaml"
        data = root / "samples"
        return run("reproduce", "--suite", suite, "--data", data, "--out", tmp_path, "--parallel", 3)

    done = ending({}, False)
    assert done.status == 0, done.err
    assert str(tmp_path / "report.md") in done.out.splitlines()
    assert json.loads((tmp_path / "report.json").read_text())["suite"] == "samples"
    assert ending({"train base, seed 95": "no space"}, False).status == 1
    interrupted = ending({}, True)
    assert interrupted.status == 130
    assert f"metacross reproduce --resume --out {tmp_path}" in interrupted.err
