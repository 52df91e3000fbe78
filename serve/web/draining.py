"""The end of a service: those under way are answered, and no others are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.web import problems


class Draining:
    """The requests under way, and whether new ones are taken."""

    def __init__(self) -> None:
        self.ending = False
        self._under_way = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is under way inside of this context."""
        self._under_way += 1
        self._all_answered.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._all_answered.set()

    async def drain(self, seconds: float) -> int:
        """Takes no new requests, and waits until those under way are answered.

        Args:
            seconds: how long to wait at most.

        Returns:
            How many are not answered by then.
        """
        self.ending = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_answered.wait(), seconds)
        return self._under_way


class Drained:
    """Hands requests on until the service ends; from then on they get 503, and their connections are closed.

    Args:
        app: the application that answers.
        draining: counts the requests, and knows of the end.
    """

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self._app, self._draining = app, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._draining.ending:
            headers = {"Retry-After": "5", "Connection": "close"}
            answer = problems.answer(Request(scope), 503, "The service is ending. Try again later.", headers=headers)
            await answer(scope, receive, send)
        else:
            with self._draining.request():
                await self._app(scope, receive, send)
