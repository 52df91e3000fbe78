"""Clients that measure the service over HTTP. They are as lean as possible, since they run on the cores they measure.

All clients share one asyncio loop. Each keeps one connection, and sends its next request, which was written out before,
as soon as it has the answer to the one before. httpx would take several times as much processor time for each request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import quantiles

HOST = "127.0.0.1"
PATIENCE_S = 120.0  # for one answer
HEALTH = f"GET /healthz HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Seen:
    """What the clients saw of a block of requests.

    Attributes:
        seconds: how long the block took.
        cpu_seconds: processor time of the clients' own process in it.
        latencies: seconds of every request that was answered as expected.
        errors: number of errors by kind.
    """

    seconds: float
    cpu_seconds: float
    latencies: list[float]
    errors: dict[str, int]

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds

    def ms(self, percent: int) -> float:
        """A percentile of the latency, in ms."""
        return 1000 * percentile(self.latencies, percent)


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile, 1 to 99, interpolated between the two values around it; nan without values."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def entities_request(text: str, *, adapt: bool) -> bytes:
    """A complete request for the entities of a text."""
    body = json.dumps({"text": text, "adapt": adapt}, ensure_ascii=False).encode()
    head = f"POST /v1/entities HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def send(port: int, requests: Sequence[bytes], clients: int, expected: bytes) -> Seen:
    """Sends requests in their order, from several clients at once.

    Args:
        port: the service's port on this machine.
        requests: complete requests, head and body.
        clients: how many clients send them.
        expected: part of the body of every answer; an answer without it counts as an error.
    """
    return asyncio.run(_send(port, requests, clients, expected))


async def _send(port: int, requests: Sequence[bytes], clients: int, expected: bytes) -> Seen:
    connections = [await asyncio.open_connection(HOST, port) for _ in range(clients)]
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    waiting = iter(requests)
    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_client(c, port, waiting, expected, latencies, errors) for c in connections))
    return Seen(time.perf_counter() - began, time.process_time() - cpu_began, latencies, dict(errors))


async def _client(
    connection: Connection,
    port: int,
    waiting: Iterator[bytes],
    expected: bytes,
    latencies: list[float],
    errors: Counter[str],
) -> None:
    for request in waiting:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, body = await _answer(connection, request)
            seconds = time.perf_counter() - began
            if status == 200 and expected in body:
                latencies.append(seconds)
            else:
                errors[f"status {status}" if status != 200 else "another answer"] += 1
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            errors[type(error).__name__] += 1
            connection[1].close()
            try:
                connection = await asyncio.open_connection(HOST, port)
            except OSError:
                break  # the clients that are still connected go on
    connection[1].close()


async def _answer(connection: Connection, request: bytes) -> tuple[int, bytes]:
    """Status and body. ValueError for an answer without content-length."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError("an answer without content-length")
    body = await reader.readexactly(int(rest[: rest.index(b"\r\n")]))
    return int(head.split(None, 2)[1]), body
