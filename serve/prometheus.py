"""The metrics that the service exports to Prometheus through Serve; docs/deploying/watching.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from ray.serve import metrics

from metacross.gauges import Gauges

SECONDS: list[float] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]
SIZES: list[float] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


class TaggerMetrics:
    """The metrics of a Tagger."""

    def __init__(self) -> None:
        self._stage = metrics.Histogram(
            "metacross_stage_seconds",
            description="Time of a stage of a batch.",
            boundaries=SECONDS,
            tag_keys=("stage",),
        )
        # Ray 2.60 exports a histogram's sum as if all values lay in the middles of their buckets; this one is exact.
        self._spent = metrics.Counter(
            "metacross_stage_spent_seconds", description="Time of a stage, all batches together.", tag_keys=("stage",)
        )
        self._requests = metrics.Histogram(
            "metacross_batch_requests", description="Requests taken into a batch.", boundaries=SIZES
        )
        self._windows = metrics.Histogram(
            "metacross_batch_windows",
            description="Windows tagged in a batch; in some, neighbours are only looked up.",
            boundaries=SIZES,
        )
        # The exact sum; see _spent.
        self._batched = metrics.Counter("metacross_batched_requests", description="Requests in all batches together.")
        self._waiting = metrics.Gauge("metacross_queue", description="Requests that wait for the next batch.")
        self._found = metrics.Counter(
            "metacross_cache_lookups",
            description="Support sentences whose factors were needed, and whether they were kept.",
            tag_keys=("found",),
        )
        self._bytes = metrics.Gauge("metacross_cache_bytes", description="Memory of the factors kept.")
        self._hits = self._misses = 0
        self._gauges = Gauges()
        self._pending = metrics.Gauge(
            "metacross_bundle_pending",
            description="1 while the bundle that user_config names does not answer: it is loaded, or was refused.",
        )

    def pending(self, yes: bool) -> None:
        """Records whether the bundle that was named last does not answer yet."""
        self._gauges.set(self._pending, int(yes))

    def batch(self, requests: int, windows: int, *, waiting: int) -> None:
        """Records a batch as it begins, and how many requests wait for the next one."""
        self._requests.observe(requests)
        self._windows.observe(windows)
        self._batched.inc(requests)
        self._gauges.set(self._waiting, waiting)

    def cache(self, *, hits: int, misses: int, size: int) -> None:
        """Records what the cache has done since it was made, and its size in bytes."""
        if hits + misses < self._hits + self._misses:
            self._hits = self._misses = 0  # the figures count from 0 again: the cache belongs to a new bundle
        for found, more in (("yes", hits - self._hits), ("no", misses - self._misses)):
            if more > 0:
                self._found.inc(more, tags={"found": found})
        self._hits, self._misses = hits, misses
        self._gauges.set(self._bytes, size)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the stage of a batch that runs inside of this context."""
        began = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - began
            self._stage.observe(seconds, tags={"stage": name})
            self._spent.inc(seconds, tags={"stage": name})


def request_metrics() -> Callable[[str, int, float, str], None]:
    """The metrics of an Ingress: a function that records a request's route, status, seconds and its token's name."""
    # Ray's annotation is for a single key.
    keys: Any = ("route", "status", "client")
    count = metrics.Counter("metacross_requests", description="Requests answered.", tag_keys=keys)
    seconds = metrics.Histogram(
        "metacross_request_seconds", description="Time of a request.", boundaries=SECONDS, tag_keys=("route",)
    )

    def observed(route: str, status: int, duration: float, client: str) -> None:
        count.inc(tags={"route": route, "status": str(status), "client": client})
        seconds.observe(duration, tags={"route": route})

    return observed
