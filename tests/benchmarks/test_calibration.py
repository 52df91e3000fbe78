"""The calibration error and the bins, by hand."""

from __future__ import annotations

import pytest

from benchmarks.calibration import Bin, Scored, bins_of, calibration_error


def test_bins_by_hand() -> None:
    scored = [Scored(0.75, True), Scored(0.71, False), Scored(1.0, True), Scored(0.0, False)]
    low, middle, high = bins_of(scored)
    assert low == Bin(1, 0.0, 0.0)
    assert middle == Bin(2, pytest.approx(0.73), 0.5)
    assert high == Bin(1, 1.0, 1.0)
    assert calibration_error(scored) == pytest.approx(2 / 4 * (0.73 - 0.5))
    assert calibration_error([]) == 0
