"""Suites: those that are shipped load, and what makes no sense is refused by file, key and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from metacross.config import Config
from metacross.errors import UserError
from metacross.reproduction.planning import make_plan
from metacross.reproduction.suite import SEEDS, Suite, load_suite, method_config
from tests.reproduction.conftest import SUITE

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "suites").glob("*.yaml"))


def test_the_promised_suites_are_there() -> None:
    assert {path.stem for path in SUITES} == {
        "paper",
        "uner",
        "uner_controls",
        "ablation",
        "fewshot",
        "joint",
        "samples",
    }


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_shipped_suite_loads_and_can_be_planned(path: Path, tmp_path: Path, default_config: Config) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    source = content["source"]
    names = [
        source["train"],
        source["dev"],
        *(file for files in content["targets"].values() for file in files.values()),
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    suite = load_suite(path, default_config, data=tmp_path)
    plan = make_plan(suite, default_config)
    assert {figure.method for figure in plan.figures} == set(suite.methods)
    assert {seed for seed in suite.seeds} <= set(SEEDS)


def test_names_of_files_are_relative_to_data(suite_file: Path, base: Config, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "suite.yaml"
    moved.parent.mkdir()
    moved.write_text(SUITE)
    with pytest.raises(UserError) as caught:
        load_suite(moved, base)
    assert f"{moved}: source.train: no such file: {moved.parent / 'train.conll'}" in str(caught.value)
    assert f"{moved}: targets.es.text: no such file" in str(caught.value)
    assert str(caught.value).endswith("--data DIR")
    assert load_suite(moved, base, data=tmp_path) == load_suite(suite_file, base)
    assert load_suite(suite_file, base).targets["es"].test == str(tmp_path / "dev.conll")


def test_settings_are_put_over_each_other(suite_file: Path, base: Config) -> None:
    suite = load_suite(suite_file, base, overrides=["train.steps=20", "loss.mask_ratio=0.4"], seeds=1)
    assert suite.seeds == [1]
    assert method_config(suite, "metacross", base).train.steps == 20
    assert method_config(suite, "metacross", base).loss.mask_ratio == 0.4
    assert method_config(suite, "without mask", base).loss.mask_ratio == 0
    assert method_config(suite, "joint", base).train.steps == 6
    back = load_suite(suite_file, base, overrides=[f"train.steps={base.train.steps}"])
    assert method_config(back, "metacross", base).train.steps == base.train.steps


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: tiny", "", "name: is missing. Add it."),
        ("sentences: 10", "sentence: 10", "sentence: unknown key. Did you mean sentences?"),
        ("sentences: 10", "sentences: 0", "sentences: input should be greater than or equal to 1 (found 0)"),
        ("train: train.conll", "trian: train.conll", "source.trian: unknown key. Did you mean train?"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "seeds: [1, 1] has a seed twice. Remove one."),
        ("seeds: [1, 2]", "seeds: [1, -2]", "seeds.1: input should be greater than or equal to 0 (found -2)"),
        ("  es: {test", "  spanish: {test", "targets.spanish.[key]: string should match pattern"),
        ("train.steps: 12", "train.step: 12", "settings: Unknown key train.step (suite). Did you mean"),
        (
            "train.steps: 12",
            "train.steps: 0",
            "settings: train.steps is 0 (suite); it must be a whole number",
        ),
        ("train.steps: 12", "train.seed: 12", "settings.train.seed: a suite decides this by seeds. Remove it."),
        ("loss.mask_ratio: 0.0", "loss.mask_ratio: 2", "methods.without mask.training: loss.mask_ratio is 2 (suite)"),
        (
            "loss.mask_ratio: 0.0",
            "data.source: x",
            "methods.without mask.training.data.source: a suite decides",
        ),
        (
            "baseline: base",
            "baseline: bas",
            "baseline: bas is no method without shots. Choose one of base",
        ),
        ("main: metacross", "main: in the index", "main: in the index is no method without shots"),
        ("main: metacross", "main: base", "main: base tags plainly. Choose a method that adapts."),
        ("tagging: random_support", "tagging: random", "methods.random support.tagging: input should be 'plain'"),
        ("o_bias, o_bias: 1.0", "o_bias", "methods.O-bias.o_bias: goes with tagging: o_bias"),
        ("o_bias, o_bias: 1.0", "released_optimizer", "methods.O-bias.inner_lr: is missing."),
        (
            "tagging: plain, shots",
            "tagging: o_bias, o_bias: 1.0, shots",
            "methods.joint.shots: cannot be combined",
        ),
        ("adapted, shots: index", "plain, shots: index", "methods.in the index.shots: index needs tagging: adapted"),
        ("start: base, tagging: plain", "start: half, tagging: plain", "methods.joint.start: half is no method that"),
        ("shots: {sizes: [1, 4], draws: 3, share: 0.1}", "", "shots: needs sizes and draws. Add shots: {sizes:"),
        ("share: 0.1", "share: 1", "shots.share: input should be less than 1 (found 1)"),
        ("shots: dev.conll", "text: dev.conll", "methods.in the index.shots: targets.de.shots is missing. Add it"),
        ("text: dev.conll, ", "", "methods.adopted.adoption: no target has text. Add it"),
        ("teachers: seeds", "teachers: all", "methods.adopted.adoption.teachers: input should be 'own' or 'seeds'"),
        ("adopt.steps: 3", "adopt.step: 3", "methods.adopted.adoption.settings: Unknown key adopt.step (suite)."),
        ("adopt.steps: 3", "train.steps: 3", "methods.adopted.adoption.settings.train.steps: is no setting of adop"),
        (
            "start: base, tagging: plain, shots: joint",
            "adoption: {distillation: true, teachers: seeds}, tagging: plain, shots: joint",
            "methods.joint.adoption.teachers: a draw is trained on with one seed only. Choose own, or shots: index.",
        ),
        ("average: true, tagging: plain", "average: true, start: base, tagging: plain", "methods.averaged.average: "),
        ("average: true, tagging: plain", "average: true, shots: joint, tagging: plain", "Choose shots: adopted or"),
        (
            "averaged: {average: true, tagging: plain}",
            "averaged: {average: true, tagging: plain}\n  x: {start: averaged, tagging: plain}",
            "methods.x.start: averaged is no method that is trained from the encoder",
        ),
        ("{es: 70.5}", "{nl: 70.5}", "paper: nl is no target. Remove it, or add it to targets."),
        ("tagging: plain}\n  without mask", "tagging: plain, neighbours: 3}\n  without mask", "takes no step. Remove"),
        ("seeds: [1, 2]", "name: twice", "name is given twice"),
    ],
)
def test_suites_that_make_no_sense(suite_file: Path, base: Config, old: str, new: str, message: str) -> None:
    assert old in SUITE
    suite_file.write_text(SUITE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_suite(suite_file, base)
    assert message in str(caught.value)
    assert "suite.yaml" in str(caught.value)


def test_more_seeds_than_there_are(suite_file: Path, base: Config) -> None:
    with pytest.raises(UserError, match=r"seeds: --seeds 3, but there are 2"):
        load_suite(suite_file, base, seeds=3)


def test_overrides_do_not_get_round_what_a_suite_decides(suite_file: Path, base: Config) -> None:
    with pytest.raises(UserError, match=r"settings\.data\.source: a suite decides this by source\.train"):
        load_suite(suite_file, base, overrides=["data.source=other.conll"])


def test_a_saved_suite_is_the_same(suite: Suite, base: Config, tmp_path: Path) -> None:
    from metacross.yaml_nodes import write_yaml

    (tmp_path / "saved.yaml").write_text(write_yaml(suite.model_dump()), encoding="utf-8")
    assert load_suite(tmp_path / "saved.yaml", base) == suite
