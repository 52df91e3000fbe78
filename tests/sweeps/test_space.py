"""Search spaces: what is shipped loads, and what makes no sense is refused before a trial starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from metacross.config import Config, dotted
from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.sweeps.space import load_space, trial_config

ROOT = Path(__file__).parents[2]
SPACES = sorted((ROOT / "tune_spaces").glob("*.yaml"))
GOOD = """
trials: 2
searcher: random
scheduler: asha
reduction: 3
seed: 1
resources: {cpus: 1, gpus: 0.5}
fixed: {train.steps: 20, data.tag_map: {OTH: O}}
space:
  inner.lr: {loguniform: [0.01, 0.3]}
  episodes.support_size: {choice: [1, 4]}
  retrieval.candidates: {choice: [all, with_entities]}
"""


@pytest.fixture(scope="module")
def base() -> Config:
    return load_config([ROOT / "ray_config.yaml"])


def test_the_promised_spaces_are_there() -> None:
    assert {path.stem for path in SPACES} >= {"paper", "inner_loop", "smoke"}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_shipped_space_loads(path: Path, base: Config) -> None:
    space = load_space(path, base)
    assert space.space.keys() <= dotted(base).keys()
    shared = trial_config(base, space, {})
    assert shared.train.plain_steps < shared.train.steps, "trials have to take inner steps"
    assert shared.train.eval_every < shared.train.steps, "the scheduler needs something to stop trials by"


def test_a_trial_has_what_is_fixed_and_what_was_chosen(tmp_path: Path, base: Config) -> None:
    (tmp_path / "space.yaml").write_text(GOOD, encoding="utf-8")
    space = load_space(tmp_path / "space.yaml", base)
    chosen = {"inner.lr": 0.02, "episodes.support_size": 4, "retrieval.candidates": "all"}
    expected = {**dotted(base), "train.steps": 20, "data.tag_map": {"OTH": "O"}, **chosen}
    assert dotted(trial_config(base, space, chosen)) == expected
    assert space.resources.gpus == 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("inner.lr:", "inner.lrr:", "Unknown key inner.lrr (search space). Did you mean inner.lr?"),
        ("train.steps: 20", "train.step: 20", "Unknown key train.step (search space)"),
        ("[0.01, 0.3]", "[0.3, 0.01]", "inner.lr: loguniform needs [low, high], low below high, above 0; found"),
        ("[0.01, 0.3]", "[0, 0.3]", "above 0"),
        ("[0.01, 0.3]", "[0.01]", "loguniform needs [low, high]"),
        ("{loguniform: [0.01, 0.3]}", "{uniform: [-1, 0.3]}", "inner.lr is -1 (search space); it must be a number"),
        ("{loguniform: [0.01, 0.3]}", "{lognormal: [1, 2]}", "expected a distribution such as"),
        ("{loguniform: [0.01, 0.3]}", "0.1", "expected a distribution such as"),
        ("{choice: [1, 4]}", "{choice: []}", "choice needs a list of values"),
        ("{choice: [1, 4]}", "{choice: [1, 0.5]}", "episodes.support_size is 0.5 (search space)"),
        ("{choice: [1, 4]}", "{randint: [0, 4]}", "episodes.support_size is 0 (search space)"),
        ("{choice: [1, 4]}", "{quniform: [1, 4, 0]}", "quniform needs [low, high, step]"),
        ("train.steps: 20", "inner.lr: 0.1", "inner.lr is fixed and searched at once"),
        ("searcher: random", "searcher: hyperopt", "searcher: input should be 'optuna' or 'random'"),
        ("trials: 2", "trials: 0", "trials: input should be greater than or equal to 1 (found 0)"),
        ("trials: 2", "", "trials: field required"),
        ("seed: 1", "seed: 1\ngrace: 2", "grace: extra inputs are not permitted"),
        ("seed: 1", "trials: 3", "trials is given twice"),
    ],
)
def test_spaces_that_make_no_sense(tmp_path: Path, base: Config, old: str, new: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_space(path, base)
    assert message in str(caught.value)
    assert "space.yaml" in str(caught.value)


def test_files_that_are_not_there_or_hold_nothing(tmp_path: Path, base: Config) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_space(tmp_path / "space.yaml", base)
    (tmp_path / "space.yaml").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="is empty"):
        load_space(tmp_path / "space.yaml", base)
