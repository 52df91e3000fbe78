"""What a training run shows while it goes on: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self, assert_never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from metacross import json_logs
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
    to_json,
)
from metacross.wording import counted

PLAIN_SECONDS = 10.0  # between two lines about work in progress, where there is no terminal
IN_PROGRESS = (Preparation, StepsDone)  # come often
TRAINING = "training"  # the bar that meta-steps move


class Display:
    """Shows the events of a run, a sweep or an index build; a context manager, to be called with every event.

    Work in progress (`IN_PROGRESS`) moves a bar in a terminal. Elsewhere it gets a line at most every ten
    seconds. Every other event has a line of its own in any case. Where logs are JSON, a line also has the event itself.

    Args:
        console: where to; stdout by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._json = json_logs.wanted()
        self._live = self.console.is_terminal and not self._json
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = float("-inf")

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        if self._live and isinstance(event, IN_PROGRESS):
            self._draw(event)
            return
        now = time.monotonic()
        if isinstance(event, IN_PROGRESS) and now - self._last_line < PLAIN_SECONDS:
            return
        self._last_line = now
        if self._json:
            print(json_logs.line(describe(event), event=to_json(event)), file=self.console.file, flush=True)
            return
        self.console.print(describe(event), markup=False, highlight=False, soft_wrap=True)

    def _draw(self, event: Preparation | StepsDone) -> None:
        """Moves the event's bar."""
        match event:
            case Preparation():
                name, done, total, note = event.what, event.done, event.total, _left(event)
            case StepsDone():
                name, done, total, note = TRAINING, event.step, event.steps, _pace(event)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)


def describe(event: Event) -> str:
    """An event in one line of text.

    >>> describe(Measurement(step=300, plain=81.25, adapted=83.5))
    'step 300: dev F1 83.50 adapted, 81.25 plain'
    >>> describe(Start(step=300, steps=7200, workers=2))
    'going on after step 300 of 7200 (2 workers)'
    >>> describe(Preparation("encoding source", done=64, total=1000))
    'encoding source: 64 of 1000'
    >>> describe(Preparation("encoding source", done=64, total=1000, left=61))
    'encoding source: 64 of 1000, 0:01:01 left'
    """
    match event:
        case Preparation():
            left = _left(event)
            return f"{event.what}: {event.done} of {event.total}{f', {left}' if left else ''}"
        case Start():
            what = f"going on after step {event.step} of {event.steps}" if event.step else "training"
            return f"{what} ({counted(event.workers, 'workers')})"
        case StepsDone():
            return f"step {event.step} of {event.steps}: {_pace(event)}"
        case Measurement():
            f1 = {
                "adapted": event.adapted,
                "plain": event.plain,
                "target adapted": event.target_adapted,
                "target plain": event.target_plain,
            }
            shown = ", ".join(f"{value:.2f} {name}" for name, value in f1.items() if value is not None)
            return f"step {event.step}: dev F1 {shown}"
        case TrialStart():
            chosen = ", ".join(f"{key}={_short(value)}" for key, value in event.chosen.items())
            return f"trial {event.id}: {chosen}"
        case TrialMeasurement():
            return f"trial {event.id}, step {event.step}: dev F1 {event.score:.2f}"
        case TrialEnd():
            return f"trial {event.id} {event.state}{f': {event.error}' if event.error else ''}"
        case Note():
            return event.text
    assert_never(event)


def _left(event: Preparation) -> str:
    return "" if event.left is None else f"{clock(event.left)} left"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pace(event: StepsDone) -> str:
    return (
        f"loss {event.loss:.4f}, {event.steps_per_second:.2f} steps/s, "
        f"{event.pieces_per_second:.0f} pieces/s, {clock(event.seconds_left)} left"
    )


def clock(seconds: float) -> str:
    """A duration as h:mm:ss.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
