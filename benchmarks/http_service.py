"""The service of serve/app.py on its own Ray, in a process that does nothing else, for `benchmarks.serving_http`.

It differs from the service that users start in one thing: its Tagger also adds up the seconds of its stages. Prometheus
would not do for this, since Ray makes up a histogram's sum from the middles of its buckets.
"""

from __future__ import annotations

import logging
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks.http_client import HOST

STAGES = ("encode", "search", "adapt", "tag")
INSIDE, OUTSIDE = "words, entities", "HTTP, routing, waiting"
READY_S = 120.0


def stages_ms(before: Mapping[str, float], after: Mapping[str, float], *, seconds: float) -> dict[str, float]:
    """Where the time of a block of requests went, in ms per request. The parts add up to the block's time.

    Args:
        before: what the Tagger had added up before the block, see `observed`.
        after: what it had added up after the block.
        seconds: how long the block took.

    Returns:
        The Tagger's stages; its other work (words of a text, pieces, entities of tags) as `INSIDE`; and the time in
        which it worked on no request as `OUTSIDE`.
    """
    spent = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in (*STAGES, "answer", "requests")}
    requests, answer = spent.pop("requests"), spent.pop("answer")
    spent[INSIDE] = answer - sum(spent.values())
    spent[OUTSIDE] = seconds - answer
    return {name: 1000 * value / (requests or float("nan")) for name, value in spent.items()}


def start(settings: dict[str, str], port: int) -> None:
    """Starts Ray and the service, and waits until it answers.

    Args:
        settings: as `serve.app.build` takes them.
        port: of the service.

    Raises:
        RuntimeError: it does not start, or is not ready in time.
    """
    from ray import serve as ray_serve
    from ray.serve.config import HTTPOptions

    from metacross.ray_session import start_ray

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    start_ray(cpus=2)
    ray_serve.start(http_options=HTTPOptions(host=HOST, port=port))
    ray_serve.run(_clocked(settings))
    deadline = time.monotonic() + READY_S
    while (reason := _ready(port)) != "":
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready after {READY_S:g} s: {reason}")
        time.sleep(0.2)


def _ready(port: int) -> str:
    """Why the service is not ready; empty where it is."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=10):
            return ""
    except (OSError, urllib.error.URLError) as error:
        return str(error)


def observed() -> dict[str, float]:
    """What the Tagger has added up since it started.

    Seconds by stage, seconds of complete batches ("answer"), the numbers of requests and batches, and how often the
    factors of a support sentence were cached (hits) or not (misses).
    """
    from ray import serve as ray_serve

    from serve.ray_internals import answers_threads

    tagger = ray_serve.get_deployment_handle("Tagger", "default")
    answers_threads(tagger)
    found: dict[str, float] = tagger.observed.remote().result(timeout_s=READY_S)
    return found


def stop() -> None:
    """Ends the service and its Ray."""
    import ray
    from ray import serve as ray_serve

    if ray.is_initialized():
        ray_serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


def _clocked(settings: dict[str, str]) -> Any:
    """The service, its Tagger with a clock."""
    from serve import app
    from serve.tagger import Tagger

    plain: Any = Tagger  # a deployment, which mypy does not see
    base: Any = plain.func_or_class

    class Clocked(base):  # type: ignore[misc]
        """A Tagger that adds up its time."""

        def __init__(self, *arguments: Any) -> None:
            base.__init__(self, *arguments)
            self._spent: dict[str, float] = defaultdict(float)
            stage = self._metrics.stage

            @contextmanager
            def clocked(name: str) -> Iterator[None]:
                began = time.perf_counter()
                with stage(name):
                    yield
                self._spent[name] += time.perf_counter() - began

            self._metrics.stage = clocked

        def _do(self, stretches: list[Any]) -> None:
            began = time.perf_counter()
            try:
                base._do(self, stretches)
            finally:
                self._spent["answer"] += time.perf_counter() - began
                self._spent["requests"] += len(stretches)  # each request is short, and done in one batch
                self._spent["batches"] += 1

        async def observed(self) -> dict[str, float]:
            """See above."""
            figures = self._engine.cache_figures
            return {**self._spent, "hits": figures.hits, "misses": figures.misses}

    with mock.patch.object(app, "Tagger", plain.options(func_or_class=Clocked)):
        return app.build(settings)
