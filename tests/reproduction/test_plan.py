"""Plans: what methods share, what a digest depends on, and what a change makes anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metacross.config import Config
from metacross.reproduction.cells import Adoption, Average, Cell, Evaluation, Training
from metacross.reproduction.plan import Figure, Plan, changes, labelled_inputs
from metacross.reproduction.planning import make_plan
from metacross.reproduction.suite import Suite, load_suite


def figure(plan: Plan, method: str, **wanted: object) -> Figure:
    keys = {"seed": 1, "language": "es", "neighbours": None, "inner_lr": None, "size": 0, "draw": 0, **wanted}
    (found,) = [
        one for one in plan.figures if one.method == method and all(getattr(one, k) == v for k, v in keys.items())
    ]
    return found


def training_of(plan: Plan, one: Figure) -> Cell:
    cell = plan.cells[one.cell]
    assert isinstance(cell.job, Evaluation)
    return plan.cells[cell.job.bundle]


def again(suite_file: Path, base: Config, old: str, new: str) -> Plan:
    text = suite_file.read_text()
    assert old in text
    suite_file.write_text(text.replace(old, new, 1))
    return make_plan(load_suite(suite_file, base), base)


def test_what_is_equal_is_computed_once(suite: Suite, base: Config) -> None:
    plan = make_plan(suite, base)
    shared = ("metacross", "without adaptation", "random support", "O-bias", "in the index")
    found = [figure(plan, name, size=4 if name == "in the index" else 0) for name in shared]
    assert len({training_of(plan, one).name for one in found}) == 1
    assert training_of(plan, figure(plan, "without mask")).name != training_of(plan, found[0]).name
    assert figure(plan, "base").cell == figure(plan, "base, adapted").cell
    assert figure(plan, "base").plain and not figure(plan, "base, adapted").plain
    assert figure(plan, "metacross", neighbours=2).cell == figure(plan, "metacross").cell  # 2 is the setting's
    assert figure(plan, "metacross", neighbours=1).cell != figure(plan, "metacross").cell
    assert figure(plan, "metacross", seed=2).cell != figure(plan, "metacross").cell
    trainings = [cell for cell in plan.cells.values() if isinstance(cell.job, Training) and not cell.job.sample]
    assert len(trainings) == 3 * 2  # base, metacross, without mask; two seeds


def test_cells_come_after_those_that_they_need(suite: Suite, base: Config) -> None:
    plan = make_plan(suite, base)
    before: set[str] = set()
    for name, cell in plan.cells.items():
        assert set(cell.needs) <= before
        before.add(name)
        json.dumps(cell.inputs)


def adoption_of(plan: Plan, method: str, **wanted: object) -> tuple[Cell, Adoption]:
    cell = training_of(plan, figure(plan, method, **wanted))
    assert isinstance(cell.job, Adoption)
    return cell, cell.job


def test_text_is_labelled_by_the_bundle_itself_or_by_those_of_all_seeds(suite: Suite, base: Config) -> None:
    plan = make_plan(suite, base)
    bundles = [training_of(plan, figure(plan, "metacross", seed=seed)).name for seed in (1, 2)]
    for seed, bundle in zip((1, 2), bundles, strict=True):
        cell, job = adoption_of(plan, "adopted", seed=seed)
        assert (job.bundle, job.teachers) == (bundle, tuple(bundles))
        assert set(cell.needs) == set(bundles)
        cell, job = adoption_of(plan, "adopted by itself", seed=seed)
        assert (job.bundle, job.teachers) == (bundle, (bundle,))
        assert cell.needs == (bundle,)
    assert adoption_of(plan, "adopted")[0] == adoption_of(plan, "adopted, plain")[0]
    assert adoption_of(plan, "adopted")[1].texts == {"es": suite.targets["es"].text}  # de has none, and is measured too
    assert adoption_of(plan, "adopted", language="de")[0] == adoption_of(plan, "adopted")[0]


def test_what_needs_all_seeds_comes_after_the_comparison_with_one(suite: Suite, base: Config) -> None:
    labels = [cell.label for cell in make_plan(suite, base).cells.values()]
    first = labels.index("adopt adopted, seed 1")
    assert labels.index("train without mask, seed 2") < first
    assert labels.index("measure adopted by itself, seed 2, de") < first


def test_settings_of_an_adoption_make_anew_the_adoption_alone(suite_file: Path, base: Config) -> None:
    before = make_plan(load_suite(suite_file, base), base)
    after = again(suite_file, base, "adopt.steps: 3", "adopt.steps: 4")
    anew = {cell.label for name, cell in after.cells.items() if name not in before.cells}
    assert anew == {"adopt adopted, seed 1", "adopt adopted, seed 2"} | {
        f"measure adopted, seed {seed}, {language}" for seed in (1, 2) for language in ("es", "de")
    }
    assert adoption_of(after, "adopted")[1].settings["adopt.steps"] == 4
    assert adoption_of(after, "adopted by itself")[1].settings["adopt.steps"] == base.adopt.steps
    overridden = make_plan(load_suite(suite_file, base, overrides=["adopt.confidence=0.7"]), base)
    assert {cell.kind for name, cell in overridden.cells.items() if name not in after.cells} == {"adopt", "measure"}


def test_fewer_seeds_are_fewer_teachers(suite_file: Path, base: Config) -> None:
    before = make_plan(load_suite(suite_file, base), base)
    (line, *_) = changes(labelled_inputs(before), make_plan(load_suite(suite_file, base, seeds=1), base))
    assert line.startswith("anew: adopt adopted, seed 1 (teachers: ['train-")


def test_a_plan_is_the_same_every_time(suite_file: Path, base: Config) -> None:
    one, other = (make_plan(load_suite(suite_file, base), base) for _ in range(2))
    assert list(one.cells) == list(other.cells)
    assert changes(labelled_inputs(one), other) == []


def test_samples_go_in_turn_through_the_seeds(suite: Suite, base: Config) -> None:
    plan = make_plan(suite, base)
    found = [one for one in plan.figures if (one.method, one.language, one.size) == ("joint", "de", 4)]
    assert [(one.draw, one.seed) for one in found] == [(0, 1), (1, 2), (2, 1)]
    joint = training_of(plan, found[0]).job
    assert isinstance(joint, Training)
    assert joint.sample is not None and joint.sample.part == "all"
    assert joint.start == training_of(plan, figure(plan, "base")).name
    half = figure(plan, "half", size=4)
    measuring = plan.cells[half.cell].job
    assert isinstance(measuring, Evaluation)
    assert measuring.sample is not None and measuring.sample.part == "second"
    assert training_of(plan, half).inputs["sample"]["part"] == "first"
    assert not [one for one in plan.figures if one.method == "half" and one.size == 1]


@pytest.mark.parametrize(
    ("old", "new", "anew"),
    [
        ("loss.mask_ratio: 0.0", "loss.mask_ratio: 0.05", {"train without mask", "measure without mask"}),
        ("o_bias: 1.0", "o_bias: 2.0", {"measure O-bias"}),
        ("tagging: random_support", "tagging: random_support, neighbours: 3", {"measure random support"}),
    ],
)
def test_a_changed_setting_makes_anew_what_depends_on_it(
    suite_file: Path, base: Config, old: str, new: str, anew: set[str]
) -> None:
    before = make_plan(load_suite(suite_file, base), base)
    after = again(suite_file, base, old, new)
    labels = {cell.label.split(",")[0] for name, cell in after.cells.items() if name not in before.cells}
    assert labels == anew


def test_changes_are_told_with_what_was_and_what_is(suite_file: Path, base: Config) -> None:
    before = make_plan(load_suite(suite_file, base), base)
    after = again(suite_file, base, "loss.mask_ratio: 0.0", "loss.mask_ratio: 0.05")
    lines = changes(labelled_inputs(before), after)
    assert lines == [
        "anew: train without mask, seed 1 (settings.loss.mask_ratio: 0.0 -> 0.05)",
        "anew: train without mask, seed 2 (settings.loss.mask_ratio: 0.0 -> 0.05)",
        "anew: 4 cells made from these",
    ]


def test_a_changed_corpus_counts_and_a_moved_one_does_not(suite_file: Path, base: Config, tmp_path: Path) -> None:
    before = make_plan(load_suite(suite_file, base), base)
    place = tmp_path / "moved"
    place.mkdir()
    for name in ("train.conll", "dev.conll"):
        (place / name).write_bytes((tmp_path / name).read_bytes())
    assert list(make_plan(load_suite(suite_file, base, data=place), base).cells) == list(before.cells)
    (place / "train.conll").write_text((tmp_path / "train.conll").read_text() + "Oslo B-LOC\n")
    after = make_plan(load_suite(suite_file, base, data=place), base)
    assert not set(after.cells) & set(before.cells)  # every bundle learns from it


def test_settings_without_an_effect_do_not_count(suite_file: Path, base: Config) -> None:
    before = make_plan(load_suite(suite_file, base), base)
    same = ["train.storage_path=elsewhere", "serve.queue=3", "train.trunk_cache_mb=8", "train.use_gpu=auto"]
    after = make_plan(load_suite(suite_file, base, overrides=same), base)
    assert list(after.cells) == list(before.cells)


def test_weights_of_all_seeds_are_averaged_once(suite_file: Path, base: Config) -> None:
    plan = make_plan(load_suite(suite_file, base), base)
    one, other = (figure(plan, "averaged", seed=seed) for seed in (1, 2))
    assert one.cell == other.cell
    assert plan.cells[one.cell].label == "measure averaged, all seeds, es"
    average = training_of(plan, one)
    assert average.label == "average averaged, all seeds"
    assert isinstance(average.job, Average)
    assert average.needs == tuple(training_of(plan, figure(plan, "metacross", seed=seed)).name for seed in (1, 2))
    single = make_plan(load_suite(suite_file, base, seeds=1), base)
    assert figure(single, "averaged").cell == figure(single, "without adaptation").cell


def test_sentences_are_adopted_by_the_methods_own_bundles(suite_file: Path, base: Config) -> None:
    plan = make_plan(load_suite(suite_file, base), base)
    for draw, seed in ((0, 1), (1, 2)):
        cell, job = adoption_of(plan, "adopted sentences", seed=seed, size=4, draw=draw)
        assert job.bundle == training_of(plan, figure(plan, "metacross", seed=seed)).name
        assert (job.texts, job.teachers, job.distillation) == ({}, (), False)
        assert job.sample is not None and (job.sample.size, job.sample.draw, job.sample.part) == (4, draw, "all")
        assert cell.label == f"adopt adopted sentences, seed {seed}, 4 sentences of es, draw {draw + 1}"
    after = make_plan(load_suite(suite_file, base, overrides=["adopt.example_steps=7"]), base)
    anew = {cell.label.split(",")[0] for name, cell in after.cells.items() if name not in plan.cells}
    assert anew == {"adopt adopted sentences", "measure adopted sentences"}, "text does not depend on this setting"
    text = make_plan(load_suite(suite_file, base, overrides=["adopt.confidence=0.5"]), base)
    anew = {cell.label.split(",")[0] for name, cell in text.cells.items() if name not in plan.cells}
    assert not anew & {"adopt adopted sentences", "measure adopted sentences"}


def test_text_and_sentences_may_be_adopted_together_from_an_average(suite_file: Path, base: Config) -> None:
    both = "adopted sentences: {average: true, adoption: {distillation: true}, "
    plan = again(suite_file, base, "adopted sentences: {", both)
    cell, job = adoption_of(plan, "adopted sentences", size=4)
    assert job.texts and job.sample and job.distillation
    assert job.teachers == (), "the bundle labels the text when it is trained on the sentences"
    assert isinstance(plan.cells[job.bundle].job, Average)
    assert cell.label == "adopt adopted sentences, all seeds, 4 sentences of es, draw 1"
