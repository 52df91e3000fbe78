"""What a training run shows while it goes on: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
EVERY_NOW_AND_THEN = {"prepare", "step"}  # every other event is worth a line of its own


class Display:
    """Shows the events of `metacross.ray_training.driver.train`; a context manager, to be called with every event.

    Args:
        console: where to; stdout by default. One that is no terminal gets plain lines, at most one every ten seconds
            besides measurements.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live = self.console.is_terminal
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

    def __call__(self, event: dict[str, Any]) -> None:
        """Shows one event; kinds it does not know are passed over."""
        kind = event["event"]
        if self._live and kind in EVERY_NOW_AND_THEN:
            self._draw(event)
            return
        line = describe(event)
        now = time.monotonic()
        if not line or (kind in EVERY_NOW_AND_THEN and now - self._last_line < PLAIN_SECONDS):
            return
        self._last_line = now
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self, event: dict[str, Any]) -> None:
        if event["event"] == "prepare":
            name, done, total, note = event["what"], event["done"], event["total"], _left(event)
        else:
            name, done, total, note = "training", event["step"], event["steps"], _pace(event)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)


def describe(event: dict[str, Any]) -> str:
    """An event in one line of text, "" for kinds that are not shown.

    >>> describe({"event": "eval", "step": 300, "plain": 81.25, "adapted": 83.5})
    'step 300: dev F1 83.50 adapted, 81.25 plain'
    >>> describe({"event": "start", "step": 300, "steps": 7200, "workers": 2})
    'going on after step 300 of 7200 (2 workers)'
    >>> describe({"event": "prepare", "what": "encoding source", "done": 64, "total": 1000})
    'encoding source: 64 of 1000'
    >>> describe({"event": "prepare", "what": "encoding source", "done": 64, "total": 1000, "left": 61})
    'encoding source: 64 of 1000, 0:01:01 left'
    """
    match event["event"]:
        case "prepare":
            return f"{event['what']}: {event['done']} of {event['total']}{', ' * ('left' in event)}{_left(event)}"
        case "start":
            what = f"going on after step {event['step']} of {event['steps']}" if event["step"] else "training"
            return f"{what} ({event['workers']} worker{'s' if event['workers'] > 1 else ''})"
        case "step":
            return f"step {event['step']} of {event['steps']}: {_pace(event)}"
        case "eval":
            keys = ("adapted", "plain", "target_adapted", "target_plain")
            found = [f"{event[key]:.2f} {key.replace('_', ' ')}" for key in keys if key in event]
            return f"step {event['step']}: dev F1 {', '.join(found)}"
        case "trial":
            chosen = ", ".join(f"{key}={_short(value)}" for key, value in event["chosen"].items())
            return f"trial {event['id']}: {chosen}"
        case "measured":
            return f"trial {event['id']}, step {event['step']}: dev F1 {event['score']:.2f}"
        case "ended":
            return f"trial {event['id']} {event['state']}{': ' if event['error'] else ''}{event['error']}"
        case "note":
            return str(event["text"])
    return ""


def _left(event: dict[str, Any]) -> str:
    return f"{clock(event['left'])} left" if "left" in event else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pace(event: dict[str, Any]) -> str:
    return (
        f"loss {event['loss']:.4f}, {event['steps_per_second']:.2f} steps/s, "
        f"{event['pieces_per_second']:.0f} pieces/s, {clock(event['seconds_left'])} left"
    )


def clock(seconds: float) -> str:
    """A duration as h:mm:ss.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
