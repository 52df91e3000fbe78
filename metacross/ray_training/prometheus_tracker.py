"""A run's figures as Prometheus reads them at the metrics port of the node; docs/deploying/watching.md lists them."""

from __future__ import annotations

import time
from pathlib import Path

from ray.util.metrics import Gauge

from metacross.events import Event, Measurement, Start, StepsDone, to_fields
from metacross.gauges import Gauges
from metacross.training import checkpoint


class Prometheus:
    """Shows where a run is now. What it was before is Prometheus' to keep: a gauge has no history.

    Args:
        name: of the run, by which its figures are told apart from those of others.
        run_dir: the run's directory, whose checkpoints are looked at.
    """

    def __init__(self, name: str, run_dir: Path) -> None:
        self._run, self._run_dir, self._gauges = {"run": name}, run_dir, Gauges()
        self._step = self._gauge("step", "Meta-steps done.")
        self._steps = self._gauge("steps", "Meta-steps of the complete run.")
        self._workers = self._gauge("workers", "Workers that train together.")
        self._loss = self._gauge("loss", "Mean loss of the last meta-steps.")
        self._pieces = self._gauge("pieces_per_second", "Word pieces trained on, by all workers together.")
        self._checkpoint = self._gauge("checkpoint_seconds", "When the newest checkpoint was written, in Unix time.")
        self._f1 = self._gauge("dev_f1", "F1 on development data, in percent, by way of tagging.", "tagged")
        self._began = time.time()

    def __call__(self, event: Event) -> None:
        """Takes one event; those without figures change nothing."""
        match event:
            case Start():
                self._set(self._workers, event.workers)
                self._progress(event)
            case StepsDone():
                self._progress(event)
                self._set(self._loss, event.loss)
                self._set(self._pieces, event.pieces_per_second)
                self._set(self._checkpoint, self._written())
            case Measurement():
                for tagged, f1 in to_fields(event).items():
                    if tagged != "step":
                        self._set(self._f1, f1, tagged=tagged)

    def close(self, status: str) -> None:
        """The figures go."""
        self._gauges.close()

    def _progress(self, event: Start | StepsDone) -> None:
        self._set(self._step, event.step)
        self._set(self._steps, event.steps)

    def _written(self) -> float:
        """When the newest checkpoint was written; without any, when this run, or this part of it, began."""
        newest = checkpoint.paths(self._run_dir)[-1:]
        return max([self._began, *(path.stat().st_mtime for path in newest)])

    def _set(self, gauge: Gauge, value: float, **tags: str) -> None:
        self._gauges.set(gauge, value, {**self._run, **tags})

    def _gauge(self, name: str, description: str, *tags: str) -> Gauge:
        return Gauge(f"metacross_train_{name}", description=description, tag_keys=("run", *tags))
