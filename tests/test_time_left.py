"""The estimate counts this start's steps and what comes between them."""

from __future__ import annotations

import pytest

from metacross.time_left import TimeLeft


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows its only element."""
    now = [1000.0]
    monkeypatch.setattr("metacross.time_left.time.monotonic", lambda: now[0])
    return now


def test_steps_done_before_do_not_count(clock: list[float]) -> None:
    time_left = TimeLeft(1000, done=900, period=50)
    clock[0] += 20
    assert time_left.seconds(910) == 90 * 2


def test_measurements_count_in_proportion(clock: list[float]) -> None:
    """A second a step, and 30 seconds after every tenth."""
    time_left = TimeLeft(100, period=10)
    found = {}
    for step in range(1, 101):
        clock[0] += 1
        found[step] = time_left.seconds(step)
        if step % 10 == 0:
            clock[0] += 30
    assert found[10] == 90  # nothing is known of measurements yet
    assert [found[step] for step in (20, 35, 99, 100)] == [80 * 4, 65 * 4, 4, 0]


def test_a_change_of_pace_is_noticed_after_a_period(clock: list[float]) -> None:
    time_left = TimeLeft(1000, period=10)
    for step in range(1, 101):
        clock[0] += 1 if step <= 50 else 3
        left = time_left.seconds(step)
    assert left == 900 * 3


def test_without_a_period_all_of_this_start_counts(clock: list[float]) -> None:
    time_left = TimeLeft(1000, done=100)
    assert time_left.seconds(100) == 0  # nothing is known yet
    clock[0] += 50
    assert time_left.seconds(150) == 850
    clock[0] += 150
    assert time_left.seconds(200) == 800 * 2
    assert time_left.seconds(1000) == 0
