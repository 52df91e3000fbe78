"""What a short request and bulk work cost each other, over HTTP.

    python -m benchmarks.service_fairness BUNDLE --data samples/de/test.conll

The service runs on its own Ray with one Tagger and one thread of torch. A client sends a short request, waits for the
answer and sends the next one half a second after the one before began: alone, beside a long text that is one request,
and beside a stream of lines. Both kinds of bulk also run alone. What is printed is the 95th percentile (and the median)
of the short request's latency, and the characters that the bulk gets tagged in a second, alone and beside the client.

Without any bulk, the short request is also sent on a kept connection, on a new one, and as a line of a stream that
stays open, by turns.

The long text and the lines are sentences of the corpora, repeated. A bulk that fails, for example because it took too
long, is reported with its status. To compare with another version of the service, run the same file there.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPResponse
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.http_client import HOST, percentile
from benchmarks.http_service import stop
from benchmarks.machine import machine
from benchmarks.serving_http import SETTINGS, environment, free_port
from metacross.bundle import check_bundle
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError
from serve.ray_internals import BY_GRPC

PATIENCE_S = 1800.0
PERIOD_S = 0.5  # between the beginnings of two short requests
ALONE = 40  # short requests without any bulk
TURNS = 100  # of the three ways in which a short request comes


@dataclass(frozen=True)
class Bulk:
    """What became of bulk work.

    Attributes:
        seconds: until it was answered or refused.
        characters: that were tagged.
        status: of the answer.
    """

    seconds: float
    characters: int
    status: int

    @property
    def rate(self) -> float:
        """Characters a second."""
        return self.characters / self.seconds


@dataclass(frozen=True)
class Found:
    """The figures of one kind of bulk.

    Attributes:
        name: of the kind.
        alone: the bulk, with nobody else there.
        beside: the bulk beside the client of short requests.
        latencies: seconds of the short requests meanwhile.
    """

    name: str
    alone: Bulk
    beside: Bulk
    latencies: list[float]


class Service:
    """A service in a process of its own, from its start to its end."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle

    def __enter__(self) -> str:
        with environment({"OMP_NUM_THREADS": "1", **BY_GRPC}):
            self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            port = free_port()
            self._process.submit(start_plain, {"bundle": str(self._bundle), **SETTINGS}, port).result()
        return f"http://{HOST}:{port}"

    def __exit__(self, *exception: object) -> None:
        self._process.submit(stop).result()
        self._process.shutdown()


def start_plain(settings: dict[str, str], port: int) -> None:
    """Starts the service as users do, without the clock of `benchmarks.http_service`; so it starts any version."""
    from unittest import mock

    from benchmarks import http_service
    from serve.app import build

    with mock.patch.object(http_service, "_clocked", build):
        http_service.start(settings, port)


def short_requests(url: str, text: str, over: Callable[[int], bool]) -> list[float]:
    """Seconds of short requests, one every `PERIOD_S`, until `over`, which is given their number."""
    latencies: list[float] = []
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        while not over(len(latencies)):
            began = time.perf_counter()
            http.post("/v1/entities", json={"text": text}).raise_for_status()
            latencies.append(time.perf_counter() - began)
            time.sleep(max(0.0, PERIOD_S - latencies[-1]))
    return latencies


class OpenStream:
    """A stream that stays open: each line is sent when the answer to the one before is there."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(httpx.URL(url).host, httpx.URL(url).port, timeout=PATIENCE_S)
        self._connection.putrequest("POST", "/v1/entities:stream")
        self._connection.putheader("transfer-encoding", "chunked")
        self._connection.endheaders()
        self._answers: HTTPResponse | None = None

    def ask(self, text: str) -> None:
        """Sends a line and reads its answer."""
        line = json.dumps({"text": text}).encode() + b"\n"
        self._connection.send(b"%x\r\n%s\r\n" % (len(line), line))
        self._answers = self._answers or self._connection.getresponse()
        if "result" not in json.loads(self._answers.readline()):
            raise RuntimeError("a line of the stream was answered by an error")

    def close(self) -> None:
        """Ends the stream."""
        self._connection.send(b"0\r\n\r\n")
        self._connection.close()


def connections(url: str, text: str) -> dict[str, list[float]]:
    """Seconds of a short request on a kept connection, on a new one, and as a line of an open stream, by turns."""
    kept = httpx.Client(base_url=url, timeout=PATIENCE_S)
    new = httpx.Client(base_url=url, timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0))
    opened = OpenStream(url)
    asks: dict[str, Callable[[], object]] = {
        "on a kept connection": lambda: kept.post("/v1/entities", json={"text": text}).raise_for_status(),
        "on a new connection": lambda: new.post("/v1/entities", json={"text": text}).raise_for_status(),
        "as a line of an open stream": lambda: opened.ask(text),
    }
    latencies: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(TURNS):
        for name, ask in asks.items():
            began = time.perf_counter()
            ask()
            latencies[name].append(time.perf_counter() - began)
    for connection in (kept, new, opened):
        connection.close()
    return latencies


def long_text(url: str, sentences: list[str], characters: int) -> Bulk:
    """One request with a long text."""
    text = _repeated(sentences, characters)
    began = time.perf_counter()
    answer = httpx.post(f"{url}/v1/entities", json={"text": text}, timeout=PATIENCE_S)
    done = len(text) if answer.status_code == 200 else 0
    return Bulk(time.perf_counter() - began, done, answer.status_code)


def stream(url: str, sentences: list[str], lines: int) -> Bulk:
    """One request with many lines."""
    texts = list(itertools.islice(itertools.cycle(sentences), lines))
    body = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    began = time.perf_counter()
    answer = httpx.post(f"{url}/v1/entities:stream", content=body, timeout=PATIENCE_S)
    results = [json.loads(line) for line in answer.text.splitlines()]
    done = sum(len(record["result"]["text"]) for record in results if "result" in record)
    return Bulk(time.perf_counter() - began, done, 200 if all("result" in record for record in results) else 504)


def _repeated(sentences: list[str], characters: int) -> str:
    parts: list[str] = []
    size = 0
    for sentence in itertools.cycle(sentences):
        if size + len(sentence) > characters:
            return " ".join(parts)
        parts.append(sentence)
        size += len(sentence) + 1
    raise AssertionError


def measured(name: str, work: Callable[[], Bulk], url: str, text: str) -> Found:
    """The bulk alone, and beside short requests."""
    alone = work()
    latencies: list[float] = []
    over = threading.Event()
    client = threading.Thread(target=lambda: latencies.extend(short_requests(url, text, lambda _: over.is_set())))
    client.start()
    try:
        beside = work()
    finally:
        over.set()
        client.join()
    return Found(name, alone, beside, latencies)


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[list[str], typer.Option(help="FILE, a corpus whose sentences are the bulk")],
    characters: Annotated[int, typer.Option(min=1000, help="of the long text")] = 100_000,
    lines: Annotated[int, typer.Option(min=1, help="of the stream")] = 2000,
    text: Annotated[str, typer.Option(help="of the short request")] = "Otto moved from Bern to Quito.",
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
) -> None:
    """Measures a short request alone and beside bulk work, and the bulk's rate alone and beside it."""
    try:
        check_bundle(bundle)
        sentences = [sentence.text for file in data for sentence in read_corpus(file).sentences]
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    about = machine(threads=1)
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    with Service(bundle.absolute()) as url:
        short_requests(url, text, lambda count: count == 5)  # warms up
        alone = short_requests(url, text, lambda count: count == ALONE)
        by_connection = connections(url, text)
        found = [
            measured(f"text of {characters} characters", lambda: long_text(url, sentences, characters), url, text),
            measured(f"stream of {lines} lines", lambda: stream(url, sentences, lines), url, text),
        ]
    console = Console(width=140)
    console.print(_table(alone, found), _connections_table(by_connection))
    if json_path is not None:
        content = {
            "machine": about,
            "data": data,
            "alone": alone,
            "connections": by_connection,
            "found": [asdict(one) for one in found],
        }
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _table(alone: list[float], found: list[Found]) -> Table:
    columns = ("short request", "p50, ms", "p95, ms", "p95 / alone", "bulk alone, characters/s", "beside", "share")
    table = Table(*columns)
    reference = percentile(alone, 95)
    table.add_row("alone", *_figures(alone), "1", "", "", "")
    for one in found:
        share = f"{one.beside.rate / one.alone.rate:.2f}" if one.alone.characters else ""
        ratio = f"{percentile(one.latencies, 95) / reference:.1f}"
        row = (*_figures(one.latencies), ratio, _rate(one.alone), _rate(one.beside), share)
        table.add_row(f"beside a {one.name}", *row)
    return table


def _connections_table(by_connection: dict[str, list[float]]) -> Table:
    table = Table("short request, by turns", "p50, ms", "p95, ms")
    for name, latencies in by_connection.items():
        table.add_row(name, *_figures(latencies))
    return table


def _figures(latencies: list[float]) -> tuple[str, str]:
    """Median and 95th percentile in milliseconds."""
    return f"{1000 * statistics.median(latencies):.0f}", f"{1000 * percentile(latencies, 95):.0f}"


def _rate(bulk: Bulk) -> str:
    return f"{bulk.rate:.0f}" if bulk.status == 200 else f"status {bulk.status} after {bulk.seconds:.0f} s"


if __name__ == "__main__":
    typer.run(main)
