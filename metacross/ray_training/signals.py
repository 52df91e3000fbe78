"""What Ctrl-C and SIGTERM do to a driver."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from metacross.signals import first_signal


@contextmanager
def stop_on_signal(run_dir: Path) -> Iterator[list[str]]:
    """For a run: the first SIGINT or SIGTERM creates STOP in `run_dir`, the second raises KeyboardInterrupt.

    Yields a list that gets what the user should be told.
    """
    notes: list[str] = []

    def stop() -> None:
        (run_dir / "STOP").touch()
        notes.append("stopping after this step; once more to stop at once")

    with first_signal(stop):
        yield notes


@contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """For a sweep: SIGTERM, as `ray job stop` sends it, does what Ctrl-C does: Ray Tune saves its state and returns.

    Ray blocks SIGINT in all its processes, and so in a job's: it is let through here. Shells start background jobs with
    SIGINT ignored: there SIGTERM raises KeyboardInterrupt itself. Does nothing outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGINT)
