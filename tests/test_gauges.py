"""Gauges are set again to their last values, until they are left alone."""

from __future__ import annotations

import threading
import time

from metacross.gauges import Gauges


class Noted:
    """In place of one of Ray's gauges."""

    def __init__(self) -> None:
        self.values: list[tuple[float, dict[str, str]]] = []
        self.thrice = threading.Event()

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values.append((value, tags))
        if self.values.count((value, tags)) == 3:
            self.thrice.set()


def test_a_gauge_is_set_again_to_its_last_value_for_each_of_its_tags() -> None:
    gauges, gauge = Gauges(seconds=0.001), Noted()
    gauges.set(gauge, 1.0, {"run": "first"})
    gauges.set(gauge, 2.0, {"run": "second"})
    gauges.set(gauge, 3.0, {"run": "first"})
    assert gauge.thrice.wait(60)
    gauges.close()
    before = gauge.values.index((3.0, {"run": "first"}))
    assert (1.0, {"run": "first"}) not in gauge.values[before:]
    assert (2.0, {"run": "second"}) in gauge.values[before:]


def test_it_ends_with_its_owner() -> None:
    gauges, gauge = Gauges(seconds=0.001), Noted()
    gauges.set(gauge, 1.0)
    gauges.close()
    count = len(gauge.values)
    time.sleep(0.01)
    assert len(gauge.values) == count
