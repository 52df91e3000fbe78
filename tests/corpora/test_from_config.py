"""What was mended while corpora were read is told by whoever reads them, with the file's name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from metacross.events import Event, Note
from metacross.indexing.build import prepare as prepare_index
from metacross.tagging.evaluation import evaluate
from metacross.training.learner import Learner
from tests.helpers.tiny_bundle import tiny_config, write_inputs

MENDED = "1 tag repaired that broke IOB2"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Inputs whose corpora both have an entity without its beginning."""
    write_inputs(tmp_path)
    for name in ("train.conll", "dev.conll"):
        corpus = tmp_path / name
        corpus.write_text(corpus.read_text(encoding="utf-8") + "Lima I-LOC\nshone O\n\n", encoding="utf-8")
    return tmp_path


def told(events: list[Event]) -> list[str]:
    return [event.text.split(" (first")[0] for event in events if isinstance(event, Note) and MENDED in event.text]


def test_training_tells_it(place: Path) -> None:
    events: list[Event] = []
    Learner.from_config(tiny_config(place), device=torch.device("cpu"), report=events.append)
    assert told(events) == [f"{place / 'train.conll'}: {MENDED}", f"{place / 'dev.conll'}: {MENDED}"]


def test_indexing_tells_it(place: Path) -> None:
    events: list[Event] = []
    prepare_index(tiny_config(place), place / "out", show=events.append)
    assert told(events) == [f"{place / 'train.conll'}: {MENDED}"]


def test_figures_say_that_their_gold_was_mended(place: Path, tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    results = evaluate(tagger, {"en": read_corpus(place / "dev.conll")})
    assert [oddity.split(" (first")[0] for oddity in results["en"]["oddities"]] == [MENDED]
