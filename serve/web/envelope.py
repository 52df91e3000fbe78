"""Wraps every request: gives it an id, bounds its body, adds headers, counts it, and writes a line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
Observed = Callable[[str, int, float, str], None]  # called with route, status, seconds and the token's name
log = logging.getLogger("metacross.serve")
# What every answer says to browsers; a page says in a Content-Security-Policy of its own what it may do.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Envelope:
    """Gives every request an id, bounds its body, counts it and logs it. What is in a request is never logged.

    HEAD is answered like GET, without the body (RFC 9110, 9.3.2).

    Args:
        app: the application that answers.
        body_bytes: the largest body of a request; streams of lines have no bound.
        seconds: how long a body may stand still before it is complete; streams of lines may as long as they like.
        observed: called after every request with its route ("" where there is none), status, seconds and the name of
            its token ("" without one).
    """

    def __init__(self, app: ASGIApp, *, body_bytes: int, seconds: float, observed: Observed) -> None:
        self._app, self._body_bytes, self._seconds, self._observed = app, body_bytes, seconds, observed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["metacross_request_id"] = request_id
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answered.setdefault(name, value)
                if scope["app"].state.send_request_id:
                    answered["x-request-id"] = request_id
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            stream = scope["path"].endswith(":stream")
            await self._app(scope, receive if stream else self._bounded(headers, receive), sending)
        finally:
            seconds = time.perf_counter() - began
            client = scope.get("metacross_client") or ""  # see rates.py
            self._observed(getattr(scope.get("route"), "path", ""), status, seconds, client)
            log.info(
                json.dumps(
                    {
                        "request_id": request_id,
                        "method": method,
                        "path": scope["path"],
                        "status": status,
                        **({"client": client} if client else {}),
                        "ms": round(1000 * seconds, 1),
                    }
                )
            )

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        """`receive`, with HTTPException 413 for a body that is announced or found to be too large, 408 if it stalls."""
        declared = headers.get("content-length", "")
        too_large = declared.isdigit() and int(declared) > self._body_bytes
        size, complete = 0, False

        async def bounded() -> Message:
            nonlocal size, complete
            if too_large:
                raise HTTPException(413)
            try:
                # After the body the next message says that the client has gone, whenever that is.
                message = await (receive() if complete else asyncio.wait_for(receive(), self._seconds))
            except TimeoutError:
                raise HTTPException(408) from None
            complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > self._body_bytes:
                raise HTTPException(413)
            return message

        return bounded
