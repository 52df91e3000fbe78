"""`metacross tune`: what it says, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from metacross.config import Config
from metacross.config_loading import load_config
from metacross.events import TrialMeasurement
from metacross.sweeps.space import load_space
from metacross.sweeps.trials import Sweep, Trial
from tests.helpers.commands import Outcome, run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a search space (--space FILE), or a sweep to go on with (--resume DIR)"),
        (["--space", "a.yaml", "--resume", "b"], "give a search space"),
        (["--resume", "b", "train.steps=3"], "leave out everything but --resume"),
        (["--resume", "no/sweep"], "no sweep to resume (space.yaml is missing)"),
        (["--space", "no/space.yaml"], "no/space.yaml does not exist"),
        (["--space", "tune_spaces/smoke.yaml", "train.stepps=3"], "Unknown key train.stepps"),
    ],
)
def test_tune_names_what_is_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(root)
    found = run("tune", *arguments)
    assert found.status == 2
    assert found.err.startswith("error: ")
    assert message in found.err


def test_tune_reports_what_came_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep itself is tested on a real Ray; this is what the command makes of it."""
    space = load_space(root / "tune_spaces" / "smoke.yaml", load_config([root / "ray_config.yaml"]))
    good = Trial(
        "abc", {"inner.lr": 0.05, "loss.max_weight": 2.0}, [TrialMeasurement("abc", step=4, score=61.5)], "finished", ""
    )
    bad = Trial("xyz", {"inner.lr": 0.2, "loss.max_weight": 0.0}, [], "failed", "step 1: not finite [sic]")

    def sweep(trials: list[Trial]) -> Outcome:
        def tune(config: Config, *arguments: object, **settings: object) -> Sweep:
            return Sweep(tmp_path, config, space, trials)

        monkeypatch.setattr("metacross.sweeps.driver.tune", tune)
        return run("tune", "--space", root / "tune_spaces" / "smoke.yaml", f"train.storage_path={tmp_path}")

    found = sweep([good, bad])
    assert found.status == 0
    assert "the best of 2 trials" in found.out and "61.50" in found.out
    assert str(tmp_path / "best.yaml") in found.out.splitlines()
    assert "trial xyz failed: step 1: not finite [sic]" in found.err
    assert "2 of 2 trials: 1 finished, 1 failed" in found.err
    interrupted = sweep([good])
    assert interrupted.status == 130
    assert f"metacross tune --resume {tmp_path}" in interrupted.err
    assert sweep([bad, bad]).status == 1
