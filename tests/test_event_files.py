"""Events go into files and come back; files of other versions are read as far as this one knows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metacross.event_files import EventTail, read_events, to_line
from metacross.events import (
    KINDS,
    Event,
    Measurement,
    Note,
    Preparation,
    Start,
    StepsDone,
    TrialEnd,
    TrialMeasurement,
    TrialStart,
    from_json,
)

# As earlier versions wrote them, to the letter.
LINES: dict[str, Event] = {
    '{"event": "prepare", "what": "encoding dev", "done": 0, "total": 12}': Preparation("encoding dev", 0, 12),
    '{"event": "prepare", "what": "x", "done": 1, "total": 2, "left": 1.5}': Preparation("x", 1, 2, left=1.5),
    '{"event": "start", "step": 0, "steps": 60, "workers": 1}': Start(step=0, steps=60, workers=1),
    '{"event": "step", "step": 5, "steps": 60, "loss": 0.5, "learning_rate": 0.001, "pieces_per_second": 9.5, '
    '"steps_per_second": 2.0, "seconds_left": 27.5}': StepsDone(5, 60, 0.5, 0.001, 9.5, 2.0, 27.5),
    '{"event": "eval", "step": 30, "plain": 51.5}': Measurement(30, plain=51.5),
    '{"event": "eval", "step": 30, "plain": 51.5, "target_plain": 40.0, "adapted": 58.5, "target_adapted": 41.0}': (
        Measurement(30, plain=51.5, adapted=58.5, target_plain=40.0, target_adapted=41.0)
    ),
    '{"event": "note", "text": "gestoppt: \u2028 é"}': Note("gestoppt: \u2028 é"),
    '{"event": "trial", "id": "a1", "chosen": {"inner.lr": 0.1, "retrieval.candidates": "all"}}': TrialStart(
        "a1", {"inner.lr": 0.1, "retrieval.candidates": "all"}
    ),
    '{"event": "measured", "id": "a1", "step": 4, "score": 61.5, "plain": 60.0, "adapted": 61.5}': TrialMeasurement(
        "a1", 4, 61.5, plain=60.0, adapted=61.5
    ),
    '{"event": "ended", "id": "a1", "state": "failed", "error": "its process died"}': TrialEnd(
        "a1", "failed", "its process died"
    ),
}


@pytest.mark.parametrize(("line", "event"), LINES.items())
def test_lines_are_what_they_always_were(line: str, event: Event, tmp_path: Path) -> None:
    assert to_line(event) == line + "\n"
    (tmp_path / "events.jsonl").write_text(line + "\n", encoding="utf-8")
    assert read_events(tmp_path / "events.jsonl") == [event]


def test_every_kind_is_among_them() -> None:
    assert {json.loads(line)["event"] for line in LINES} == set(KINDS)


def test_kinds_and_fields_of_newer_versions_are_passed_over() -> None:
    assert from_json({"event": "something new", "step": 3}) is None
    assert from_json({"event": "start", "step": 0, "steps": 9, "workers": 1, "city": "Quito"}) == Start(0, 9, 1)
    with pytest.raises(TypeError, match="workers"):
        from_json({"event": "start", "step": 0, "steps": 9})


def test_events_are_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text(to_line(Note("old")))
    events = EventTail(path)
    assert events.new() == []
    with path.open("a") as file:
        file.write(to_line(Note("a")) + '{"event": "something new"}\n{"event"')
        file.flush()
        assert events.new() == [Note("a")]
        file.write(': "note", "text": "b"}\n')
        file.flush()
        assert events.new() == [Note("b")]


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    events = EventTail(tmp_path / "progress.jsonl")
    assert events.new() == []
    (tmp_path / "progress.jsonl").write_text(to_line(Note("first")))
    assert events.new() == [Note("first")]


def test_a_line_whose_writer_was_killed_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text(to_line(Note("whole")) + '{"event": "note", "te')
    assert read_events(path) == [Note("whole")]
