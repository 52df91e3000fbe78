"""Any number of texts: in order, in requests of bounded size, no more of them under way than were asked for."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from metacross.client import AsyncClient, Client, RequestRefused, ServiceUnavailable, batches
from metacross.errors import UserError
from tests.helpers.client_service import Asked, Fault, Service, answers, cut_off, cut_off_after


def test_a_stream_keeps_the_order_in_requests_of_bounded_size(service: Service, ask: Asked) -> None:
    texts = [f"Text{i}" for i in range(150)] + ["x" * 40_000, "End"]
    service.faults.extend([answers(503), cut_off])
    assert [r.text for r in ask(service.url, "stream", iter(texts))] == texts
    assert sorted(len(body["texts"]) for body in service.seen) == [1, 1, 22, 64, 64]
    words = [["Ada", str(i)] for i in range(70)]
    assert [r.text for r in ask(service.url, "stream", iter(words))] == [f"Ada {i}" for i in range(70)]


def test_many_texts_go_through_the_stream_and_few_are_one_request(service: Service, ask: Asked) -> None:
    texts = [f"Text{i}" for i in range(150)]
    assert [r.text for r in ask(service.url, "tag", texts)] == texts
    assert [r.text for r in ask(service.url, "tag_words", [[text] for text in texts])] == texts
    assert sorted(len(body.get("texts", ())) for body in service.seen) == [0, 0, 0, 22, 64, 64]
    assert service.requests == ["POST /v1/entities:stream"] * 6
    ask(service.url, "tag", texts[:63])
    ask(service.url, "tag_words", [["Ada"]])
    assert service.requests[6:] == ["POST /v1/entities"] * 2


def test_a_stream_has_the_options_of_every_request(service: Service, ask: Asked) -> None:
    options = {"adapt": False, "explain": True, "labels": iter(["PER", "LOC"]), "threshold": 0.25, "neighbours": 3}
    (first, *_) = ask(service.url, "tag", ["Ada"] * 65, options=options)
    assert (first.adapted, len(first.support)) == (False, 1)
    sent = {"adapt": False, "explain": True, "labels": ["PER", "LOC"], "threshold": 0.25}
    assert [{**body, "texts": len(body["texts"])} for body in service.seen] in (
        [{"texts": 64, **sent}, {"texts": 1, **sent}],
        [{"texts": 1, **sent}, {"texts": 64, **sent}],
    )
    for texts in ("Ada", ["Ada"] * 65):
        with pytest.raises(UserError, match=r"labels: \[\] keeps no entity"):
            ask(service.url, "tag", texts, options={"labels": []})


@pytest.mark.parametrize("fault", [cut_off_after(40), cut_off_after(40, neatly=True)], ids=["cut off", "ended early"])
def test_what_was_answered_before_a_stream_broke_off_is_not_sent_again(
    service: Service, ask: Asked, fault: Fault
) -> None:
    texts = [f"Text{i}\u2028\x85" for i in range(64)]
    service.faults.extend([fault, cut_off_after(7), answers(503)])
    assert [r.text for r in ask(service.url, "tag", texts, retries=2)] == texts
    assert [len(body["texts"]) for body in service.seen] == [64, 24, 17]
    assert [body["texts"] for body in service.seen[1:]] == [texts[40:], texts[47:]]
    assert len(service.requests) == 4, "each answer lets attempts be counted anew"


def test_a_stream_that_brings_nothing_ends_like_any_other_call(service: Service, ask: Asked) -> None:
    service.faults.extend([cut_off_after(3), cut_off_after(0), cut_off_after(1), *[cut_off_after(0)] * 9])
    with pytest.raises(ServiceUnavailable, match=r"entities:stream: no answer .* after 3 attempts"):
        ask(service.url, "tag", ["Ada"] * 64, retries=2)
    assert len(service.requests) == 5, "two attempts followed the last one that brought something"


def test_lines_without_an_answer_are_sent_again_alone(service: Service, ask: Asked) -> None:
    texts = [f"Text{i}" for i in range(64)]
    service.busy = {"Text7": 1, "Text50": 1}
    assert [r.text for r in ask(service.url, "tag", texts)] == texts
    assert [body["texts"] for body in service.seen] == [texts, ["Text7", "Text50"]]


def test_a_refused_line_is_told_by_its_number_after_the_results_before_it(service: Service, ask: Asked) -> None:
    texts = [*(f"Text{i}" for i in range(100)), "Refuse", "Text101"]
    with pytest.raises(RequestRefused, match=r"422 texts\.100: said of Refuse \(request r-7\)") as caught:
        ask(service.url, "tag", texts)
    assert (caught.value.errors[0].field, caught.value.status) == ("texts.100", 422)
    with Client(service.url) as client:
        results = client.stream(texts)
        assert [next(results).text for _ in range(100)] == texts[:100]
        with pytest.raises(RequestRefused):
            next(results)


@pytest.mark.parametrize("line", ['{"id": 64, "result": {}}', '{"id": 0}', "[]", "what?"])
def test_an_answer_that_is_none_of_a_stream_is_told(service: Service, ask: Asked, line: str) -> None:
    service.faults.append(answers(200, line + "\n"))
    with pytest.raises(ServiceUnavailable, match="the answer is none of this service's"):
        ask(service.url, "tag", ["Ada"] * 64)
    assert len(service.requests) == 1


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
        ("stream", ["Ada", 3], "expected texts (str) or lists of words (str), found int at 1"),
        ("stream", [["Ada", None]], "expected texts (str) or lists of words (str), found a list of NoneType, str at 0"),
        ("add_examples", {"text": "Ada"}, "expected an iterable of examples, found one (dict); put it into a list"),
        ("add_examples", ["Ada"], "expected an example (dict, Sentence, Example or Result), found str"),
        ("import_examples", "Ada B-PER", "expected the content of a file (bytes), found str"),
        ("delete_examples", "12", "expected an iterable of ids (int), found str"),
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
    monkeypatch.setattr(batches, "BATCH_CHARACTERS", 10)
    collected = batches.Batches[str]()
    texts = ["a" * 4, "b" * 4, "c" * 9, "d" * 30, "e", "f" * 9]
    sent = [batch for text in texts for batch in collected.add(text)]
    assert [batch.items for batch in sent] == [["a" * 4, "b" * 4], ["c" * 9], ["d" * 30], ["e", "f" * 9]]
    assert [batch.first for batch in sent] == [0, 2, 3, 4]
    assert list(collected.rest()) == []


def endless(taken: list[int]) -> Iterator[str]:
    while True:
        taken.append(1)
        yield "Ada"


def test_a_stream_takes_no_more_than_it_needs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_TEXTS", 5)
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
    monkeypatch.setattr(batches, "BATCH_TEXTS", 1)
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
    monkeypatch.setattr(batches, "BATCH_TEXTS", 2)
    texts = ["A1", "A2", "A3", "Refuse", *["A5"] * 20]
    read = []
    with Client(service.url) as client, pytest.raises(RequestRefused):
        for one in client.stream(texts):
            read.append(one.text)
    assert read == ["A1", "A2", "A3"]

    async def read_all() -> None:
        async with AsyncClient(service.url) as client:
            async for one in client.stream(texts):
                read.append(one.text)

    with pytest.raises(RequestRefused):
        asyncio.run(read_all())
    assert read == ["A1", "A2", "A3"] * 2
