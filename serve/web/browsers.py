"""Keeps web pages of others away: which names this service answers to, and which pages may call it.

A service that asks for no token is open to whoever reaches it, and a browser on the same machine reaches it for any
page that it shows. There are two ways. A page calls http://localhost:8000 itself; then the browser says in Origin whose
page it is. Or the page's own name is made to lead to 127.0.0.1 (DNS rebinding), so that the page calls, as the browser
sees it, its own site; then Host is that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.web import problems

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PROBES = frozenset({"/healthz", "/readyz"})  # Kubernetes asks them by the pod's address; they tell nothing
CHANGES_NOTHING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Browsers:
    """What this service lets browsers do.

    Attributes:
        hosts: names that it answers to, without ports; None: to every name.
        origins: whose pages may call it besides its own, such as https://app.example.org.
    """

    hosts: frozenset[str] | None
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, hosts: Sequence[str], origins: Sequence[str], *, loopback: bool) -> Browsers:
        """What the settings mean.

        Args:
            hosts: serve.hosts.
            origins: serve.cors.
            loopback: whether HTTP is answered on loopback alone. Elsewhere the service has names that only serve.hosts
                can tell, and needs tokens, which a page of others does not know.
        """
        named = frozenset(map(_name, hosts))
        return cls(named | LOOPBACK_NAMES if named or loopback else None, tuple(origins))

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason where a request is not answered, else None."""
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts and path not in PROBES:
            return 421, (
                f"This service does not answer to the name {host[:200]!r}. If it is one of its names, add it to "
                "serve.hosts."
            )
        origin = headers.get("origin")
        if origin is None or method in CHANGES_NOTHING or origin in self.origins or self._is_own(origin, host):
            return None
        return 403, (
            f"Pages of {origin[:200]!r} may not call this service. If they should, add it to serve.cors; if it is this "
            "service's own page behind a proxy, add the name to serve.hosts."
        )

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page is this service's own, under the name that it was asked by or another one of its names."""
        authority = origin.partition("://")[2].lower()  # "" of a page that has no origin, which says "null"
        if not authority:
            return False
        return authority == host.lower() or (self.hosts is not None and _name(authority) in self.hosts - LOOPBACK_NAMES)


ANY_NAME = Browsers(hosts=None)


class Guard:
    """Answers no requests but those that `Browsers` lets pass.

    Args:
        app: the application that answers.
        browsers: what browsers may do.
    """

    def __init__(self, app: ASGIApp, browsers: Browsers) -> None:
        self._app, self._browsers = app, browsers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            refusal = self._browsers.refusal(scope["method"], scope["path"], Headers(scope=scope))
            if refusal is not None:
                await problems.answer(Request(scope), *refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def guard(app: FastAPI, browsers: Browsers) -> None:
    """Makes an application answer only the requests that `browsers` lets pass."""
    if browsers.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=browsers.origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "prefer", "x-request-id"],
            expose_headers=["location", "metacross-oddities", "x-request-id", "retry-after"],
        )
    app.add_middleware(Guard, browsers=browsers)


def _name(host: str) -> str:
    """A host without its port, as names are compared.

    >>> [_name(host) for host in ("LocalHost:8000", "[::1]:8000", "ner.example.org.", "::1")]
    ['localhost', '::1', 'ner.example.org', '::1']
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name = host if host.count(":") > 1 else host.partition(":")[0]
    return name.lower().removesuffix(".")
