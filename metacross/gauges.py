"""Gauges that Prometheus goes on finding while their values do not change.

Ray 2.60 exports a gauge for twice `metrics_report_interval_ms` (20 s by default) after it was set, and then no more
(`ray/_private/telemetry/open_telemetry_metric_recorder.py`). What changes seldom would vanish, and so would the figures
of a training that stands, with the alerts that are for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from metacross.background import repeated

SECONDS = 1.0  # between two settings; no more than Ray's shortest interval


class Gauge(Protocol):
    """A gauge of ray.util.metrics or ray.serve.metrics."""

    def set(self, value: float, tags: dict[str, str]) -> Any:
        """Sets it for one combination of tags."""


class Gauges:
    """Sets gauges, and sets them again to the same values until it is closed or the process ends.

    Args:
        seconds: between two settings.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._values: dict[tuple[Gauge, frozenset[tuple[str, str]]], float] = {}
        self._lock = threading.Lock()  # so that no older value follows a newer one
        self._again = ExitStack()
        self._again.enter_context(repeated(self._set_again, seconds=seconds, name="gauges"))

    def set(self, gauge: Gauge, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Sets a gauge now, and from now on."""
        with self._lock:
            self._values[gauge, frozenset((tags or {}).items())] = value
            gauge.set(value, tags=dict(tags or {}))

    def close(self) -> None:
        """Leaves the gauges alone: their figures go."""
        self._again.close()

    def _set_again(self) -> None:
        with self._lock:
            for (gauge, tags), value in self._values.items():
                gauge.set(value, tags=dict(tags))
