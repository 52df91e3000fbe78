"""The live display: bars in a terminal, few and whole lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from metacross.cli.display import Display
from metacross.events import (
    Event,
    Measurement,
    Note,
    Preparation,
    Start,
    StepsDone,
    TrialEnd,
    TrialMeasurement,
    TrialStart,
)

PREPARE = Preparation("encoding [source]", done=3, total=9)


def step(number: int) -> StepsDone:
    return StepsDone(
        step=number,
        steps=7200,
        loss=0.5,
        learning_rate=1e-4,
        pieces_per_second=1234.5,
        steps_per_second=2.0,
        seconds_left=(7200 - number) / 2,
    )


EVAL = Measurement(step=300, plain=80.0, adapted=82.5)


def shown(*events: Event, terminal: bool) -> str:
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=terminal, width=120, color_system=None)) as show:
        for event in events:
            show(event)
    return out.getvalue()


def test_plain_lines_are_few_but_every_measurement_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 9.9, 10.0, 11.0, 12.0])
    monkeypatch.setattr("metacross.cli.display.time.monotonic", lambda: next(clock))
    note = Note("stopping [soon]")
    lines = shown(PREPARE, step(1), step(2), step(3), EVAL, note, terminal=False).splitlines()
    assert lines == [
        "encoding [source]: 3 of 9",
        "step 3 of 7200: loss 0.5000, 2.00 steps/s, 1234 pieces/s, 0:59:58 left",
        "step 300: dev F1 82.50 adapted, 80.00 plain",
        "stopping [soon]",
    ]


def test_terminal_shows_bars_and_measurements() -> None:
    text = shown(PREPARE, step(3600), EVAL, terminal=True)
    assert "encoding [source]" in text
    assert "3/9" in text
    assert "3600/7200" in text
    assert "0:30:00 left" in text
    assert "step 300: dev F1 82.50 adapted, 80.00 plain" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_resumed_run_says_where_it_goes_on(terminal: bool) -> None:
    start = Start(step=300, steps=7200, workers=2)
    assert "going on after step 300 of 7200 (2 workers)" in shown(start, terminal=terminal)
    assert "training (1 worker)" in shown(Start(step=0, steps=7200, workers=1), terminal=terminal)


def test_a_sweep_has_a_line_for_every_event() -> None:
    events = (
        TrialStart("a1", {"inner.lr": 0.123456, "retrieval.candidates": "all"}),
        TrialMeasurement("a1", step=200, score=81.256, plain=80.0),
        TrialEnd("a1", state="ended", error=""),
        TrialEnd("b2", state="failed", error="its process died"),
    )
    assert shown(*events, terminal=False).splitlines() == [
        "trial a1: inner.lr=0.1235, retrieval.candidates=all",
        "trial a1, step 200: dev F1 81.26",
        "trial a1 ended",
        "trial b2 failed: its process died",
    ]
