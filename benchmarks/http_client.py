"""Clients of a service over HTTP, as lean as can be: they run on the cores that they measure.

One asyncio loop, a kept connection for each client, requests that were written out before. Every client sends its next
request as soon as it has the answer to the one before. httpx would take several times as much processor time a request.
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
        seconds: of the whole block.
        cpu_seconds: of the clients' own process in it.
        latencies: seconds of every request that was answered as it should be.
        errors: how many of each kind.
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
    """A percentile, 1 to 99, between the two values it falls between; nan of nothing."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def entities_request(text: str, *, adapt: bool) -> bytes:
    """A whole request for the entities of a text."""
    body = json.dumps({"text": text, "adapt": adapt}, ensure_ascii=False).encode()
    head = f"POST /v1/entities HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def send(port: int, requests: Sequence[bytes], clients: int, expected: bytes) -> Seen:
    """Sends requests from so many clients at once, in their order.

    Args:
        port: of the service, on this machine.
        requests: whole ones, head and body.
        clients: that send them.
        expected: every answer has this in its body; one that has not is an error.
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
                break  # whoever else is connected goes on
    connection[1].close()


async def _answer(connection: Connection, request: bytes) -> tuple[int, bytes]:
    """Status and body. ValueError where the answer does not tell its length."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError("an answer without content-length")
    body = await reader.readexactly(int(rest[: rest.index(b"\r\n")]))
    return int(head.split(None, 2)[1]), body
