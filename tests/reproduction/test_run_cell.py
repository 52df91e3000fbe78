"""Cells run without Ray: trained, stopped and gone on with, measured; and samples of labelled sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metacross.adoption import adopt
from metacross.bundle import load_bundle
from metacross.config import Config
from metacross.config_loading import load_config
from metacross.corpora.reader import read_corpus
from metacross.corpora.sentence import sentence_from_words
from metacross.errors import UserError
from metacross.events import Event, Preparation, StepsDone
from metacross.reproduction.cells import Cell, Sample, folder_of, is_done, seconds_of
from metacross.reproduction.few_shot import drawn, write_sample
from metacross.reproduction.plan import Plan
from metacross.reproduction.planning import make_plan
from metacross.reproduction.run_cell import RESULT_FILE, STOP_FILE, run_cell
from metacross.reproduction.suite import Suite
from metacross.training import checkpoint, loop
from metacross.training.event_log import EventLog

CPU = torch.device("cpu")


@pytest.fixture
def plan(suite: Suite, base: Config) -> Plan:
    return make_plan(suite, base)


def chain(plan: Plan, label: str) -> Iterator[Cell]:
    """A cell's needs, then itself."""
    (cell,) = [cell for cell in plan.cells.values() if cell.label == label]
    for name in cell.needs:
        yield from chain(plan, plan.cells[name].label)
    yield cell


def test_a_cell_and_all_that_it_needs(plan: Plan, tmp_path: Path) -> None:
    """Half of four sentences are trained on, from the base's weights; the other half is in the index."""
    cells = list(chain(plan, "measure half, seed 1, es, 4 sentences of es, draw 1"))
    assert [cell.kind for cell in cells] == ["train", "train", "measure"]
    for cell in cells:
        assert run_cell(cell, tmp_path, device=CPU)
        assert is_done(tmp_path, cell.name)
        assert seconds_of(tmp_path, cell.name) > 0
        inputs = json.loads((folder_of(tmp_path, cell.name) / "cell.json").read_text())
        assert inputs == {"label": cell.label, "inputs": cell.inputs}
    first, second, measured = (folder_of(tmp_path, cell.name) for cell in cells)
    assert not (first / checkpoint.FOLDER).exists()
    config = load_config([second / "ray_config.yaml"], alone=True)
    assert config.model.encoder == str(first / "bundle")
    assert len(load_bundle(first / "bundle").sentences) == 24
    assert len(load_bundle(second / "bundle").sentences) == 26  # two, repeated once: a tenth
    result = json.loads((measured / RESULT_FILE).read_text())
    assert len(result["sentences"]) == 10


def test_a_stopped_training_goes_on(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = chain(plan, "train base, seed 2")
    folder = folder_of(tmp_path, cell.name)
    stop = tmp_path / STOP_FILE
    stop.touch()
    assert not run_cell(cell, tmp_path, device=CPU)  # during the preparation
    assert not checkpoint.paths(folder)
    stop.unlink()
    real = loop.run

    def stopped_in_the_first_step(*arguments: object, **settings: object) -> loop.Outcome:
        stop.touch()
        return real(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "run", stopped_in_the_first_step)
    assert not run_cell(cell, tmp_path, device=CPU)
    assert [path.name for path in checkpoint.paths(folder)] == ["step-0000001"]
    assert not is_done(tmp_path, cell.name)
    stop.unlink()
    monkeypatch.setattr(loop, "run", real)
    assert run_cell(cell, tmp_path, device=CPU)
    assert '{"event": "start", "step": 1, ' in (folder / "progress.jsonl").read_text()


def test_an_adoption_goes_on_after_a_stop(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "CHECKPOINT_STEPS", 1)
    *needed, cell = chain(plan, "adopt adopted, seed 1")
    for one in needed:
        run_cell(one, tmp_path, device=CPU)
    folder, stop = folder_of(tmp_path, cell.name), tmp_path / STOP_FILE
    real = EventLog.__call__

    def stopped_by(kind: type[Event], number: int) -> None:
        """Runs the cell, and stops it at an event of this kind."""
        seen: list[Event] = []

        def log(self: EventLog, event: Event) -> None:
            seen.extend([event] * isinstance(event, kind))
            if len(seen) == number:
                stop.touch()
            real(self, event)

        monkeypatch.setattr(EventLog, "__call__", log)
        assert not run_cell(cell, tmp_path, device=CPU)
        assert len(seen) == number
        stop.unlink()

    stopped_by(Preparation, 1)
    stopped_by(StepsDone, 2)
    assert not is_done(tmp_path, cell.name)
    assert not (folder / "bundle").exists()
    monkeypatch.setattr(EventLog, "__call__", real)
    assert run_cell(cell, tmp_path, device=CPU)
    events = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 2, 3]
    assert not any(event.get("what") == "labelling es" for event in events), "done as it was stopped, and not again"
    assert not list(folder.glob(".*")), "nothing unfinished is left"
    (record,) = load_bundle(folder / "bundle").adopted
    assert record.language == "es"
    assert record.distilled == 6
    assert record.teachers == tuple(load_bundle(folder_of(tmp_path, one.name) / "bundle").digest for one in needed)
    (measuring,) = [one for one in plan.cells.values() if one.label == "measure adopted, seed 1, de"]
    assert run_cell(measuring, tmp_path, device=CPU)


def test_sentences_are_adopted(plan: Plan, tmp_path: Path) -> None:
    *needed, cell = chain(plan, "measure adopted sentences, seed 1, de, 4 sentences of de, draw 1")
    assert [one.kind for one in needed] == ["train", "adopt"]
    for one in (*needed, cell):
        assert run_cell(one, tmp_path, device=CPU)
    (record,) = load_bundle(folder_of(tmp_path, needed[-1].name) / "bundle").adopted
    assert (record.language, record.sentences) == ("de", 0)
    assert record.examples >= 4
    events = (folder_of(tmp_path, needed[-1].name) / "progress.jsonl").read_text()
    assert "training on examples: " in events


def test_bundles_are_averaged(plan: Plan, tmp_path: Path) -> None:
    *needed, cell = chain(plan, "average averaged, all seeds")
    for one in (*needed, cell):
        assert run_cell(one, tmp_path, device=CPU)
    digests = [load_bundle(folder_of(tmp_path, one.name) / "bundle").digest for one in needed]
    assert load_bundle(folder_of(tmp_path, cell.name) / "bundle").metrics["averaged"] == digests


def test_draws(tiny_folder: Path) -> None:
    file = str(tiny_folder / "train.conll")
    sentences = read_corpus(file).sentences
    sentences += [sentence_from_words(["Nothing", str(i)], ["O", "O"]) for i in range(len(sentences))]

    def sample(size: int, draw: int, part: str = "all") -> list[str]:
        return [sentence.text for sentence in drawn(sentences, Sample("es", file, size, draw, part))]

    def with_entity(texts: list[str]) -> int:
        return sum(not text.startswith("Nothing ") or not text[8:].isdigit() for text in texts)

    assert with_entity(sample(9, 0)) == 9
    assert len(sample(9, 0)) > 9, "others come along"
    assert with_entity(sample(9, 0)[-1:]) == 1, "the draw ends when there are enough"
    assert sample(9, 0)[: len(sample(4, 0))] == sample(4, 0)
    assert sample(9, 0) != sample(9, 1)
    assert sample(5, 0, "first") + sample(5, 0, "second") == sample(5, 0)
    assert sample(5, 0, "first") == sample(2, 0)
    assert with_entity(sample(5, 0, "second")) == 3
    assert with_entity(sample(1, 0)) == 1
    with pytest.raises(UserError, match=r"shots\.sizes has 500, but there are only 24 sentences with an entity"):
        sample(500, 0)


@pytest.mark.parametrize(("share", "others", "expected"), [(0.0, 100, 4), (0.1, 108, 12), (0.5, 100, 100), (0.1, 9, 4)])
def test_samples_are_repeated_to_their_share(
    tiny_folder: Path, tmp_path: Path, share: float, others: int, expected: int
) -> None:
    sentences = read_corpus(tiny_folder / "train.conll").sentences[:4]
    write_sample(tmp_path / "shots.jsonl", sentences, others=others, share=share)
    read = read_corpus(tmp_path / "shots.jsonl").sentences
    assert len(read) == expected
    assert {(s.words, s.tags) for s in read} == {(s.words, s.tags) for s in sentences}
