"""What a sweep leaves, without Ray: trials read back, the table, the best settings, the plots and the page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.events import TrialMeasurement
from metacross.sweeps import report
from metacross.sweeps.report import best_settings, write_report
from metacross.sweeps.space import Resources, Space
from metacross.sweeps.trials import Sweep, read_trials

ROOT = Path(__file__).parents[2]
SPACE = Space(
    trials=4,
    searcher="optuna",
    scheduler="asha",
    reduction=3,
    seed=1,
    resources=Resources(cpus=1.0, gpus=0.0),
    fixed={"train.steps": 6},
    space={
        "inner.lr": {"loguniform": [0.01, 0.3]},
        "loss.max_weight": {"uniform": [0, 4]},
        "retrieval.candidates": {"choice": ["all", "with_entities"]},
    },
)


def chosen(lr: float, kind: str) -> dict[str, object]:
    return {"inner.lr": lr, "loss.max_weight": 1.5, "retrieval.candidates": kind}


EVENTS = [
    {"event": "trial", "id": "a", "chosen": chosen(0.1, "all")},
    {"event": "measured", "id": "a", "step": 2, "score": 50.0, "plain": 49.0},
    {"event": "trial", "id": "b", "chosen": chosen(0.05, "with_entities")},
    {"event": "measured", "id": "b", "step": 2, "score": 60.0, "plain": 58.0},
    {"event": "ended", "id": "a", "state": "ended", "error": ""},
    {"event": "trial", "id": "c", "chosen": chosen(0.02, "all")},
    {"event": "ended", "id": "c", "state": "failed", "error": "step 1: the loss <or> its gradient is not finite"},
    {"event": "measured", "id": "b", "step": 6, "score": 59.0, "plain": 58.5},
    {"event": "ended", "id": "b", "state": "ended", "error": ""},
    {"event": "trial", "id": "d", "chosen": chosen(0.2, "all")},
    {"event": "measured", "id": "d", "step": 2, "score": 55.0, "plain": 55.0},
]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS), encoding="utf-8")
    return Sweep(tmp_path, load_config([ROOT / "ray_config.yaml"]), SPACE, read_trials(tmp_path, 6))


def test_trials_are_read_back_best_first(sweep: Sweep) -> None:
    assert [(t.id, t.state, t.best) for t in sweep.trials] == [
        ("b", "finished", 60.0),
        ("d", "unfinished", 55.0),
        ("a", "stopped", 50.0),
        ("c", "failed", -1.0),
    ]
    assert sweep.trials[0].history[1] == TrialMeasurement("b", step=6, score=59.0, plain=58.5)
    assert sweep.interrupted


def test_a_trial_that_was_resumed_goes_on(tmp_path: Path) -> None:
    more = [*EVENTS, EVENTS[-2], EVENTS[-1], {"event": "measured", "id": "d", "step": 6, "score": 61.0}]
    more.append({"event": "ended", "id": "d", "state": "ended", "error": ""})
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in more), encoding="utf-8")
    best = read_trials(tmp_path, 6)[0]
    assert (best.id, best.state, [m.step for m in best.history]) == ("d", "finished", [2, 6])


def test_best_settings_are_a_file_that_train_takes(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(best_settings(sweep), encoding="utf-8")
    config = load_config([ROOT / "ray_config.yaml", tmp_path / "best.yaml"])
    assert (config.inner.lr, config.loss.max_weight, config.train.steps) == (0.05, 1.5, 6)
    assert config.retrieval.candidates == "with_entities"


def test_the_report_holds_every_trial(sweep: Sweep) -> None:
    files = {path.name: path.read_bytes() for path in write_report(sweep)}
    table = list(csv.DictReader(io.StringIO(files["results.csv"].decode())))
    assert [row["trial"] for row in table] == ["b", "d", "a", "c"]
    assert table[0]["inner.lr"] == "0.05" and table[0]["dev F1"] == "60.00"
    assert table[3]["error"].endswith("is not finite")
    plots = [name for name in files if name.endswith(".png")]
    assert len(plots) == 3
    for name in plots:
        assert files[name].startswith(b"\x89PNG")
    page = files["report.html"].decode()
    assert page.count("data:image/png;base64,") == 3
    assert "the loss &lt;or&gt; its gradient" in page
    assert "4 of 4 trials: 1 finished, 1 stopped, 1 failed, 1 unfinished" in page
    assert "://" not in page, "the page asks for nothing outside"
    assert not list(sweep.directory.glob(".*"))


def test_a_sweep_without_measurements_still_tells_what_went_wrong(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS[5:7]))
    sweep = Sweep(tmp_path, load_config([ROOT / "ray_config.yaml"]), SPACE, read_trials(tmp_path, 6))
    names = {path.name for path in write_report(sweep)}
    assert names == {"results.csv", "report.html"}
    assert "is not finite" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_directory_that_cannot_be_written(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_file", full)
    with pytest.raises(UserError, match="cannot be written"):
        write_report(sweep)
