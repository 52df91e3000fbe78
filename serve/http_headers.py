"""Ends connections whose header does not come: Serve's server, uvicorn, waits for one as long as a client likes.

Serve calls `install` in each process that takes HTTP before its server starts, where the environment variable
`serve.ray_internals.HTTP_CALLBACK` names it; `metacross serve` sets that. The body of a request is bounded in
serve/web/envelope.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SECONDS = 20.0  # for the complete header of a request, since the connection or the request began
_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def install() -> list[Any]:
    """Makes uvicorn servers that start later in this process end such connections; adds no middleware to Serve's."""
    auto.AutoHTTPProtocol = HeadersInTime
    return []


class HeadersInTime(HttpToolsProtocol):
    """uvicorn's connection, which is closed where a header is not complete within `SECONDS`."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(SECONDS, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Called by the parser: a request begins."""
        super().on_message_begin()
        if self._timer is None:  # it is not the connection's first
            self._timer = self.loop.call_later(SECONDS, self._end)

    def on_headers_complete(self) -> None:
        """Called by the parser: the header is complete."""
        self._stop()
        super().on_headers_complete()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self.scope is not None:  # a request has begun; otherwise nobody waits for an answer
            self.transport.write(_LATE)
        self.transport.close()
