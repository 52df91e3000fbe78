"""What adaptation costs over HTTP: the whole service, asked by 1, 8 and 64 clients at once.

    python -m benchmarks.serving_http BUNDLE --data pt=UNER/pt_bosque/dev.iob2 --data zh=UNER/zh_gsdsimp/dev.iob2

The service of serve/app.py runs on its own Ray with one Tagger, one thread of torch, and no examples. Its clients run
in another process. Every request has one text, to be tagged by theta (plain) or by weights adapted to it (adapted).
Within a repeat both ways tag the same texts, in turn, at every number of clients; ratios are taken within a repeat.
Before the first repeat every text is tagged once in both ways at every number of clients, so that the factors of its
support are cached; misses that happen all the same are shown.

Serve reads its proxy's settings when it starts. So each proxy has its own service, one after the other, and figures of
different proxies are not taken side by side, unlike those of the two ways.

The floor is what a request to /healthz takes, which no Tagger sees: the clients, the proxy and the HTTP interface. The
clients' own processor time per request is printed beside it. The ceiling is what a tagger in this process does with the
same texts in full batches, by one thread, in the same repeat, while nothing is asked of the service.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.http_client import HEALTH, HOST, Seen, entities_request, send
from benchmarks.http_report import CLIENTS, WAYS, Block, Found, draw, floor_lines, latency_table, stage_table
from benchmarks.http_service import observed, stages_ms, start, stop
from benchmarks.machine import machine
from benchmarks.serving import batches_of
from metacross import AdaptiveTagger
from metacross.bundle import check_bundle
from metacross.errors import UserError
from serve.ray_internals import BY_GRPC

PROXIES: dict[str, dict[str, str]] = {
    "default": {},
    "HAProxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"},
    "HAProxy, throughput": {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
}  # name -> environment
SETTINGS = {
    "serve.device": "cpu",
    "serve.replicas": "1",
    "serve.examples": "",
    "serve.factor_cache_mb": "4096",  # so that it holds the support of all texts
}


class Service:
    """A service behind one proxy, and its clients: a process each. Not started until it is entered."""

    def __init__(self, bundle: Path, proxy: str) -> None:
        self._settings = {"bundle": str(bundle), **SETTINGS}
        self._environment = {"OMP_NUM_THREADS": "1", **BY_GRPC, **PROXIES[proxy]}
        self._within = ExitStack()

    def __enter__(self) -> Service:
        with ExitStack() as within, environment(self._environment):
            spawn = get_context("spawn")
            self._clients = within.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
            self._service = within.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
            within.callback(lambda: self._service.submit(stop).result())
            self._port = free_port()
            self._service.submit(start, self._settings, self._port).result()
            self._within = within.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._within.close()

    def send(self, requests: Sequence[bytes], clients: int, expected: bytes) -> Seen:
        """See `http_client.send`."""
        return self._clients.submit(send, self._port, requests, clients, expected).result()

    def observed(self) -> dict[str, float]:
        """See `http_service.observed`."""
        return self._service.submit(observed).result()

    def ask(self, texts: Sequence[str], clients: int, way: str) -> Seen:
        """Asks for the entities of texts."""
        adapt = WAYS[way]
        requests = [entities_request(text, adapt=adapt) for text in texts]
        return self.send(requests, clients, f'"adapted":{json.dumps(adapt)}'.encode())


class InProcess:
    """A tagger in this process, with what the service's Tagger has."""

    def __init__(self, bundle: Path) -> None:
        torch.set_num_threads(1)
        overrides = [f"{name}={SETTINGS[name]}" for name in ("serve.device", "serve.factor_cache_mb")]
        self._tagger = AdaptiveTagger.from_pretrained(bundle, overrides=overrides)

    def rate(self, texts: Sequence[str], way: str) -> float:
        """Texts a second, in batches as large as those of the service are when enough requests wait."""
        size, began = self._tagger.config.serve.batch_requests, time.perf_counter()
        for first in range(0, len(texts), size):
            self._tagger.tag_texts(texts[first : first + size], adapt=WAYS[way])
        return len(texts) / (time.perf_counter() - began)


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, for those that it starts inside."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def measure(
    service: Service, ceiling: InProcess, proxy: str, texts: Sequence[Sequence[str]], console: Console
) -> Found:
    """Measures a service that has started.

    Args:
        service: the service.
        ceiling: a tagger without a service.
        proxy: the proxy in front of it.
        texts: for every repeat its texts.
        console: where progress is printed.
    """
    found = Found(proxy)
    distinct = sorted({text for repeat in texts for text in repeat})
    console.print(f"{proxy}: warming up with {len(distinct)} texts")
    errors: Counter[str] = Counter()
    for way in WAYS:
        ceiling.rate(distinct, way)
    for clients in CLIENTS:
        for way in WAYS:
            errors.update(service.ask(distinct, clients, way).errors)
        health = [HEALTH] * max(2 * len(texts[0]), 256)
        service.send(health, clients, b"alive")
        found.floors[clients] = service.send(health, clients, b"alive")
    found.warm_up_errors = dict(errors)
    for repeat, some in enumerate(texts):
        console.print(f"{proxy}: repeat {repeat + 1} of {len(texts)}")
        for way in WAYS:
            found.in_process.setdefault(way, []).append(ceiling.rate(some, way))
        for clients in CLIENTS:
            for way in reversed(WAYS) if repeat % 2 else WAYS:
                before = service.observed()
                seen = service.ask(some, clients, way)
                after = service.observed()
                stages = stages_ms(before, after, seconds=seen.seconds)
                counts = (int(after[name] - before[name]) for name in ("batches", "misses"))
                found.blocks.append(Block(repeat, clients, way, seen, stages, *counts))
    return found


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[list[str], typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    requests: Annotated[int, typer.Option(min=1, help="of each way, in a repeat, at each number of clients")] = 256,
    repeats: Annotated[int, typer.Option(min=2, help="turns")] = 5,
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write PATH.png and PATH.svg")] = None,
) -> None:
    """Times answers of the service over HTTP, plain and adapted, behind each of Serve's proxies."""
    try:
        check_bundle(bundle)
        texts = batches_of(data, requests, repeats, seed=0)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    about = machine(threads=1)
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    console, progress = Console(width=150), Console(stderr=True)
    every: list[Found] = []
    ceiling = InProcess(bundle)
    failed: dict[str, str] = {}
    for proxy in PROXIES:
        try:
            with Service(bundle.absolute(), proxy) as service:
                every.append(measure(service, ceiling, proxy, texts, progress))
        except Exception as error:  # that a proxy does not run here is a result
            failed[proxy] = f"{type(error).__name__}: {error}"
            print(f"{proxy}: did not run: {failed[proxy]}")
    if json_path is not None:
        settings = {**SETTINGS, "data": data, "requests": requests, "repeats": repeats}
        content = {"machine": about, "settings": settings, "found": [asdict(f) for f in every], "failed": failed}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not every:
        raise typer.Exit(1)
    for found in every:
        for line in floor_lines(found):
            console.print(line)
        if found.warm_up_errors:
            console.print(f"{found.proxy}: errors while warming up: {found.warm_up_errors}")
    console.print(latency_table(every))
    console.print(stage_table(every))
    if plot is not None:
        for path in draw(every, plot, f"{about['cpu']}, {about['cores']} cores, one Tagger, one thread"):
            print(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
