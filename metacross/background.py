"""Something that is looked at again and again beside other work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(action: Callable[[], None], *, seconds: float, name: str) -> Iterator[None]:
    """Inside the block a thread calls `action` every so many seconds; at the end of the block once more.

    Args:
        action: what to do; must not raise.
        seconds: between the end of a call and the next one.
        name: the thread's.
    """
    over = threading.Event()

    def repeat() -> None:
        last = False
        while not last:
            last = over.wait(seconds)
            action()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
