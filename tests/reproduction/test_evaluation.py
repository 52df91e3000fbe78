"""Evaluation cells on a tiny bundle: every way of tagging, and counts that agree with seqeval."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metacross.corpora.reader import read_corpus
from metacross.errors import UserError
from metacross.reproduction.cells import Evaluation, Sample
from metacross.reproduction.evaluation import evaluate
from metacross.reproduction.results import f1
from metacross.tagging import evaluation
from metacross.tagging.tagger import AdaptiveTagger

CPU = torch.device("cpu")


@pytest.fixture
def job(tiny_folder: Path) -> Evaluation:
    return Evaluation(
        bundle="",
        language="en",
        test=str(tiny_folder / "dev.conll"),
        sentences=None,
        way="adapted",
        neighbours=2,
        inner_lr=0.2,
        word_neighbours=None,
        o_bias=0.0,
        seed=7,
        sample=None,
    )


def measured(job: Evaluation, bundle: Path) -> dict[str, Any]:
    return evaluate(job, bundle, device=CPU, tick=lambda done, total: None)


def tags(result: dict[str, Any], which: str) -> list[str]:
    return [row[f"{which}_tags"] for row in result["sentences"]]


def test_counts_agree_with_the_product_and_with_seqeval(job: Evaluation, tiny_bundle: Path) -> None:
    result = measured(job, tiny_bundle)
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    corpus = read_corpus(job.test)
    expected = evaluation.evaluate(tagger, {"en": corpus}, neighbours=2, inner_lr=0.2)["en"]
    for which, part in (("plain", "plain"), ("tagged", "adapted")):
        rows = result["sentences"]
        found, correct = np.array([row[which] for row in rows]).sum(0)
        assert f1(sum(row["gold"] for row in rows), found, correct) == pytest.approx(expected[part]["f1"])
    answers = tagger.tag_sentences(corpus.sentences, explain=True, neighbours=2, inner_lr=0.2)
    assert tags(result, "tagged") == [" ".join(answer.tags) for answer in answers]
    similarities = [sum(s.similarity for s in answer.support) / 2 for answer in answers]
    assert [row["similarity"] for row in result["sentences"]] == pytest.approx(similarities)
    different = {str(i) for i, answer in enumerate(answers) if answer.tags != answer.plain_tags}
    assert set(result["changed"]) == different
    assert set(result["requests_per_second"]) == {"plain", "tagged"}
    assert result["memory_mb"] > 10


def test_a_file_is_measured_in_part(job: Evaluation, tiny_bundle: Path) -> None:
    done = []
    result = evaluate(
        replace(job, sentences=4), tiny_bundle, device=CPU, tick=lambda count, total: done.append((count, total))
    )
    assert len(result["sentences"]) == 4
    assert done == [(0, 4), (4, 4)]


def test_controls_share_the_plain_answers(job: Evaluation, tiny_bundle: Path) -> None:
    adapted = measured(job, tiny_bundle)
    for way in ("random_support", "shuffled_labels"):
        control = measured(replace(job, way=way), tiny_bundle)
        assert tags(control, "plain") == tags(adapted, "plain")
        assert control["requests_per_second"] is None
        assert tags(measured(replace(job, way=way), tiny_bundle), "tagged") == tags(control, "tagged")
        assert (control["sentences"][0]["similarity"] is None) == (way == "random_support")
    strong = replace(job, inner_lr=5.0)
    assert tags(measured(replace(strong, way="shuffled_labels"), tiny_bundle), "tagged") != tags(
        measured(strong, tiny_bundle), "tagged"
    )


def test_controls_go_round_machine_labelled_sentences_too(job: Evaluation, adopted_bundle: Path) -> None:
    few = replace(job, sentences=4, neighbours=20)
    plain = tags(measured(few, adopted_bundle), "plain")
    for way in ("random_support", "shuffled_labels"):
        assert tags(measured(replace(few, way=way), adopted_bundle), "plain") == plain


def test_a_bias_on_o(job: Evaluation, tiny_bundle: Path) -> None:
    plain = tags(measured(job, tiny_bundle), "plain")
    for bias, compare in ((0.0, plain.__eq__), (20.0, plain.__ne__)):
        result = measured(replace(job, way="o_bias", o_bias=bias), tiny_bundle)
        assert tags(result, "plain") == plain
        assert compare(tags(result, "tagged"))
    assert not any(tag == "O" for row in tags(result, "tagged") for tag in row.split())


def test_the_released_optimizer(job: Evaluation, tiny_bundle: Path) -> None:
    few = replace(job, way="released_optimizer", sentences=4)
    still = measured(replace(few, inner_lr=0.0), tiny_bundle)
    assert (
        tags(still, "tagged") == tags(still, "plain") == tags(measured(replace(job, sentences=4), tiny_bundle), "plain")
    )
    assert measured(replace(few, inner_lr=0.05), tiny_bundle)["changed"]


def test_all_ways_decode_as_the_product_does(job: Evaluation, tiny_bundle: Path, tmp_path: Path) -> None:
    """A sentence of several windows too."""
    words = [line for line in Path(job.test).read_text().splitlines() if line not in ("", ". O")]
    (tmp_path / "long.conll").write_text("\n".join([*words, "", "Oslo B-LOC", ""]))
    long = replace(job, test=str(tmp_path / "long.conll"))
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    sentences = read_corpus(long.test).sentences
    assert max(len(sentence.words) for sentence in sentences) > tagger.config.model.max_pieces
    expected = [" ".join(answer.tags) for answer in tagger.tag_sentences(sentences, adapt=False)]
    for way in (replace(long, way="o_bias"), replace(long, way="released_optimizer", inner_lr=0.0)):
        result = measured(way, tiny_bundle)
        assert tags(result, "plain") == tags(result, "tagged") == expected


def test_examples_shape_answers(job: Evaluation, tiny_bundle: Path) -> None:
    sample = Sample("en", job.test, size=8, draw=0, part="all")
    similar = [
        row["similarity"] for row in measured(replace(job, sample=sample, neighbours=1), tiny_bundle)["sentences"]
    ]
    assert sum(value > 0.9999 for value in similar) >= 8


def test_types_that_the_bundle_does_not_know(job: Evaluation, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.conll").write_text("Euro B-OTH\n")
    with pytest.raises(UserError, match="OTH"):
        measured(replace(job, test=str(tmp_path / "odd.conll")), tiny_bundle)
