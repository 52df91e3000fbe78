"""SIGINT and SIGTERM as a wish: the work under way is completed first, and only a second one interrupts it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})


@contextmanager
def first_signal(action: Callable[[], None]) -> Iterator[None]:
    """Inside the block the first SIGINT or SIGTERM calls `action`, and the second raises KeyboardInterrupt.

    Does nothing outside of the main thread, which alone can handle signals.

    Args:
        action: notes the wish to end; it runs in a signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        action()

    before = {number: signal.signal(number, handle) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Inside the block SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that what was begun is cleared away.

    Leaves a handler alone that is there already. Does nothing outside of the main thread.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
