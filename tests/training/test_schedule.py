"""Learning rates, and how far runs of different length have them in common."""

from __future__ import annotations

import itertools

import pytest

from metacross.training.schedule import Schedule


def rates(steps: int, warmup: float, decay: float) -> list[float]:
    schedule = Schedule(steps=steps, peak=1.0, warmup=warmup, decay=decay)
    return [schedule.rate(step) for step in range(steps)]


def test_learning_rate_rises_and_falls() -> None:
    found = rates(100, 0.1, 1.0)
    assert found[0] == pytest.approx(0.1)
    assert max(found) == found[9] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(1 / 90)
    assert all(a > b for a, b in itertools.pairwise(found[10:]))


def test_learning_rate_stays_at_its_peak_before_it_falls() -> None:
    found = rates(100, 10, 0.2)
    assert found[:10] == rates(100, 0.1, 1.0)[:10]
    assert set(found[9:81]) == {1.0}
    assert found[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])


@pytest.mark.parametrize("warmup", [0, 0.1, 1.0, 7, 500])
@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("average", [0.0, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 33, 100])
def test_rates_are_greater_than_0_and_the_open_steps_are_those_of_any_longer_run(
    steps: int, warmup: float, decay: float, average: float
) -> None:
    schedule = Schedule(steps=steps, peak=1.0, warmup=warmup, decay=decay, average=average)
    averaged = [schedule.is_averaged(step) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates(steps, warmup, decay))
    for more in (1, 10, 1000):
        longer = Schedule(steps=steps + more, peak=1.0, warmup=warmup, decay=decay, average=average)
        common = schedule.steps_in_common(longer)
        assert schedule.open_steps <= common <= steps
        expected = [a == b for a, b in zip(rates(steps, warmup, decay), rates(steps + more, warmup, decay))]  # noqa: B905
        expected = [same and averaged[i] == longer.is_averaged(i) for i, same in enumerate(expected)]
        assert all(expected[:common])
        assert common == steps or not expected[common]
