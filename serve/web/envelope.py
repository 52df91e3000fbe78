"""What goes around every request: its id, the bound on its body, the count, the line in the log."""

from __future__ import annotations

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
Observed = Callable[[str, int, float], None]
log = logging.getLogger("metacross.serve")


class Envelope:
    """Gives every request an id, bounds its body, counts it, and logs it: never what is in it.

    HEAD is answered as GET is, without the body (RFC 9110, 9.3.2).
    """

    def __init__(self, app: ASGIApp, *, body_bytes: int, observed: Observed) -> None:
        self._app, self._most, self._observed = app, body_bytes, observed

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
        name = scope["metacross_request_id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["app"].state.send_request_id:
                    MutableHeaders(scope=message)["x-request-id"] = name
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            endless = scope["path"].endswith(":stream")
            await self._app(scope, receive if endless else self._bounded(headers, receive), sending)
        finally:
            seconds = time.perf_counter() - began
            self._observed(getattr(scope.get("route"), "path", ""), status, seconds)
            log.info(
                json.dumps(
                    {
                        "request_id": name,
                        "method": method,
                        "path": scope["path"],
                        "status": status,
                        "ms": round(1000 * seconds, 1),
                    }
                )
            )

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        declared = headers.get("content-length", "")
        taken = int(declared) if declared.isdigit() and int(declared) > self._most else 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(413)
            return message

        return bounded
