"""Clients of the metacross service, blocking and for asyncio, with the same methods. They need no torch.

    with Client("http://localhost:8000") as client:
        for entity in client.tag("Angela Merkel reist nach Madrid.").entities:
            print(entity.label, entity.text)

A call is tried again after a lost connection, and where the service has no room, cannot be reached, or has got too much
from this client (429, 502, 503, 504). Before that the client waits as long as the service asks for, and up to 0.5, 1,
2, ... seconds more, at random. What was done already is not done again: calls that add something name themselves
(Idempotency-Key).
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
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from metacross.client.batches import Batch, Batches, ItemT, Streamed, Words
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
    tag_options,
)
from metacross.corpora.arguments import refuse_no_texts, refuse_no_words

T = TypeVar("T")


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
        """What is found in a text, or in each of several; see `Options`.

        Fewer than 64 texts of fewer than 32,768 characters together are one request, by one checkpoint. More are
        sent as `stream` sends them.

        Raises:
            TypeError: what was given are no texts.
        """
        refuse_no_texts(texts, or_one=True)
        if isinstance(texts, str):
            return self._send(tag_call([texts], tag_options(**options)))[0]
        return list(self.stream(texts, **options))

    def tag_words(self, sentences: Sequence[Words], **options: Unpack[Options]) -> list[Result]:
        """What is found in sentences whose words are given; offsets count in each result's text. As `tag` otherwise."""
        refuse_no_words(sentences)
        return list(self.stream(sentences, **options))

    def stream(self, items: Iterable[ItemT], **options: Unpack[Options]) -> Iterator[Result]:
        """The results of any number of texts, in their order, in bounded memory: no item is taken before it is needed.

        They go through the service's :stream. What was answered before a failure is not sent again. The results before
        a text that is refused are given before `RequestRefused` is raised, whose `errors` have the text's number.

        Args:
            items: texts, or all of them lists of words.
            **options: see `Options`.
        """
        _refuse_one_text(items)
        wanted = tag_options(**options)
        batches: Batches[ItemT] = Batches()
        for item in items:
            for batch in batches.add(item):
                yield from self._tag(batch, wanted)
        for batch in batches.rest():
            yield from self._tag(batch, wanted)

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

    def _tag(self, batch: Batch[ItemT], options: Mapping[str, Any]) -> Iterator[Result]:
        if batch.is_all:
            results = self._send(tag_call(batch.items, options))
            return iter(results)
        streamed = Streamed(batch, options)
        attempts = self._service.attempts(streamed.call())
        while True:
            outcome = self._ask(streamed)
            pause = None if streamed.is_complete else attempts.pause(outcome, done=streamed.answered)
            if pause is None:
                return streamed.results(otherwise=partial(attempts.result, outcome))
            self._sleep(pause)

    def _ask(self, streamed: Streamed[ItemT]) -> httpx.Response | httpx.RequestError:
        try:
            with self._http.stream(**streamed.call().http()) as response:
                if response.status_code == httpx.codes.OK:
                    for piece in response.iter_bytes():
                        streamed.take(piece)
                else:
                    response.read()
        except httpx.RequestError as error:
            return error
        return streamed.outcome(response)

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
        refuse_no_texts(texts, or_one=True)
        if isinstance(texts, str):
            return (await self._send(tag_call([texts], tag_options(**options))))[0]
        return [result async for result in self.stream(texts, **options)]

    async def tag_words(self, sentences: Sequence[Words], **options: Unpack[Options]) -> list[Result]:
        """As `Client.tag_words`."""
        refuse_no_words(sentences)
        return [result async for result in self.stream(sentences, **options)]

    async def stream(
        self, items: Iterable[ItemT] | AsyncIterable[ItemT], *, concurrency: int = 4, **options: Unpack[Options]
    ) -> AsyncGenerator[Result, None]:
        """As `Client.stream`, with several requests under way.

        Args:
            items: texts, or all of them lists of words; no more are taken than the requests under way need. An
                iterable that is not asynchronous must not block.
            concurrency: how many requests may be under way at a time.
            **options: see `Options`.
        """
        _refuse_one_text(items)
        wanted = tag_options(**options)
        under_way: deque[asyncio.Task[Iterator[Result]]] = deque()
        try:
            async for batch in _batches(items):
                if len(under_way) == max(concurrency, 1):
                    for result in await under_way.popleft():
                        yield result
                under_way.append(asyncio.create_task(self._tag(batch, wanted)))
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

    async def _tag(self, batch: Batch[ItemT], options: Mapping[str, Any]) -> Iterator[Result]:
        if batch.is_all:
            results = await self._send(tag_call(batch.items, options))
            return iter(results)
        streamed = Streamed(batch, options)
        attempts = self._service.attempts(streamed.call())
        while True:
            outcome = await self._ask(streamed)
            pause = None if streamed.is_complete else attempts.pause(outcome, done=streamed.answered)
            if pause is None:
                return streamed.results(otherwise=partial(attempts.result, outcome))
            await self._sleep(pause)

    async def _ask(self, streamed: Streamed[ItemT]) -> httpx.Response | httpx.RequestError:
        try:
            async with self._http.stream(**streamed.call().http()) as response:
                if response.status_code == httpx.codes.OK:
                    async for piece in response.aiter_bytes():
                        streamed.take(piece)
                else:
                    await response.aread()
        except httpx.RequestError as error:
            return error
        return streamed.outcome(response)

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


def _refuse_one_text(items: object) -> None:
    if isinstance(items, (str, bytes)):
        raise TypeError(f"expected an iterable of texts, found one ({type(items).__name__}); tag takes one")


async def _batches(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> AsyncIterator[Batch[ItemT]]:
    batches: Batches[ItemT] = Batches()
    async for item in items if isinstance(items, AsyncIterable) else _asynchronous(items):
        for batch in batches.add(item):
            yield batch
    for batch in batches.rest():
        yield batch


async def _asynchronous(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    for item in items:
        yield item
