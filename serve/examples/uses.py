"""How often examples shape answers: counted in memory, and written to the store from time to time.

Counting adds numbers to a dictionary. Writing is done by a thread of its own, so no answer waits for it. What was
counted since it was written last is lost when a process dies.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from metacross.errors import RunError
from serve.examples.store import ExampleStore

WRITE_SECONDS = 10.0

log = logging.getLogger("metacross.serve")


class UseCounter:
    """Counts uses of a store's examples. Any number of threads may use it.

    Args:
        store: gets the counts.
    """

    def __init__(self, store: ExampleStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._last = datetime.now(UTC)

    def count(self, examples: Iterable[int]) -> None:
        """Counts one use of each of these examples, by number."""
        with self._lock:
            self._counts.update(examples)
            self._last = datetime.now(UTC)

    def write(self) -> None:
        """Writes down what was counted; it is kept for the next time where the database does not answer."""
        with self._lock:
            counts, last, self._counts = self._counts, self._last, Counter()
        if not counts:
            return
        try:
            self._store.add_uses(counts, last)
        except RunError as error:
            log.warning("uses of examples are written later: %s", error)
            with self._lock:
                self._counts.update(counts)

    def write_regularly(self, seconds: float = WRITE_SECONDS) -> None:
        """Starts a thread that writes for as long as the process lives."""
        threading.Thread(target=self._write_regularly, args=(seconds,), name="uses of examples", daemon=True).start()

    def _write_regularly(self, seconds: float) -> None:
        pause = threading.Event()
        while not pause.wait(seconds):
            self.write()
