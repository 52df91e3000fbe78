"""Clients of the metacross service: the same calls from Python, blocking and for asyncio.

    with Client("http://localhost:8000") as client:
        for entity in client.tag("Angela Merkel reist nach Madrid.").entities:
            print(entity.label, entity.text)

Calls that may be done twice are tried again after a lost connection and where the service has no room or is not reached
(502, 503, 504), after a random time of up to 0.5, 1, 2, ... seconds beside what it asks for itself. What may not be
done twice, adding examples, is tried again only where the service cannot have done it. No torch is needed.
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
from typing import Any, Generic, Literal, Self, TypeVar, Unpack, overload

import httpx

from metacross import __version__
from metacross.client.retries import Attempts
from metacross.client.wire import (
    Call,
    Entity,
    Example,
    FieldError,
    Model,
    Options,
    RequestRefused,
    Result,
    ServiceUnavailable,
    Support,
    add_call,
    delete_call,
    model_call,
    page_call,
    ready_call,
    tag_call,
    without_credentials,
)
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError

__all__ = [
    "AsyncClient",
    "Client",
    "Entity",
    "Example",
    "FieldError",
    "Model",
    "Options",
    "RequestRefused",
    "Result",
    "ServiceUnavailable",
    "Support",
]

T = TypeVar("T")
Words = Sequence[str]
ItemT = TypeVar("ItemT", str, Words)

BATCH_TEXTS = 64  # of a stream's request
BATCH_CHARACTERS = 1 << 15  # that a request is sent after; one long text may have more
IDLE_SECONDS = 2.0  # before the service's own 5: a connection closed there under a request is a lost request


class Client:
    """The service at an address. One instance may be shared by threads.

    Args:
        base_url: such as http://localhost:8000; what comes before /v1. A name and password in it are sent as HTTP's
            Basic authentication.
        token: sent as a bearer token.
        timeout: seconds that the service may be silent.
        retries: attempts after the first.
        max_wait: seconds after the first attempt's begin in which others may begin.
        sleep: waits between attempts.

    Raises:
        UserError: from here, an address or a token that cannot be one. From every method: `RequestRefused`, where the
            service refuses the request (status 4xx), or an address where there is no host or no trusted certificate.
        ServiceUnavailable: from every method; no answer of use came. A `RunError`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        max_wait: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = _Service(base_url, token, timeout=timeout, retries=retries, max_wait=max_wait)
        self._http = httpx.Client(**self._service.connection())
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
        """What is found in a text, or in each of several, by one request; see `Options` and, for many, `stream`."""
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
            if batches.add(item):
                yield from self._tag(batches.take(), options)
        yield from self._tag(batches.take(), options)

    def add_examples(self, examples: Iterable[Mapping[str, Any] | Sentence], *, language: str = "") -> list[Example]:
        """Lets labelled sentences shape answers from now on; they are on the service's disk when this returns.

        Args:
            examples: {"text", "entities": [{"start", "end", "label"}]} or {"words", "tags"} with IOB2 tags, each
                with "language" or not; or sentences as `metacross.corpora.reader.read_corpus` gives them.
            language: of those that do not say it, ISO 639-1.
        """
        return self._send(add_call(examples, language))

    def examples(self) -> Iterator[Example]:
        """All examples, by ascending id, page after page."""
        after: int | None = None
        while True:
            page, after = self._send(page_call(after))
            yield from page
            if after is None:
                return

    def delete_example(self, number: int) -> None:
        """Deletes the example with this id; `RequestRefused` with status 404 where there is none."""
        self._send(delete_call(number))

    def model(self) -> Model:
        """What the service tags with."""
        return self._send(model_call())

    def ready(self) -> bool:
        """Whether the service takes requests now. Asks once."""
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


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        max_wait: float = 120.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._service = _Service(base_url, token, timeout=timeout, retries=retries, max_wait=max_wait)
        self._http = httpx.AsyncClient(**self._service.connection())
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
            items: texts, or all of them lists of words; taken ahead by no more than is under way. An iterable that is
                not asynchronous must not block.
            concurrency: the most requests under way.
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
        finally:  # an error, or a reader that has seen enough
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def add_examples(
        self, examples: Iterable[Mapping[str, Any] | Sentence], *, language: str = ""
    ) -> list[Example]:
        """As `Client.add_examples`."""
        return await self._send(add_call(examples, language))

    async def examples(self) -> AsyncGenerator[Example, None]:
        """As `Client.examples`."""
        after: int | None = None
        while True:
            page, after = await self._send(page_call(after))
            for example in page:
                yield example
            if after is None:
                return

    async def delete_example(self, number: int) -> None:
        """As `Client.delete_example`."""
        await self._send(delete_call(number))

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


# --- what both have --------------------------------------------------------------------------------------------------


class _Service:
    """An address, and how it is spoken to."""

    def __init__(self, base_url: str, token: str | None, *, timeout: float, retries: int, max_wait: float) -> None:
        url = _checked_url(base_url)
        self._timeout, self._retries, self._max_wait = timeout, retries, max_wait
        # Out of the address, which messages and logs name.
        self._auth = (url.username, url.password) if url.userinfo else None
        self._url = url.copy_with(userinfo=b"")
        self._token = _checked_token(token)
        if self._auth and self._token:
            raise UserError(f"{self._url}: a password in the address and a token; leave out one of them")

    def connection(self) -> dict[str, Any]:
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

    def attempts(self, call: Call[T], retries: int | None) -> Attempts[T]:
        """A call's attempts, none made so far."""
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
    """A token without the line break of the file it came from; what is wrong with it is told without showing it."""
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError("the token has spaces or characters in it that no token has; check where it comes from")
    return token or None


def _key(items: Sequence[str] | Sequence[Words]) -> Literal["texts", "words"]:
    return "texts" if isinstance(items[0], str) else "words"


class _Batches(Generic[ItemT]):
    """Puts items together until they fill a request."""

    def __init__(self) -> None:
        self._held: list[ItemT] = []
        self._characters = 0

    def add(self, item: ItemT) -> bool:
        """Takes an item in; returns whether the request is full."""
        self._held.append(item)
        self._characters += len(item) if isinstance(item, str) else sum(map(len, item))
        return len(self._held) >= BATCH_TEXTS or self._characters >= BATCH_CHARACTERS

    def take(self) -> list[ItemT]:
        """What is held; nothing is afterwards."""
        held, self._held, self._characters = self._held, [], 0
        return held


async def _batches(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> AsyncIterator[list[ItemT]]:
    batches: _Batches[ItemT] = _Batches()
    async for item in items if isinstance(items, AsyncIterable) else _asynchronous(items):
        if batches.add(item):
            yield batches.take()
    rest = batches.take()
    if rest:
        yield rest


async def _asynchronous(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    for item in items:
        yield item
