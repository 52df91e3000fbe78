"""How much a client may ask for: requests and characters a second, and requests at a time.

A client is a token, by its name; where there are no tokens, an address. Each has an account, which fills at its rate,
up to what `BURST_S` seconds bring, so that a client that was quiet may ask for much at once. A request is taken while
something is left, and pays for the characters of its body as they come: then the account may be below zero, and the
next request has to wait. So a text as long as the limits allow is always taken, and the rate is kept all the same. A
stream is slowed down and not refused.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metacross.wording import counted
from serve.web import problems
from serve.web.auth import Token, token_of

BURST_S = 10.0  # seconds whose requests and characters may come at once
_CONTINUATION = bytes(range(0x80, 0xC0))  # the bytes of UTF-8 behind the first one of a code point
MOST_ACCOUNTS = 10_000  # about 0.5 kB each; beyond, the account that was used least recently is forgotten


@dataclass(frozen=True)
class Rates:
    """What one client may ask for; 0: as much as it likes.

    Attributes:
        requests_per_s: how many requests a second.
        characters_per_s: code points in the bodies of its requests a second.
        concurrent: how many requests at a time.
    """

    requests_per_s: float
    characters_per_s: float
    concurrent: int


class Allowance:
    """An amount that grows with time up to a bound, and is spent.

    Args:
        per_s: by how much it grows in a second; 0: there is always enough.
        clock: gives seconds.
    """

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s * BURST_S)
        self._left, self._at = self._most, clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until so much is left; 0 if it is."""
        if not self._per_s:
            return 0.0
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_s, self._most)
        self._at = now
        return max(0.0, (amount - self._left) / self._per_s)

    def spend(self, amount: float) -> None:
        """Spends an amount, of what is left and what will be."""
        self._left -= amount


class Account:
    """What a client asks for, and may still ask for.

    Args:
        rates: what it may ask for.
        clock: gives seconds.

    Attributes:
        under_way: how many requests of its are under way.
    """

    def __init__(self, rates: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates, self.under_way = rates, 0
        self._requests = Allowance(rates.requests_per_s, clock)
        self._characters = Allowance(rates.characters_per_s, clock)

    def refusal(self) -> tuple[str, float] | None:
        """Which limit keeps it from one more request, and for how many seconds; None where none does."""
        rates = self._rates
        if rates.concurrent and self.under_way >= rates.concurrent:
            return f"{counted(rates.concurrent, 'requests')} at a time (serve.concurrent_requests)", 1.0
        if seconds := self._requests.wait_s(1):
            return f"{counted(rates.requests_per_s, 'requests')} a second (serve.requests_per_s)", seconds
        if seconds := self._characters.wait_s(0):
            return f"{counted(rates.characters_per_s, 'characters')} a second (serve.characters_per_s)", seconds
        return None

    @contextmanager
    def request(self) -> Iterator[None]:
        """One of its requests is under way inside of this context."""
        self._requests.spend(1)
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def spend(self, characters: int) -> None:
        """Tells how many characters have come in one of its requests."""
        self._characters.spend(characters)

    async def in_credit(self) -> None:
        """Waits until its characters are paid for."""
        await asyncio.sleep(self._characters.wait_s(0))


class Accounts:
    """The accounts of clients, by name or address; memory is bounded.

    Args:
        rates: what each client may ask for.
        most: how many accounts are kept; those with requests under way always are.
    """

    def __init__(self, rates: Rates, most: int = MOST_ACCOUNTS) -> None:
        self._rates, self._most = rates, most
        self._accounts: dict[str, Account] = {}  # those used last are at the end

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, client: str) -> Account:
        """A client's account; a new one where it has none, or none any more."""
        account = self._accounts.pop(client, None) or Account(self._rates)
        self._accounts[client] = account
        if len(self._accounts) > self._most:
            idle = next((name for name, other in self._accounts.items() if not other.under_way), client)
            del self._accounts[idle]
        return account


class Rated:
    """Finds out who sends a request, and refuses it where the client has asked for too much; probes and pages are free.

    Args:
        app: the application that answers.
        tokens: who may do what; None: everybody, and clients are told apart by their addresses.
        rates: what each client may ask for; None: as much as it likes.
    """

    def __init__(self, app: ASGIApp, tokens: Sequence[Token] | None, rates: Rates | None) -> None:
        self._app, self._tokens = app, tokens
        self._accounts = None if rates is None else Accounts(rates)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client: str | None = _network(scope.get("client"))
        if self._tokens is not None:
            token = token_of(Headers(scope=scope), self._tokens)
            # What has no token, or a wrong one, is refused by the route, which costs next to nothing.
            client = scope["metacross_client"] = token.name if token else None
        if self._accounts is None or client is None or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        account = self._accounts.of(client)
        if refusal := account.refusal():
            limit, seconds = refusal
            detail = f"{client} may send {limit}. Try again in {math.ceil(seconds)} s."
            headers = {"Retry-After": str(math.ceil(seconds))}
            await problems.answer(Request(scope), 429, detail, headers=headers)(scope, receive, send)
            return
        with account.request():
            await self._app(scope, _counted(receive, account, slowed=scope["path"].endswith(":stream")), send)


def _counted(receive: Receive, account: Account, *, slowed: bool) -> Receive:
    """`receive`, which tells the account how many characters come; slowed: and which waits until they are paid for."""

    async def counted() -> Message:
        if slowed:
            await account.in_credit()
        message = await receive()
        account.spend(_characters(message.get("body", b"")))
        return message

    return counted


def _characters(body: bytes) -> int:
    r"""The code points of a piece of UTF-8, in which an escape of JSON is one.

    >>> _characters("Zürich 北京".encode()), _characters(rb"Z\u00fcrich")
    (9, 6)
    """
    return len(body.translate(None, _CONTINUATION)) - (len("\\u0000") - 1) * body.count(b"\\u")


def _network(client: tuple[str, int] | None) -> str | None:
    """The address by which a client is told from others: of IPv6 the first half, all of which one customer has.

    >>> _network(("203.0.113.9", 4711)), _network(("2001:db8::1:2:3:4", 4711))
    ('203.0.113.9', '2001:db8::/64')
    """
    if client is None:
        return None
    try:
        address = ip_address(client[0])
    except ValueError:
        return client[0]
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or f"{IPv6Address(int(address) >> 64 << 64)}/64")
    return str(address)
