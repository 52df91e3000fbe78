"""What both clients know of their service: its address, how it is spoken to, and when a call is tried again."""

from __future__ import annotations

from typing import Any, TypedDict, TypeVar

import httpx

from metacross import __version__
from metacross.client.retries import Attempts
from metacross.client.wire import Call, without_credentials
from metacross.errors import UserError

T = TypeVar("T")

IDLE_SECONDS = 2.0  # before the service's own 5: a connection closed there under a request is a lost request


class Settings(TypedDict, total=False):
    """Keyword arguments of both clients.

    Attributes:
        token: sent as a bearer token; None, the default, sends none.
        timeout: seconds that the service may be silent, 60 unless given.
        retries: how many attempts may follow the first, 5 unless given.
        max_wait: seconds after the begin of the first attempt in which others may begin, 120 unless given.
    """

    token: str | None
    timeout: float
    retries: int
    max_wait: float


class Connection:
    """A service's address, and how it is spoken to; sends nothing itself.

    Args:
        base_url: what comes before /v1.
        token: see `Settings`.
        timeout: see `Settings`.
        retries: see `Settings`.
        max_wait: see `Settings`.

    Raises:
        UserError: an address or a token that cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        max_wait: float = 120.0,
    ) -> None:
        url = _checked_url(base_url)
        self._timeout, self._retries, self._max_wait = timeout, retries, max_wait
        # Messages and logs name the address, so the password is taken out of it.
        self._auth = (url.username, url.password) if url.userinfo else None
        self._url = url.copy_with(userinfo=b"")
        self._token = _checked_token(token)
        if self._auth and self._token:
            raise UserError(f"{self._url}: a password in the address and a token; leave out one of them")

    def http(self) -> dict[str, Any]:
        """Keyword arguments of httpx's clients."""
        headers = {"user-agent": f"metacross/{__version__}", "accept": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        return {
            "base_url": self._url,
            "auth": self._auth,
            "headers": headers,
            "timeout": self._timeout,
            "limits": httpx.Limits(keepalive_expiry=IDLE_SECONDS),
        }

    def attempts(self, call: Call[T], retries: int | None = None) -> Attempts[T]:
        """A call's attempts, none of which is made yet.

        Args:
            call: what is to be sent.
            retries: how many attempts may follow the first; None takes the setting.
        """
        return Attempts(
            call,
            url=f"{str(self._url).rstrip('/')}/{call.path}",
            retries=self._retries if retries is None else retries,
            max_wait=self._max_wait,
            timeout=self._timeout,
        )


def _checked_url(base_url: str) -> httpx.URL:
    shown = without_credentials(base_url)
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError) as error:
        raise UserError(f"{shown}: not an address ({error}); expected one such as http://localhost:8000") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"{shown}: expected an address such as http://localhost:8000 or https://ner.example.org")
    if url.query or url.fragment:
        raise UserError(f"{shown}: expected an address without ? and #, such as http://localhost:8000")
    return url


def _checked_token(token: str | None) -> str | None:
    """A token without the line break of the file that it was read from. Messages do not show it."""
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError("the token has spaces or characters in it that no token has; check where it comes from")
    return token or None
