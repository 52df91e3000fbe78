"""What is checked of a request before its body is read: its token, and that nothing has to be unpacked.

FastAPI reads a body before it looks at the dependencies of a route, so strangers could make it read all that a body may
have.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException


class EarlyChecks(APIRoute):
    """A route whose dependencies, which look at headers alone, are also called before the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()
        checks = [dependency.dependency for dependency in self.dependencies]

        async def checked(request: Request) -> Response:
            for check in checks:
                if check is not None:
                    check(request)
            if request.headers.get("content-encoding", "identity").lower() != "identity":
                raise HTTPException(415)
            return await handle(request)

        return checked
