"""Clients of the metacross service, blocking and for asyncio, with the same methods. They need no torch.

    with Client("http://localhost:8000") as client:
        for entity in client.tag("Angela Merkel reist nach Madrid.").entities:
            print(entity.label, entity.text)

A call is tried again after a lost connection, and where the service has no room or cannot be reached (502, 503, 504).
Before that the client waits as long as the service asks for, and up to 0.5, 1, 2, ... seconds more, at random. What was
done already is not done again: calls that add something name themselves (Idempotency-Key).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Generic, Literal, Self, TypeVar, Unpack, overload

import httpx

from metacross.client.connection import Connection, Settings
from metacross.client.contract import Model, Result
from metacross.client.stored import AsyncStoredThings, StoredThings
from metacross.client.wire import (
    Call,
    Options,
    ServiceUnavailable,
    model_call,
    ready_call,
    tag_call,
)

T = TypeVar("T")
Words = Sequence[str]
ItemT = TypeVar("ItemT", str, Words)

BATCH_TEXTS = 64  # a stream's request has at most so many texts
BATCH_CHARACTERS = 1 << 15  # a stream's request has at most so many; a longer text is a request by itself


class Client(StoredThings):
    """The service at an address. One instance may be shared by threads.

    Args:
        base_url: such as http://localhost:8000; what comes before /v1. A name and password in it are sent as HTTP's
            Basic authentication.
        sleep: waits the given seconds between attempts.
        **settings: token, timeout, retries and max_wait, see `Settings`.

    Raises:
        UserError: from here, an address or a token that cannot be one. From every method: `RequestRefused`, where the
            service refuses the request (status 4xx), or an address where there is no host or no trusted certificate.
        ServiceUnavailable: from every method; no usable answer came. A `RunError`.
    """

    def __init__(
        self, base_url: str, *, sleep: Callable[[float], None] = time.sleep, **settings: Unpack[Settings]
    ) -> None:
        self._service = Connection(base_url, **settings)
        self._http = httpx.Client(**self._service.http())
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    @overload
    def tag(self, texts: str, **options: Unpack[Options]) -> Result: ...

    @overload
    def tag(self, texts: list[str] | tuple[str, ...], **options: Unpack[Options]) -> list[Result]: ...

    def tag(self, texts: str | list[str] | tuple[str, ...], **options: Unpack[Options]) -> Result | list[Result]:
        """What is found in a text, or in each of several, in one request; see `Options`, and `stream` for many."""
        if isinstance(texts, str):
            return self._tag([texts], options)[0]
        return self._tag(texts, options)

    def tag_words(self, sentences: Sequence[Words], **options: Unpack[Options]) -> list[Result]:
        """What is found in sentences whose words are given; offsets count in each result's text."""
        return self._tag(sentences, options)

    def stream(self, items: Iterable[ItemT], **options: Unpack[Options]) -> Iterator[Result]:
        """The results of any number of texts, in their order, in bounded memory: no item is taken before it is needed.

        Args:
            items: texts, or all of them lists of words.
            **options: see `Options`.
        """
        batches: _Batches[ItemT] = _Batches()
        for item in items:
            for batch in batches.add(item):
                yield from self._tag(batch, options)
        yield from self._tag(batches.take(), options)

    def model(self) -> Model:
        """What the service tags with."""
        return self._send(model_call())

    def ready(self) -> bool:
        """Whether the service takes requests now; asks only once."""
        try:
            self._send(ready_call(), retries=0)
        except ServiceUnavailable:
            return False
        return True

    def _tag(self, items: Sequence[str] | Sequence[Words], options: Options) -> list[Result]:
        return self._send(tag_call(_key(items), items, **options)) if items else []

    def _send(self, call: Call[T], *, retries: int | None = None) -> T:
        attempts = self._service.attempts(call, retries)
        while True:
            outcome: httpx.Response | httpx.RequestError
            try:
                outcome = self._http.request(**call.http())
            except httpx.RequestError as error:
                outcome = error
            pause = attempts.pause(outcome)
            if pause is None:
                return attempts.result(outcome)
            self._sleep(pause)


class AsyncClient(AsyncStoredThings):
    """`Client` for asyncio: the same arguments, methods and errors."""

    def __init__(
        self, base_url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **settings: Unpack[Settings]
    ) -> None:
        self._service = Connection(base_url, **settings)
        self._http = httpx.AsyncClient(**self._service.http())
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    @overload
    async def tag(self, texts: str, **options: Unpack[Options]) -> Result: ...

    @overload
    async def tag(self, texts: list[str] | tuple[str, ...], **options: Unpack[Options]) -> list[Result]: ...

    async def tag(self, texts: str | list[str] | tuple[str, ...], **options: Unpack[Options]) -> Result | list[Result]:
        """As `Client.tag`."""
        if isinstance(texts, str):
            return (await self._tag([texts], options))[0]
        return await self._tag(texts, options)

    async def tag_words(self, sentences: Sequence[Words], **options: Unpack[Options]) -> list[Result]:
        """As `Client.tag_words`."""
        return await self._tag(sentences, options)

    async def stream(
        self, items: Iterable[ItemT] | AsyncIterable[ItemT], *, concurrency: int = 4, **options: Unpack[Options]
    ) -> AsyncGenerator[Result, None]:
        """The results of any number of texts, in their order, in bounded memory.

        Args:
            items: texts, or all of them lists of words; no more are taken than the requests under way need. An
                iterable that is not asynchronous must not block.
            concurrency: how many requests may be under way at a time.
            **options: see `Options`.
        """
        under_way: deque[asyncio.Task[list[Result]]] = deque()
        try:
            async for batch in _batches(items):
                if len(under_way) == max(concurrency, 1):
                    for result in await under_way.popleft():
                        yield result
                under_way.append(asyncio.create_task(self._tag(batch, options)))
            while under_way:
                for result in await under_way.popleft():
                    yield result
        finally:  # also after an error, and where the caller stops reading before the end
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def model(self) -> Model:
        """As `Client.model`."""
        return await self._send(model_call())

    async def ready(self) -> bool:
        """As `Client.ready`."""
        try:
            await self._send(ready_call(), retries=0)
        except ServiceUnavailable:
            return False
        return True

    async def _tag(self, items: Sequence[str] | Sequence[Words], options: Options) -> list[Result]:
        return await self._send(tag_call(_key(items), items, **options)) if items else []

    async def _send(self, call: Call[T], *, retries: int | None = None) -> T:
        attempts = self._service.attempts(call, retries)
        while True:
            outcome: httpx.Response | httpx.RequestError
            try:
                outcome = await self._http.request(**call.http())
            except httpx.RequestError as error:
                outcome = error
            pause = attempts.pause(outcome)
            if pause is None:
                return attempts.result(outcome)
            await self._sleep(pause)


# --- batches of a stream ---------------------------------------------------------------------------------------------


def _key(items: Sequence[str] | Sequence[Words]) -> Literal["texts", "words"]:
    return "texts" if isinstance(items[0], str) else "words"


class _Batches(Generic[ItemT]):
    """Collects items until they fill a request."""

    def __init__(self) -> None:
        self._held: list[ItemT] = []
        self._characters = 0

    def add(self, item: ItemT) -> Iterator[list[ItemT]]:
        """Adds an item; gives the requests that are then full."""
        characters = len(item) if isinstance(item, str) else sum(map(len, item)) + len(item)
        if self._held and self._characters + characters > BATCH_CHARACTERS:
            yield self.take()
        self._held.append(item)
        self._characters += characters
        if len(self._held) >= BATCH_TEXTS or self._characters >= BATCH_CHARACTERS:
            yield self.take()

    def take(self) -> list[ItemT]:
        """The items so far; the next request begins without any."""
        held, self._held, self._characters = self._held, [], 0
        return held


async def _batches(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> AsyncIterator[list[ItemT]]:
    batches: _Batches[ItemT] = _Batches()
    async for item in items if isinstance(items, AsyncIterable) else _asynchronous(items):
        for batch in batches.add(item):
            yield batch
    rest = batches.take()
    if rest:
        yield rest


async def _asynchronous(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    for item in items:
        yield item
