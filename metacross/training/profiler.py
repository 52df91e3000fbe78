"""Where a run's time goes: torch's profiler over a few meta-steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from metacross.events import Note, Show
from metacross.training.loop import AroundStep

TRACED_STEPS = 10
WARM_UP_STEPS = 5  # not traced: the first steps still fill caches
ROWS = 40  # of the table of operations


@contextmanager
def profiled(folder: Path, *, wanted: bool, steps: int, device: torch.device, report: Show) -> Iterator[AroundStep]:
    """Yields the `around_step` of `loop.run`; the trace is written after its last step, or at the end of the block.

    Args:
        folder: where to write; see `StepProfiler`.
        wanted: whether to trace; if not, nothing is put around steps.
        steps: meta-steps of the complete run.
        device: where the model runs.
        report: gets a note that says where the trace is, or why there is none.
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
    """Traces `TRACED_STEPS` meta-steps after `WARM_UP_STEPS`; fewer warm up where the run would end before.

    Writes `folder/steps-A-B.pt.trace.json.gz`, a Chrome trace (for Perfetto, chrome://tracing or TensorBoard) in which
    every meta-step is a named range, and beside it a text file with the operations that took most time.

    Args:
        folder: where to write.
        steps: meta-steps of the complete run.
        device: where the model runs.
        report: gets a note about what was written.
    """

    def __init__(self, folder: Path, *, steps: int, device: torch.device, report: Show) -> None:
        self._folder = folder
        self._steps = steps
        self._device = device
        self._report = report
        self._first: int | None = None  # the first traced step, counted from 1; None until a step has begun
        self._last = 0  # the last step that was traced to its end; 0 before the first
        self._profile: Any = None  # torch's profiler while it traces

    @contextmanager
    def around(self, done: int) -> Iterator[None]:
        """The context of a meta-step, before which `done` of them are done."""
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
        """Stops tracing and writes what was traced; does nothing where nothing is being traced."""
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
            self._report(Note(f"no trace: {path} cannot be written ({error.strerror or error})"))
            return
        self._report(Note(f"trace of steps {self._first} to {self._last}: {path}"))

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, record_shapes=True)
        self._profile.start()
