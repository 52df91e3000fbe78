"""A bundle in token classification pipelines, transformers' and its own, against the tagger without adaptation."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForTokenClassification, pipeline

from benchmarks.pipeline_agreement import STRATEGIES, BothTaggers, closed
from metacross import AdaptiveTagger
from metacross.bundle import load_bundle
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError
from metacross.model_card import PIPELINE_TASK
from metacross.training.learner import Learner
from tests.helpers.tiny_bundle import tiny_config, train_bundle, write_corpus, write_inputs

TEXT = "Anna Berg lives in New York. Nothing happened in Oslo.\n\nTom Hale and Eva Roth left Lima"


def names_in_letters(file: Path) -> None:
    """Writes the names of a tiny corpus in two or three capitals: the tiny tokenizer cuts them into letters."""
    rows = [line.split(" ") for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [f"{row[0][:3].upper()} {row[1]}" if row[-1] not in ("", "O") else " ".join(row) for row in rows]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_inputs(tmp_path_factory.mktemp("pipeline"))
    for name in ("train.conll", "dev.conll"):
        names_in_letters(folder / name)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    fast = (
        "train.method=base",
        "train.steps=200",
        "train.lr=1e-2",
        "train.eval_every=200",
        "train.checkpoint_every=200",
    )
    return train_bundle(folder, "loss.later_weight=1", "train.name=later", *fast)


def own_pipeline(bundle: Path, strategy: str = "simple") -> Any:
    """The pipeline that the bundle brings along."""
    task: Any = PIPELINE_TASK
    return pipeline(task, model=str(bundle), aggregation_strategy=strategy, device="cpu", trust_remote_code=True)


def plain_tagger(bundle: Path) -> AdaptiveTagger:
    return AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=["train.precision=fp32"])


def check_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same entities, with nearly the same scores."""
    assert [{**e, "score": None} for e in found] == [{**e, "score": None} for e in expected]
    assert [e["score"] for e in found] == pytest.approx([e["score"] for e in expected], abs=1e-4)


# --- transformers' own pipeline --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_trained_later_pieces_every_strategy_gives_the_plain_entities(
    bundle: Path, folder: Path, strategy: str
) -> None:
    """The tokenizer marks later pieces (##), so transformers knows words; punctuation stands close to names."""
    texts = [closed(s.text) for s in read_corpus(folder / "train.conll").sentences]
    found = BothTaggers(bundle).agreement(texts, strategy)
    assert found.tagger > 50
    assert min(found.both / found.tagger, found.both / found.pipeline) >= 0.99


def test_the_model_card_recommends_what_fits_the_tokenizer(bundle: Path, tiny_bundle: Path) -> None:
    card, without = ((folder / "README.md").read_text(encoding="utf-8") for folder in (bundle, tiny_bundle))
    assert 'aggregation_strategy="first"' in card
    assert "`loss.later_weight: 1.0`" in card
    assert "no term for later pieces" in without
    assert f'pipeline("{PIPELINE_TASK}", ' in card


def test_a_bundle_is_calibrated_and_an_earlier_one_is_not(bundle: Path, root: Path) -> None:
    temperature = load_bundle(bundle).score_temperature
    assert temperature != 1
    assert f"`score_temperature: {temperature:.3f}`" in (bundle / "README.md").read_text(encoding="utf-8")
    assert json.loads((bundle / "config.json").read_text(encoding="utf-8"))["score_temperature"] == temperature
    assert load_bundle(root / "tests" / "files" / "earlier_run" / "bundle").score_temperature == 1


def test_the_temperature_changes_scores_and_nothing_else(tiny_bundle: Path) -> None:
    loaded = load_bundle(tiny_bundle)
    raw, calibrated = (
        AdaptiveTagger(replace(loaded, score_temperature=t), device=torch.device("cpu"))(TEXT) for t in (1.0, 0.4)
    )
    assert [{**e, "score": 0} for e in raw] == [{**e, "score": 0} for e in calibrated]
    assert all(abs(a["score"] - b["score"]) > 1e-3 for a, b in zip(raw, calibrated, strict=True))


def test_without_trust_no_code_of_the_bundle_runs_and_transformers_pipeline_works(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    for file in copy.glob("*.py"):
        file.write_text("raise SystemExit('this was run')\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pipeline("token-classification", model=str(copy), aggregation_strategy="simple", device="cpu")(TEXT)
        AutoConfig.from_pretrained(copy)
        AutoModelForTokenClassification.from_pretrained(copy)
    assert "Anna Berg" in {e["word"] for e in found}
    task: Any = PIPELINE_TASK
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline(task, model=str(copy))


# --- the bundle's own pipeline ---------------------------------------------------------------------------------------


def test_the_own_pipeline_gives_the_plain_entities_and_scores(tiny_bundle: Path) -> None:
    texts = [TEXT, "", " \n", "他在北京访问 Anna Berg 。", "[SEP] Anna [MASK] Berg", "Oslo\ud800\x00", TEXT[10:]]
    expected = plain_tagger(tiny_bundle)(texts, adapt=False)
    assert sum(map(len, expected)) > 10
    own = own_pipeline(tiny_bundle)
    for batch_size in (1, 3):
        for found, entities in zip(own(texts, batch_size=batch_size), expected, strict=True):
            check_equal(found, entities)
    assert own(TEXT, ignore_labels=["O", "PER"]) == [e for e in own(TEXT) if e["entity_group"] == "LOC"]


def test_long_sentences_are_tagged_in_windows(tiny_bundle: Path) -> None:
    text = " and ".join(f"{name} lives in {place}" for name in ("Anna Berg", "Tom Hale") for place in ["Oslo"] * 20)
    expected, found = plain_tagger(tiny_bundle)(text, adapt=False), own_pipeline(tiny_bundle)(text)
    spans = [{(e["start"], e["end"], e["entity_group"]) for e in entities} for entities in (expected, found)]
    assert len(spans[0]) > 60
    assert len(spans[0] & spans[1]) / len(spans[0] | spans[1]) > 0.9
    assert max(spans[1])[1] == len(text)


def test_without_a_strategy_and_for_given_words_it_is_transformers_pipeline(tiny_bundle: Path) -> None:
    standard: Any = pipeline("token-classification", model=str(tiny_bundle), device="cpu")
    own = own_pipeline(tiny_bundle, "first")
    assert own(TEXT, aggregation_strategy="none") == standard(TEXT)
    assert pipeline(model=str(tiny_bundle), device="cpu", trust_remote_code=True)(TEXT) == standard(TEXT)
    words = TEXT.split()
    assert own(words, is_split_into_words=True) == standard(
        words, is_split_into_words=True, aggregation_strategy="first"
    )


def test_the_own_pipeline_needs_no_metacross(tiny_bundle: Path) -> None:
    """It is loaded by a relative path, in a process that cannot import metacross."""
    program = f"""
import json, sys
sys.modules["metacross"] = None
from transformers import pipeline
found = pipeline(model="{tiny_bundle.name}", aggregation_strategy="max", device="cpu", trust_remote_code=True)
print(json.dumps(found({TEXT!r})))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tiny_bundle.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    check_equal(json.loads(done.stdout), plain_tagger(tiny_bundle)(TEXT, adapt=False))


def test_the_manifest_covers_the_code(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    modules = {file.name for file in copy.glob("*.py")}
    assert {"pipeline.py", "words.py"} <= modules
    assert modules <= json.loads((copy / "manifest.json").read_text(encoding="utf-8"))["files"].keys()
    for module in modules:
        assert not re.search(r"^\s*(from|import) metacross", (copy / module).read_text(encoding="utf-8"), re.MULTILINE)
    with (copy / "pipeline.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"pipeline\.py: not as it was written"):
        AdaptiveTagger.from_pretrained(copy)


@pytest.fixture(scope="module")
def texts(samples: Path) -> list[str]:
    """Raw text in six languages, punctuation marks close to words."""
    files = [*sorted(samples.glob("*/test.conll")), samples / "en" / "dev.conll"]
    assert len(files) == 6
    return [closed(s.text) for file in files for s in read_corpus(file).sentences[:3]]


@pytest.fixture(scope="module")
def random_bundle(tmp_path_factory: pytest.TempPathFactory, embedded_dir: Path, texts: list[str]) -> Path:
    """The embedded encoder with a random head: every piece has a tag of its own, so a wrong piece is noticed."""
    folder = tmp_path_factory.mktemp("random")
    write_corpus(folder / "train.conll", sentences=6)
    write_corpus(folder / "dev.conll", sentences=2)
    settings = ("model.frozen_layers=10", "retrieval.layer=10", "model.max_pieces=128")
    learner = Learner.from_config(
        tiny_config(folder, f"model.encoder={embedded_dir}", *settings), device=torch.device("cpu")
    )
    classifier = learner.model.classifier
    inputs = learner.tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        head: Any = classifier.classifier
        head.weight.normal_(std=3, generator=torch.Generator().manual_seed(0))
        logits = classifier(**inputs).logits[inputs["attention_mask"].bool()]
        head.bias.sub_(logits.mean(0))  # no tag prevails
    learner.save(folder / "bundle", {})
    return folder / "bundle"


def test_with_each_strategy_the_own_pipeline_gives_the_plain_entities_in_six_languages(
    random_bundle: Path, texts: list[str]
) -> None:
    """The tokenizer does not mark later pieces, pieces reach into several words, and Chinese has no spaces."""
    expected = plain_tagger(random_bundle)(texts, adapt=False)
    assert sum(map(len, expected)) > 100
    own = own_pipeline(random_bundle)
    for strategy in STRATEGIES:
        for found, entities in zip(own(texts, aggregation_strategy=strategy, batch_size=8), expected, strict=True):
            check_equal(found, entities)
