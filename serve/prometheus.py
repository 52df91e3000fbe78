"""What Prometheus sees of the service, by Serve's metrics; docs/operations.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from ray.serve import metrics

from metacross.tagging.factor_cache import CacheFigures

SECONDS: list[float] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]
SIZES: list[float] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


class TaggerMetrics:
    """What Prometheus sees of a Tagger."""

    def __init__(self) -> None:
        self._stage = metrics.Histogram(
            "metacross_stage_seconds",
            description="Time of a stage of a batch.",
            boundaries=SECONDS,
            tag_keys=("stage",),
        )
        # Ray exports a histogram's sum as made up of its buckets' middles; this one is exact.
        self._spent = metrics.Counter(
            "metacross_stage_spent_seconds", description="Time of a stage, all batches together.", tag_keys=("stage",)
        )
        self._requests = metrics.Histogram(
            "metacross_batch_requests", description="Requests tagged together.", boundaries=SIZES
        )
        self._texts = metrics.Histogram("metacross_batch_texts", description="Texts of these.", boundaries=SIZES)
        self._waiting = metrics.Gauge("metacross_queue", description="Requests that wait for the next batch.")
        self._found = metrics.Counter(
            "metacross_cache_lookups",
            description="Support sentences whose factors were needed, and whether they were kept.",
            tag_keys=("found",),
        )
        self._bytes = metrics.Gauge("metacross_cache_bytes", description="Memory of the factors kept.")
        self._cache = CacheFigures()
        self._pending = metrics.Gauge(
            "metacross_bundle_pending",
            description="1 while the bundle that user_config names does not answer: it is loaded, or was refused.",
        )

    def pending(self, yes: bool) -> None:
        """Whether the bundle that was named last does not answer."""
        self._pending.set(int(yes))

    def batch(self, requests: int, texts: int, *, waiting: int) -> None:
        """A batch begins, and so many requests wait for the next one."""
        self._requests.observe(requests)
        self._texts.observe(texts)
        self._waiting.set(waiting)

    def cache(self, figures: CacheFigures) -> None:
        """What the cache has done by now."""
        before, self._cache = self._cache, figures
        if figures.hits + figures.misses < before.hits + before.misses:
            before = CacheFigures()  # of a new bundle
        for found, more in (("yes", figures.hits - before.hits), ("no", figures.misses - before.misses)):
            if more > 0:
                self._found.inc(more, tags={"found": found})
        self._bytes.set(figures.bytes)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage of a batch."""
        began = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - began
            self._stage.observe(seconds, tags={"stage": name})
            self._spent.inc(seconds, tags={"stage": name})


def request_metrics() -> Callable[[str, int, float], None]:
    """What Prometheus sees of an Ingress."""
    # Ray's annotation knows of a single key.
    keys: Any = ("route", "status")
    count = metrics.Counter("metacross_requests", description="Requests answered.", tag_keys=keys)
    seconds = metrics.Histogram(
        "metacross_request_seconds", description="Time of a request.", boundaries=SECONDS, tag_keys=("route",)
    )

    def observed(route: str, status: int, took: float) -> None:
        count.inc(tags={"route": route, "status": str(status)})
        seconds.observe(took, tags={"route": route})

    return observed
