"""Files of events, one JSON object a line: a run's progress.jsonl and a sweep's trials.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from metacross.events import Event, from_json, to_json


def to_line(event: Event) -> str:
    """An event as a line of a file, with its newline."""
    return json.dumps(to_json(event), ensure_ascii=False) + "\n"


def read_events(path: Path) -> list[Event]:
    """All events in a file, in order; kinds that this version does not know are left out.

    So is a last line without its end: whoever wrote it was killed, or is still writing.
    """
    complete, _, _ = path.read_bytes().rpartition(b"\n")
    return _events(complete)


class EventTail:
    """Reads the events that are added to a file from now on; the file need not exist yet.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def new(self) -> list[Event]:
        """The events since the last call. A line that is still being written is left for the next call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                complete, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._at += len(complete) + len(newline)
        return _events(complete)


def _events(content: bytes) -> list[Event]:
    # Lines are split as bytes: a text may hold characters at which str.splitlines would split too.
    events = (from_json(json.loads(line)) for line in content.splitlines())
    return [event for event in events if event is not None]
