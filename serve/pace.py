"""How much work may be in a batch that is to take a certain time, learnt from the batches before."""

from __future__ import annotations

START = 2000.0  # cost a second, before the first batch
LEAST = (
    288  # cost of three sentences with their support: in smaller batches what every batch costs would weigh too much
)
MOST = 1 << 15  # cost; what a batch holds in memory grows with it
NEWEST = 0.3  # weight of the newest batch in the average


class Pace:
    """The cost that is done in a given time on this machine, with these caches and beside whatever else runs here.

    Args:
        seconds: that a batch is to take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._per_second = seconds, START

    @property
    def budget(self) -> int:
        """The cost of a batch that takes about as long as it is to take."""
        return int(min(max(self._per_second * self._seconds, LEAST), MOST))

    def took(self, cost: int, seconds: float) -> None:
        """Tells how long a batch took. Small ones count for nothing: most of their time does not depend on the cost."""
        if cost >= LEAST and seconds > 0:
            self._per_second += NEWEST * (cost / seconds - self._per_second)
