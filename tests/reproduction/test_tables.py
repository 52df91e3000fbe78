"""The report's arithmetic, on cells made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metacross.config import Config
from metacross.reproduction import report
from metacross.reproduction.cells import DONE_FILE, Evaluation, folder_of
from metacross.reproduction.page import sentences_page
from metacross.reproduction.plan import Comparison
from metacross.reproduction.planning import make_plan
from metacross.reproduction.report import write_report
from metacross.reproduction.run_cell import RESULT_FILE
from metacross.reproduction.suite import Suite
from metacross.reproduction.tables import Results, figures

# Three sentences: gold, (found, correct) plainly, (found, correct) in the cell's way.
GOLD = [2, 1, 1]
PLAIN = [(2, 1), (1, 1), (0, 0)]  # 2 of 3 found are right, of 4: F1 = 4 / 7
BETTER = [(2, 2), (1, 1), (0, 0)]  # 3 of 3, of 4: 6 / 7
WORSE = [(2, 1), (1, 0), (0, 0)]  # 1 of 3, of 4: 2 / 7


def cell(tagged: list[tuple[int, int]]) -> dict[str, Any]:
    sentences = []
    for i, (gold, plain, found) in enumerate(zip(GOLD, PLAIN, tagged, strict=True)):
        differs = plain != found
        sentences.append(
            {
                "gold": gold,
                "plain": list(plain),
                "tagged": list(found),
                "plain_tags": "B-PER O B-LOC",
                "tagged_tags": "B-PER I-PER B-LOC" if differs else "B-PER O B-LOC",
                "similarity": [0.9, 0.8, None][i],
            }
        )
    shown = {
        "place": "/x/<es>.conll:7",
        "words": ["Ana", "<b>", "Oslo"],
        "gold": "B-PER I-PER B-LOC",
        "support": [{"similarity": 0.875, "text": "Eva & Co in Rome", "entities": [[0, 3, "PER"], [12, 16, "LOC"]]}],
    }
    changed = {str(i): shown for i, row in enumerate(sentences) if row["plain_tags"] != row["tagged_tags"]}
    pace = {"plain": 20.0, "tagged": 10.0}
    return {
        "sentences": sentences,
        "changed": changed,
        "requests_per_second": pace,
        "memory_mb": 512.0,
        "seconds": 1.0,
    }


OUTCOMES: Mapping[str, Any] = {
    "metacross": {1: BETTER, 2: BETTER},
    "without mask": {1: WORSE, 2: BETTER},
    "random support": {1: WORSE, 2: WORSE},
    "O-bias": {1: PLAIN, 2: PLAIN},
    "adopted": {1: BETTER, 2: PLAIN},
    "adopted, O-bias": {1: WORSE, 2: PLAIN},
}


@pytest.fixture
def comparison(suite: Suite, base: Config, tmp_path: Path) -> Comparison:
    plan = make_plan(suite, base)
    out = tmp_path / "out"
    for figure in plan.figures:
        tagged = OUTCOMES.get(figure.method, {}).get(figure.seed, PLAIN)
        if figure.method == "in the index":
            tagged = BETTER if figure.size == 4 else PLAIN
        folder = folder_of(out, figure.cell)
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / RESULT_FILE).write_text(json.dumps(cell(tagged)), encoding="utf-8")
            (folder / DONE_FILE).write_text('{"seconds": 1.0}')
    return Comparison(out, suite, plan, {"train x": "the disk | is full"}, interrupted=False)


@pytest.fixture
def found(comparison: Comparison) -> dict[str, Any]:
    return figures(Results(comparison))


def test_f1_precision_and_recall(found: dict[str, Any]) -> None:
    f1 = {name: row["mean"]["mean"] for name, row in found["f1"].items()}
    assert f1["base"] == f1["without adaptation"] == f1["O-bias"] == pytest.approx(400 / 7)
    assert f1["metacross"] == pytest.approx(600 / 7)
    assert f1["without mask"] == pytest.approx(400 / 7)
    assert found["f1"]["without mask"]["es"]["sd"] == pytest.approx((400 / 7) / 2**0.5)
    assert found["f1"]["without mask"]["mean"]["by_seed"] == {
        "1": pytest.approx(200 / 7),
        "2": pytest.approx(600 / 7),
    }
    assert found["precision"]["metacross"]["es"]["mean"] == pytest.approx(100)
    assert found["recall"]["metacross"]["de"]["mean"] == pytest.approx(75)
    assert found["sentences"] == {"es": 3, "de": 3}
    assert found["paper"] == {"Theirs": {"es": 70.5}}


def test_gains(found: dict[str, Any]) -> None:
    gains = {(row["method"], row["over"]): row["languages"] for row in found["gains"]}
    assert found["best_controls"] == {"metacross": "O-bias", "adopted": "adopted, O-bias"}
    for over in ("base", "O-bias", "its own plain tags"):
        row = gains["metacross", over]
        assert row["es"]["mean"] == row["mean"]["mean"] == pytest.approx(200 / 7)
        assert row["mean"]["by_seed"] == {"1": pytest.approx(200 / 7), "2": pytest.approx(200 / 7)}
        low, high = row["mean"]["interval"]
        assert 0 <= low <= 200 / 7 <= high
    assert gains["without mask", "base"]["mean"]["by_seed"] == {
        "1": pytest.approx(-200 / 7),
        "2": pytest.approx(200 / 7),
    }
    assert ("base, adapted", "O-bias") not in gains  # the control is put around the main method's bundles
    assert gains["random support", "base"]["es"]["mean"] == pytest.approx(-200 / 7)
    assert ("base", "base") not in gains


def test_the_gain_of_the_step_is_that_of_the_same_bundle(found: dict[str, Any]) -> None:
    """For methods that adopted text too, each with the controls on its own bundles."""
    gains = {(row["method"], row["over"]): row["languages"] for row in found["gains"]}
    assert gains["adopted", "its own plain tags"]["es"]["by_seed"] == {"1": pytest.approx(200 / 7), "2": 0}
    assert gains["adopted", "adopted, O-bias"]["es"]["by_seed"] == {"1": pytest.approx(400 / 7), "2": 0}
    assert ("adopted", "O-bias") not in gains  # the control is put around bundles that did not adopt
    assert set(found["plain_f1"]) == {"base, adapted", "metacross", "without mask", "adopted", "adopted by itself"}
    assert found["plain_f1"]["adopted"]["mean"]["mean"] == pytest.approx(400 / 7)
    assert found["plain_f1"]["adopted"]["es"] == found["f1"]["adopted, plain"]["es"]


def test_adopted_languages_are_told_from_others(found: dict[str, Any]) -> None:
    assert found["adopted"]["adopted by itself"] == ["es"]
    assert found["means"] == {"mean": ["es", "de"], "mean of adopted": ["es"], "mean of others": ["de"]}
    for rows in (found["f1"]["adopted"], found["gains"][0]["languages"]):
        assert rows["mean of adopted"] == rows["es"]
        assert rows["mean of others"] == rows["de"]


def test_changed_sentences_and_cost(found: dict[str, Any]) -> None:
    assert found["changed"]["metacross"]["es"] == {"share": pytest.approx(100 / 3), "won": 2, "lost": 0}
    assert found["changed"]["random support"]["es"] == {"share": pytest.approx(100 / 3), "won": 0, "lost": 2}
    assert found["changed"]["without mask"]["es"] == {"share": pytest.approx(100 / 3), "won": 1, "lost": 1}
    assert found["cost"]["metacross"] == {"requests_per_second": 10.0, "memory_mb": 512.0}
    assert found["cost"]["without adaptation"]["requests_per_second"] == 20.0


def test_varied_settings_similarity_and_shots(found: dict[str, Any]) -> None:
    assert list(found["neighbours"]) == ["1", "2"]
    assert found["neighbours"]["2"]["es"]["mean"] == pytest.approx(600 / 7)
    assert list(found["inner_lr"]) == ["0.01"]
    rows = found["similarity"]["es"]
    assert sum(row["gain"] for row in rows) > 0
    assert [row["similarity"] for row in rows] == sorted(row["similarity"] for row in rows)
    assert {round(row["similarity"], 6) for row in rows} <= {0.8, 0.85, 0.9}  # the third sentence's is not known
    shots = found["shots"]["in the index"]
    assert shots["1"]["es"]["mean"] == pytest.approx(400 / 7)
    assert shots["4"]["mean"]["mean"] == pytest.approx(600 / 7)
    assert list(shots["4"]["mean"]["by_seed"]) == ["0", "1", "2"]
    assert list(found["shots"]["half"]) == ["4"]


def test_averaged_weights_have_no_deviation(comparison: Comparison, found: dict[str, Any]) -> None:
    assert found["averaged"] == ["averaged"]
    assert found["f1"]["averaged"]["es"]["sd"] is None
    assert found["f1"]["averaged"]["mean"]["by_seed"].keys() == {"1", "2"}
    (gain,) = (row for row in found["gains"] if row["method"] == "averaged")
    assert gain["languages"]["mean"]["by_seed"].keys() == {"1", "2"}
    results = Results(comparison)
    assert results.by_method["averaged"]["es"].distinct.seeds == [1]
    assert results.by_method["metacross"]["es"].distinct.seeds == [1, 2]
    text = report.markdown(found, [])
    assert "| averaged | 57.1 | 57.1 | 57.1 |" in text
    assert "The weights of all seeds are averaged in averaged: " in text


def test_the_time_of_training_on_labelled_sentences_stands_beside_f1(comparison: Comparison) -> None:
    seconds = {("joint", 4): 90.0, ("adopted sentences", 4): 9.0}
    for figure in comparison.plan.figures:
        measuring = comparison.plan.cells[figure.cell].job
        assert isinstance(measuring, Evaluation)
        if (figure.method, figure.size) in seconds:
            folder = folder_of(comparison.out, measuring.bundle)
            folder.mkdir(exist_ok=True)
            (folder / DONE_FILE).write_text(json.dumps({"seconds": seconds[figure.method, figure.size]}))
    found = figures(Results(comparison))
    assert found["shots"]["joint"]["4"]["seconds"] == 90
    assert found["shots"]["joint"]["1"]["seconds"] is None
    assert found["shots"]["in the index"]["4"]["seconds"] is None
    text = report.markdown(found, [])
    assert "|  | sentences | es | de | mean | seconds |" in text
    assert re.search(r"\| adopted sentences \| 4 \| .* \| 9 \|\n", text)


def test_the_report_is_written(comparison: Comparison) -> None:
    files = {path.relative_to(comparison.out).as_posix() for path in write_report(comparison)}
    plots = {"gain-by-language", "f1-by-neighbours", "f1-by-inner-lr", "gain-by-similarity", "f1-by-shots"}
    assert files == {"report.json", "report.md", "sentences.html"} | {
        f"plots/{name}.{form}" for name in plots for form in ("svg", "png")
    }
    text = (comparison.out / "report.md").read_text(encoding="utf-8")
    assert "|  | es* | de | mean | mean of adopted | mean of others |" in text
    assert "marked * have text that these methods adopt: adopted; adopted, plain; adopted, O-bias; " in text
    assert "| metacross | 85.7 ± 0.0 | 85.7 ± 0.0 | 85.7 ± 0.0 |" in text
    assert "| *paper: Theirs* | 70.5 |  |  |" in text
    assert "| metacross | base | +28.6 | +28.6 | +28.6 |" in text
    plain, adapted = "57.1 ± 0.0", "71.4 ± 20.2"
    assert f"| adopted | plain | {plain} | {plain} | {plain} |" in text
    assert f"| adopted | adapted | {adapted} | {adapted} | {adapted} |" in text
    step = text[text.index("## Gain of the step") :]
    assert re.search(r"\n\| adopted \| its own plain tags \| (\+14\.3 \| ){5}\S+ to \S+ \| \+ 0 \|\n", step)
    assert re.search(r"\n\| adopted \| adopted, O-bias \| (\+28\.6 \| ){5}\S+ to \S+ \| \+ 0 \|\n", step)
    assert "| without mask | 33.3 % (1 : 1) | 33.3 % (1 : 1) |" in text
    assert "- train x: the disk | is full" in text
    for name in plots:
        assert f"](plots/{name}.svg)" in text
        assert (comparison.out / f"plots/{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert (comparison.out / f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_what_changed_and_nothing_is_markup(comparison: Comparison) -> None:
    page = sentences_page(Results(comparison))
    assert page.count('<article class="helped">') == 2  # a language each
    assert '<article class="hurt">' not in page
    assert '<mark class="PER">Ana &lt;b&gt;<b>PER</b></mark> <mark class="LOC">Oslo<b>LOC</b></mark>' in page
    assert '<dt>0.875</dt><dd><mark class="PER">Eva<b>PER</b></mark> &amp; Co in ' in page
    assert "&lt;es&gt;.conll:7, seed 1" in page
    assert "http" not in page


def test_an_unfinished_comparison_is_reported_as_far_as_it_goes(comparison: Comparison) -> None:
    for figure in comparison.plan.figures:
        if figure.seed == 2 or figure.method == "without mask":
            (folder_of(comparison.out, figure.cell) / DONE_FILE).unlink(missing_ok=True)
    found = figures(Results(comparison))
    assert "without mask" not in found["f1"]
    assert found["f1"]["metacross"]["mean"]["by_seed"].keys() == {"1"}
    assert found["f1"]["metacross"]["mean"]["sd"] == 0
    nothing = Comparison(comparison.out / "empty", comparison.suite, comparison.plan, {}, interrupted=True)
    empty = figures(Results(nothing))
    assert (empty["f1"], empty["gains"], empty["similarity"]) == ({}, [], {})
    assert report.markdown(empty, []).startswith("# tiny\n")
