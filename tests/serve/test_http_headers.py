"""Connections whose header does not come are ended, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http import auto

from serve import http_headers

WHOLE = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answering(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.4)  # longer than a header may take
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def with_server(
    client: Callable[[Callable[[], Awaitable[Streams]]], Awaitable[None]], patch: pytest.MonkeyPatch
) -> None:
    """Runs a client against a server that starts as Serve starts it."""
    patch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # put back afterwards
    patch.setattr(http_headers, "SECONDS", 0.2)
    assert http_headers.install() == []

    async def run() -> None:
        config = uvicorn.Config(answering, port=0, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        (socket,) = server.servers[0].sockets
        await client(lambda: asyncio.open_connection(*socket.getsockname()))
        server.should_exit = True
        await serving

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_header_that_stalls_or_trickles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(WHOLE[:-2])
        for _ in range(2):  # that something comes does not help
            await asyncio.sleep(0.05)
            writer.write(b"x: y\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        reader, writer = await connect()
        assert await reader.read() == b"", "a silent connection is closed without an answer"

    with_server(client, monkeypatch)


def test_one_that_comes_in_time_is_answered_and_each_request_of_a_connection_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def client(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(WHOLE)
            answer = await reader.readuntil(b"ok")
            assert answer.startswith(b"HTTP/1.1 200 ")
        writer.write(WHOLE[:10])
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    with_server(client, monkeypatch)
