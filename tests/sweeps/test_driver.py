"""A sweep on a real local Ray: trials are training runs, one fails and sinks nothing, an interrupted one goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.sweeps.driver import sweep_directory, trials_at_once, tune
from metacross.sweeps.space import load_space
from metacross.sweeps.trials import read_trials
from metacross.sweeps.tuner import first_rung, restored_tuner
from tests.helpers.tiny_bundle import tiny_config, write_inputs

STEPS = 12
SPACE = """
trials: {trials}
searcher: optuna
scheduler: asha
reduction: 2
seed: 3
resources: {{cpus: 1, gpus: 0}}
fixed: {{train.steps: 12, train.plain_steps: 4, train.eval_every: 4, train.checkpoint_every: 4}}
space:
  inner.lr: {{loguniform: [0.01, 0.3]}}
  episodes.support_size: {{choice: {sizes}}}
"""
# Interrupts itself as Ctrl-C in a terminal does, once the first trial has been measured.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
from metacross.config_loading import load_config
from metacross.events import TrialMeasurement
from metacross.sweeps.driver import tune

sent = False

def show(event):
    global sent
    if isinstance(event, TrialMeasurement) and not sent:
        sent = True
        os.kill(os.getpid(), signal.SIGINT)

folder = Path(sys.argv[1])
base = load_config([folder / "base.yaml"], alone=True)
sweep = tune(base, folder / "space.yaml", directory=folder / "sweep", show=show)
print(json.dumps([sweep.interrupted, {trial.id: trial.state for trial in sweep.trials}]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_inputs(tmp_path_factory.mktemp("tune"))
    (place / "base.yaml").write_text(tiny_config(place).to_yaml(), encoding="utf-8")
    # 500 sentences are more than the corpus holds: those trials have to fail, and they alone.
    (place / "space.yaml").write_text(SPACE.format(trials=3, sizes="[2, 500]"), encoding="utf-8")
    return place


@pytest.mark.cluster
def test_an_interrupted_sweep_goes_on_and_a_failed_trial_sinks_nothing(place: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", DRIVER, str(place)]
    first = subprocess.run(run, capture_output=True, text=True, env=environment, timeout=300, cwd=Path.cwd())
    assert first.returncode == 0, first.stderr[-3000:]
    interrupted, states = json.loads(first.stdout.splitlines()[-1])
    assert interrupted
    assert len(states) < 3 or "unfinished" in states.values()

    base = load_config([place / "base.yaml"], alone=True)
    sweep = tune(base, None, directory=place / "sweep", resume=True)
    assert not sweep.interrupted
    assert len(sweep.trials) == 3
    assert states.keys() <= {trial.id for trial in sweep.trials}
    for trial in sweep.trials:
        if trial.chosen["episodes.support_size"] == 500:
            assert (trial.state, trial.history) == ("failed", [])
            assert "support_size=500" in trial.error
        else:
            assert trial.state in ("finished", "stopped")
            run_dir = place / "sweep" / "trials" / trial.id
            own = load_config([run_dir / "ray_config.yaml"], alone=True)
            assert own.inner.lr == trial.chosen["inner.lr"]
            assert not (run_dir / "checkpoints").exists()
            assert [m.step for m in trial.history] == [4, 8, 12][: len(trial.history)]
    found = [trial.state for trial in sweep.trials]
    assert "failed" in found
    assert len(set(found)) > 1  # and the others came to a measurement
    assert sweep.trials == read_trials(place / "sweep", STEPS)
    with pytest.raises(UserError, match="already holds a sweep"):
        tune(base, place / "space.yaml", directory=place / "sweep")


def test_trials_at_once(place: Path) -> None:
    one, many = (tiny_config(place, f"train.workers={n}", "train.use_gpu=auto").train for n in (1, 4))
    space = load_space(place / "space.yaml", tiny_config(place))
    assert trials_at_once(space, one, {"CPU": 8.0}) == 8  # drivers take no processor
    assert trials_at_once(space, many, {"CPU": 9.0, "GPU": 4.0}) == 2
    shared = space.model_copy(update={"resources": space.resources.model_copy(update={"gpus": 0.25})})
    assert trials_at_once(shared, one, {"CPU": 64.0, "GPU": 2.0}) == 8
    assert trials_at_once(shared, many, {"CPU": 64.0}) == 16
    with pytest.raises(UserError, match=r"a trial needs 4 CPU .* Ray has 2 CPU"):
        trials_at_once(space, many, {"CPU": 2.0})


def test_the_first_rung_lies_beyond_the_plain_steps(place: Path) -> None:
    def rung(*overrides: str) -> int:
        return first_rung(tiny_config(place, "train.steps=600", "train.eval_every=200", *overrides).train)

    assert rung("train.plain_steps=0") == 200
    assert rung("train.plain_steps=199") == 200
    assert rung("train.plain_steps=200") == 400
    assert rung("train.plain_steps=500") == 600
    assert rung("train.plain_steps=600") == 200  # nothing but plain steps: all measurements are alike
    assert rung("train.plain_steps=0", "train.eval_every=900") == 600


def test_sweeps_stay_in_directories(place: Path) -> None:
    with pytest.raises(UserError, match="s3://bucket is an address"):
        sweep_directory(tiny_config(place, "train.storage_path=s3://bucket"), None)


def test_a_trial_has_one_seed(place: Path, tmp_path: Path) -> None:
    space = Path("tune_spaces/smoke.yaml").absolute()
    with pytest.raises(UserError, match=r"train\.seeds=3: a trial has one seed"):
        tune(tiny_config(place, "train.seeds=3"), space, directory=tmp_path / "sweep")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_resume(tmp_path: Path, place: Path) -> None:
    with pytest.raises(UserError, match="no sweep to resume"):
        tune(tiny_config(place), None, directory=tmp_path, resume=True)


def test_a_sweep_of_another_version_is_refused(tmp_path: Path, place: Path) -> None:
    """Its state names a module that has moved since."""
    state = tmp_path / "tune" / "sweep"
    state.mkdir(parents=True)
    (state / "tuner.pkl").write_bytes(b"cmetacross.tune\n_Log\n.")
    (state / "experiment_state-2026-01-01_00-00-00.json").write_text("{}")
    config = tiny_config(place)
    space = load_space(Path(__file__).parents[2] / "tune_spaces" / "smoke.yaml", config)
    with pytest.raises(UserError, match=r"another version of metacross began this sweep \(No module named"):
        restored_tuner(config, space, tmp_path)
