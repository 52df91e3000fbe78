"""A look at where a run's time goes: torch's profiler over a few meta-steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from metacross.training.loop import AroundStep

TRACED_STEPS = 10
WARM_UP_STEPS = 5  # before them: the first steps still fill caches
ROWS = 40  # of the table


@contextmanager
def profiled(
    folder: Path, *, wanted: bool, steps: int, device: torch.device, report: Callable[[dict[str, Any]], None]
) -> Iterator[AroundStep]:
    """Gives what `training_loop.run` puts around every step; the trace is written after its steps, or at the end.

    Args:
        folder: where to write; see `StepProfiler`.
        wanted: else nothing is put around steps.
        steps: of the whole run.
        device: where the model runs.
        report: is told where the trace is, or why there is none.
    """
    if not wanted:
        yield lambda done: nullcontext()
        return
    profiler = StepProfiler(folder, steps=steps, device=device, report=report)
    try:
        yield profiler.around
    finally:
        profiler.finish()


class StepProfiler:
    """Traces `TRACED_STEPS` meta-steps after `WARM_UP_STEPS`, earlier where the run ends before.

    Writes `folder/steps-A-B.pt.trace.json.gz`, a Chrome trace (for Perfetto, chrome://tracing or TensorBoard) in which
    every meta-step is a range of its name, and beside it the operations that took most time, as text.
    """

    def __init__(
        self, folder: Path, *, steps: int, device: torch.device, report: Callable[[dict[str, Any]], None]
    ) -> None:
        self._folder = folder
        self._steps = steps
        self._device = device
        self._report = report
        self._first: int | None = None  # step that is traced, counted from 1; None before the run's first
        self._last = 0
        self._profile: Any = None

    @contextmanager
    def around(self, done: int) -> Iterator[None]:
        """Is put around a meta-step, when `done` of them are done."""
        step = done + 1
        if self._first is None:
            self._first = min(step + WARM_UP_STEPS, max(step, self._steps - TRACED_STEPS + 1))
        if step == self._first:
            self._start()
        if self._profile is None:
            yield
            return
        with record_function(f"meta-step {step}"):
            yield
        self._last = step
        if step == self._first + TRACED_STEPS - 1 or step == self._steps:
            self.finish()

    def finish(self) -> None:
        """Stops tracing and writes what was traced; nothing where nothing is being traced."""
        running, self._profile = self._profile, None
        if running is None:
            return
        running.stop()
        if not self._last:  # the first traced step failed
            return
        path = self._folder / f"steps-{self._first}-{self._last}.pt.trace.json.gz"
        by = "self_cpu_time_total" if self._device.type == "cpu" else "self_device_time_total"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            running.export_chrome_trace(str(path))
            table = running.key_averages().table(sort_by=by, row_limit=ROWS)
            path.with_name(path.name.replace(".pt.trace.json.gz", ".txt")).write_text(table, encoding="utf-8")
        except OSError as error:  # such as a full disk: no reason to lose a training
            self._report({"event": "note", "text": f"no trace: {path} cannot be written ({error.strerror or error})"})
            return
        self._report({"event": "note", "text": f"trace of steps {self._first} to {self._last}: {path}"})

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, record_shapes=True)
        self._profile.start()
