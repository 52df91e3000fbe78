"""Any number of texts: in order, in requests of bounded size, no more of them under way than were asked for."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from metacross.client import AsyncClient, Client, RequestRefused
from metacross.client import client as client_module
from tests.helpers.client_service import Asked, Service, answers, cut_off


def test_a_stream_keeps_the_order_in_requests_of_bounded_size(service: Service, ask: Asked) -> None:
    texts = [f"Text{i}" for i in range(150)] + ["x" * 40_000, "End"]
    service.faults.extend([answers(503), cut_off])
    assert [r.text for r in ask(service.url, "stream", iter(texts))] == texts
    assert sorted(len(body["texts"]) for body in service.seen) == [1, 1, 22, 64, 64]
    words = [["Ada", str(i)] for i in range(70)]
    assert [r.text for r in ask(service.url, "stream", iter(words))] == [f"Ada {i}" for i in range(70)]


def test_many_texts_are_sent_as_a_stream(service: Service, ask: Asked) -> None:
    texts = [f"Text{i}" for i in range(150)]
    assert [r.text for r in ask(service.url, "tag", texts)] == texts
    assert [r.text for r in ask(service.url, "tag_words", [[text] for text in texts])] == texts
    assert sorted(len(body.get("texts", ())) for body in service.seen) == [0, 0, 0, 22, 64, 64]


@pytest.mark.parametrize(
    ("method", "argument", "message"),
    [
        ("tag", 3, "expected a text (str) or a list of texts, found int"),
        ("tag", b"Ada", "expected a text (str) or a list of texts, found bytes; decode them first"),
        ("tag", ["Ada", None], "expected a list of texts (str), found NoneType at 1"),
        ("tag", [["Ada"]], "expected a list of texts (str), found a list of str at 0"),
        ("tag_words", "Ada", "expected a list of sentences, each a list of words, found str"),
        ("tag_words", ["Ada"], "expected a list of words (str) for each sentence, found str at 0"),
        ("tag_words", [["Ada", 1]], "expected a list of words (str) for each sentence, found a list of int, str at 0"),
        ("stream", "Ada", "expected an iterable of texts, found one (str); tag takes one"),
    ],
)
def test_a_wrong_type_is_told_by_what_was_expected(
    service: Service, ask: Asked, method: str, argument: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        ask(service.url, method, argument)
    assert service.requests == []


def test_a_long_text_is_a_request_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service bounds the characters of a request, so what fits alone has to be sent alone."""
    monkeypatch.setattr(client_module, "BATCH_CHARACTERS", 10)
    batches = client_module._Batches[str]()
    sent = [batch for text in ["a" * 4, "b" * 4, "c" * 9, "d" * 30, "e", "f" * 9] for batch in batches.add(text)]
    assert sent == [["a" * 4, "b" * 4], ["c" * 9], ["d" * 30], ["e", "f" * 9]]
    assert batches.take() == []


def endless(taken: list[int]) -> Iterator[str]:
    while True:
        taken.append(1)
        yield "Ada"


def test_a_stream_takes_no_more_than_it_needs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BATCH_TEXTS", 5)
    taken: list[int] = []
    with Client(service.url) as client:
        results = client.stream(endless(taken))
        assert [next(results).text for _ in range(7)] == ["Ada"] * 7
    assert len(taken) == 10

    async def read_some() -> int:
        async with AsyncClient(service.url) as client:
            results = client.stream(endless(taken), concurrency=3)
            seen = [await anext(results) for _ in range(7)]
            await results.aclose()
            return len(seen)

    taken.clear()
    assert asyncio.run(read_some()) == 7
    assert len(taken) <= 5 * (3 + 2), "what is under way, the request to come, and the one read from"


def test_an_asynchronous_stream_has_several_requests_under_way_but_no_more(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "BATCH_TEXTS", 1)
    together = threading.Barrier(3)

    async def meet(service: Service, asgi: Any) -> None:
        await asyncio.to_thread(together.wait, 30)
        await service.app(*asgi)

    service.faults.extend([meet] * 6)

    async def texts() -> AsyncIterator[str]:
        for i in range(6):
            yield f"Text{i}"

    async def read() -> list[str]:
        async with AsyncClient(service.url) as client:
            return [r.text async for r in client.stream(texts(), concurrency=3)]

    assert asyncio.run(read()) == [f"Text{i}" for i in range(6)]


def test_a_refused_text_ends_a_stream_after_those_before_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BATCH_TEXTS", 2)
    texts = ["A1", "A2", "A3", "Refuse", *["A5"] * 20]
    read = []
    with Client(service.url) as client, pytest.raises(RequestRefused):
        for one in client.stream(texts):
            read.append(one.text)
    assert read == ["A1", "A2"]

    async def read_all() -> None:
        async with AsyncClient(service.url) as client:
            async for one in client.stream(texts):
                read.append(one.text)

    with pytest.raises(RequestRefused):
        asyncio.run(read_all())
    assert read == ["A1", "A2"] * 2
