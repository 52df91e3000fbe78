"""The clients against a real HTTP server of the contract, whose answers can be made to fail.

It finds capitalised words, so that every answer can be told beforehand.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

import metacross
from metacross.cli.remote import word_spans, word_tags
from metacross.client import (
    AddedTexts,
    AsyncClient,
    Client,
    Entity,
    LeftOut,
    RequestRefused,
    Result,
    ServiceUnavailable,
)
from metacross.client import client as client_module
from metacross.client.retries import FIRST_SECONDS, retry_after
from metacross.corpora.sentence import sentence_from_words
from metacross.corpora.words import join_words
from metacross.errors import RunError, UserError

if TYPE_CHECKING:
    from metacross.tagging.answers import TaggedEntity, TaggedText

TOKEN = "s3cret-token"
Fault = Callable[["Service", Any], Awaitable[None]]


# --- the service -----------------------------------------------------------------------------------------------------


def found(text: str) -> list[dict[str, Any]]:
    return [
        {"start": m.start(), "end": m.end(), "text": m[0], "label": "PER", "score": 0.5}
        for m in re.finditer(r"[A-Z]\w+(?: [A-Z]\w+)*", text)
    ]


def result(text: str, body: dict[str, Any]) -> dict[str, Any]:
    entities = [e for e in found(text) if e["score"] >= body.get("threshold", 0)]
    answer: dict[str, Any] = {"text": text, "entities": entities, "windows": 1, "adapted": body["adapt"], "new": 1}
    if body.get("explain"):
        label = {"start": 0, "end": 3, "text": "Ada", "label": "PER", "extra": None}
        source = {"similarity": 0.75, "text": "Ada met Bob.", "entities": [label]}
        answer["support"] = [{**source, "start": 0, "end": len(text), "place": "en.conll:3", "example": None}]
        answer["plain"] = answer["entities"][:1]
    return answer


def problem(status: int, detail: str, **more: Any) -> JSONResponse:
    content = {"type": "about:blank", "title": "A title", "status": status, "detail": detail, "request_id": "r-7"}
    return JSONResponse({**content, **more}, status, media_type="application/problem+json")


def application(service: Service) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/entities")
    async def entities(request: Request) -> Any:
        body = await request.json()
        service.seen.append(body)
        if "Refuse" in body.get("texts", ()):
            where = f"texts.{body['texts'].index('Refuse')}"
            return problem(422, "one text is refused; leave it out", errors=[{"field": where, "detail": "odd\x1b[1m"}])
        texts = body["texts"] if "texts" in body else [join_words(words)[0] for words in body["words"]]
        results = service.tag(body) if service.tag else [result(text, body) for text in texts]
        return {"results": results, "model": {"bundle": "0" * 12, "method": "metacross"}}

    @app.post("/v1/examples")
    async def add(request: Request) -> Any:
        if service.is_repeated(request):
            return JSONResponse({"examples": list(service.examples.values())}, 201)
        for example in (await request.json())["examples"]:
            number = len(service.examples) + 1
            text = example["text"] if "text" in example else join_words(example["words"])[0]
            service.examples[number] = {"id": number, "text": text, "entities": found(text), **{"language": ""}}
            service.examples[number] |= {"language": example.get("language", ""), "created": "2026-11-24T12:00:00Z"}
        return JSONResponse({"examples": list(service.examples.values())}, 201)

    @app.post("/v1/texts")
    async def texts(request: Request) -> Any:
        service.is_repeated(request)
        service.seen.append(await request.json())
        kept = len(service.seen[-1]["texts"])
        left_out = {"repeated": 0, "uncertain": 2, "by_people": 1, "stored": 0, "new": 1}
        return {"found": kept + 3, "kept": kept, "left_out": left_out, "examples": [7], "labelled_by": "b1", "new": 1}

    @app.get("/v1/examples")
    async def page(limit: int, after: int = 0) -> Any:
        rows = [e for e in service.examples.values() if e["id"] > after]
        return {"examples": rows[:limit], "next": rows[limit - 1]["id"] if len(rows) > limit else None}

    @app.delete("/v1/examples/{number}")
    async def delete(number: int) -> Response:
        if service.examples.pop(number, None) is None:
            return problem(404, f"there is no example {number}")
        return Response(status_code=204)

    @app.get("/v1/model")
    async def model() -> Any:
        facts = {"encoder": "e5", "source_language": "en", "labels": ["LOC", "PER"], "dev_f1": None}
        return {"bundle": "0" * 12, "method": "metacross", **facts, "neighbours": 2, "inner_lr": 0.05, "new": {}}

    @app.get("/readyz")
    async def ready() -> Any:
        return {"status": "ready"}

    return app


@dataclass
class Service:
    """A server on a loopback port; `faults` befall the next requests, one each."""

    faults: deque[Fault] = field(default_factory=deque)
    seen: list[dict[str, Any]] = field(default_factory=list)
    examples: dict[int, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # by which calls name themselves
    token: str | None = None
    tag: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None  # in place of the simple rule
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused until it starts
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.app = application(self)
        self._server = uvicorn.Server(
            uvicorn.Config(self._handle, log_level="critical", lifespan="off", interface="asgi3")
        )
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        self._socket.listen()
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        return self

    def stop(self) -> None:
        self.released.set()
        self._server.should_exit = self._server.force_exit = True
        if self._thread:
            self._thread.join(30)
            assert not self._thread.is_alive()
        self._socket.close()

    def is_repeated(self, request: Request) -> bool:
        key = request.headers["idempotency-key"]
        known = key in self.keys
        self.keys.add(key)
        return known

    async def _handle(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append(f"{scope['method']} {scope['path']}")
        self.headers.append(headers)
        if self.faults:
            await self.faults.popleft()(self, (scope, receive, send))
        elif self.token and headers.get("authorization") != f"Bearer {self.token}":
            await problem(401, "a token is needed")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def answers(status: int, text: str = "", **headers: str) -> Fault:
    async def fault(_: Service, asgi: Any) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await Response(text, status, headers={"x-request-id": "r-9", **named})(*asgi)

    return fault


async def cut_off(_: Service, asgi: Any) -> None:
    """Announces more than it sends: uvicorn then drops the connection."""
    send = asgi[2]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


async def done_then_cut_off(service: Service, asgi: Any) -> None:
    """Does what is asked, but nobody hears of it."""

    async def swallow(_: Any) -> None:
        return None

    await service.app(asgi[0], asgi[1], swallow)
    await cut_off(service, asgi)


async def silent(service: Service, _: Any) -> None:
    await asyncio.to_thread(service.released.wait)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "METACROSS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    running = Service().start()
    yield running
    running.stop()


class Asked:
    """Makes the same call of either client; `slept` holds the pauses, which take no time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.slept: list[float] = []
        self.during_pause: Callable[[], object] = lambda: None

    def __call__(self, url: str, method: str, *arguments: Any, options: Any = None, **settings: Any) -> Any:
        settings = {"max_wait": 1e6, **settings}
        if self.kind == "async":
            return asyncio.run(self._asynchronous(url, method, *arguments, options=options or {}, **settings))
        with Client(url, sleep=self._sleep, **settings) as client:
            answer = getattr(client, method)(*arguments, **(options or {}))
            return list(answer) if isinstance(answer, Iterator) else answer

    async def _asynchronous(self, url: str, method: str, *arguments: Any, options: Any, **settings: Any) -> Any:
        async def sleep(seconds: float) -> None:
            self._sleep(seconds)

        async with AsyncClient(url, sleep=sleep, **settings) as client:
            answer = getattr(client, method)(*arguments, **options)
            return [part async for part in answer] if isinstance(answer, AsyncIterator) else await answer

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.during_pause()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Asked:
    return Asked(request.param)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_a_text_and_several(service: Service, ask: Asked) -> None:
    one = ask(service.url, "tag", "met Ada Lovelace 👩🏽‍🚀 and 𝔘 Bob")
    assert isinstance(one, Result)
    assert [(e.text, e.label, e.score) for e in one.entities] == [("Ada Lovelace", "PER", 0.5), ("Bob", "PER", 0.5)]
    assert [one.text[e.start : e.end] for e in one.entities] == ["Ada Lovelace", "Bob"], "offsets count code points"
    assert (one.adapted, one.windows, one.support, one.plain) == (True, 1, None, None)
    both = ask(service.url, "tag", ["Ada", "nobody"])
    assert [len(r.entities) for r in both] == [1, 0]
    assert ask(service.url, "tag", []) == []
    assert len(service.requests) == 2, "nothing is sent for nothing"


def test_options_reach_the_service_and_unknown_ones_do_not(service: Service, ask: Asked) -> None:
    options = {"adapt": False, "explain": True, "labels": {"PER"}, "threshold": 0.6, "neighbours": 3}
    told = ask(service.url, "tag", "Ada", options=options)
    assert service.seen == [{"texts": ["Ada"], **options, "labels": ["PER"]}]
    assert told.entities == told.plain == ()
    (support,) = told.support
    assert (support.similarity, support.place, support.entities) == (0.75, "en.conll:3", (Entity(0, 3, "Ada", "PER"),))
    ask(service.url, "tag", "Ada", options={"labels": "PER"})
    assert service.seen[1]["labels"] == ["PER"]
    with pytest.raises(TypeError, match="adpt"):
        ask(service.url, "tag", "Ada", options={"adpt": False})


def test_words(service: Service, ask: Asked) -> None:
    (first, second) = ask(service.url, "tag_words", [["met", "Ada", "。"], ("北", "京")])
    assert service.seen[0]["words"] == [["met", "Ada", "。"], ["北", "京"]]
    assert (first.text, first.entities[0].start, second.text) == ("met Ada 。", 4, "北京")


def test_examples_are_added_listed_and_deleted(service: Service, ask: Asked) -> None:
    given = [{"text": f"Ada {i}", "entities": [], "language": "en"} for i in range(250)]
    read = sentence_from_words(["Lovelace", "wrote"], ["B-PER", "O"])
    stored = ask(service.url, "add_examples", [*given, read], options={"language": "de"})
    assert (stored[0].id, stored[0].language, stored[250].language) == (1, "en", "de")
    assert stored[250].text == "Lovelace wrote"
    assert [e.id for e in ask(service.url, "examples")] == list(range(1, 252)), "all pages, in order"
    assert service.requests.count("GET /v1/examples") == 3
    assert ask(service.url, "delete_example", 7) is None
    assert 7 not in service.examples
    with pytest.raises(RequestRefused, match="there is no example 7") as caught:
        ask(service.url, "delete_example", 7)
    assert caught.value.status == 404


def test_texts_are_added(service: Service, ask: Asked) -> None:
    told = ask(service.url, "add_texts", ["Ada schlief.", "Bob auch."], options={"language": "de"})
    assert service.seen == [{"texts": ["Ada schlief.", "Bob auch."], "language": "de"}]
    assert told == AddedTexts(5, 2, LeftOut(uncertain=2, by_people=1), (7,), labelled_by="b1")
    ask(service.url, "add_texts", "Ada schlief.", options={"language": "de"})
    assert service.seen[1]["texts"] == ["Ada schlief."]
    service.faults.append(done_then_cut_off)
    ask(service.url, "add_texts", "Ada schlief.", options={"language": "de"})
    assert len(service.keys) == 3 and len(service.seen) == 4, "sent again, by the same name"


def test_model_and_readiness(service: Service, ask: Asked) -> None:
    model = ask(service.url, "model")
    assert (model.method, model.labels, model.dev_f1, model.neighbours) == ("metacross", ("LOC", "PER"), None, 2)
    service.faults.append(answers(503, retry_after="1"))
    assert [ask(service.url, "ready"), ask(service.url, "ready")] == [False, True]
    assert ask.slept == []
    asleep = Service()
    assert ask(asleep.url, "ready") is False
    asleep.stop()


def test_a_path_before_v1_is_kept(service: Service, ask: Asked) -> None:
    with pytest.raises(RequestRefused, match=rf"{service.url}/ner/v1/model: 404 Not Found.*check the address"):
        ask(f"{service.url}/ner/", "model")
    assert service.requests == ["GET /ner/v1/model"]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_the_order_in_requests_of_bounded_size(service: Service, ask: Asked) -> None:
    texts = [f"Text{i}" for i in range(150)] + ["x" * 40_000, "End"]
    service.faults.extend([answers(503), cut_off])
    assert [r.text for r in ask(service.url, "stream", iter(texts))] == texts
    assert sorted(len(body["texts"]) for body in service.seen) == [1, 1, 22, 64, 64]
    words = [["Ada", str(i)] for i in range(70)]
    assert [r.text for r in ask(service.url, "stream", iter(words))] == [f"Ada {i}" for i in range(70)]


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


# --- trying again ----------------------------------------------------------------------------------------------------


def test_a_full_queue_is_waited_for_as_it_says(service: Service, ask: Asked) -> None:
    date = formatdate(time.time() + 3600, usegmt=True)
    service.faults.extend([answers(503, retry_after="3"), answers(503, retry_after=date), answers(503)])
    assert ask(service.url, "tag", "Ada").text == "Ada"
    first, second, third = ask.slept
    assert 3 <= first <= 3 + FIRST_SECONDS
    assert 3000 < second <= 3600 + 2 * FIRST_SECONDS
    assert 0 <= third <= 4 * FIRST_SECONDS


@pytest.mark.parametrize(
    "fault", [answers(500), answers(502), answers(504), cut_off], ids=["500 of a proxy", "502", "504", "cut off"]
)
def test_what_may_be_done_twice_is_tried_again(service: Service, ask: Asked, fault: Fault) -> None:
    service.faults.extend([fault, fault])
    assert ask(service.url, "tag", ["Ada"])[0].text == "Ada"
    assert (len(service.requests), len(ask.slept)) == (3, 2)


def test_a_service_that_comes_up_is_waited_for(ask: Asked) -> None:
    late = Service()
    ask.during_pause = lambda: late.start() if len(ask.slept) == 2 else None
    try:
        assert ask(late.url, "add_examples", [{"text": "Ada", "entities": []}])[0].id == 1, "nothing had arrived"
    finally:
        late.stop()


def test_attempts_have_an_end(service: Service, ask: Asked) -> None:
    service.faults.extend([answers(503, "busy")] * 9)
    with pytest.raises(ServiceUnavailable, match="503 Service Unavailable after 4 attempts") as caught:
        ask(service.url, "tag", "Ada", retries=3)
    assert isinstance(caught.value, RunError)
    assert (caught.value.status, caught.value.request_id) == (503, "r-9")
    assert (len(service.requests), len(ask.slept)) == (4, 3)


def test_a_wait_that_is_too_long_is_not_begun(service: Service, ask: Asked) -> None:
    service.faults.append(answers(503, retry_after="3600"))
    with pytest.raises(ServiceUnavailable, match="503"):
        ask(service.url, "tag", "Ada", max_wait=60)
    assert ask.slept == []


def test_examples_are_never_stored_twice(service: Service, ask: Asked) -> None:
    example = [{"text": "Ada", "entities": []}]
    service.faults.extend([done_then_cut_off, *map(answers, (500, 502, 503, 504))])
    assert [e.id for e in ask(service.url, "add_examples", example)] == [1]
    assert (list(service.examples), len(ask.slept), len(service.keys)) == ([1], 5, 1)
    assert [e.id for e in ask(service.url, "add_examples", example)] == [1, 2], "another call has another name"


def test_a_deletion_that_was_cut_off_is_no_error_afterwards(service: Service, ask: Asked) -> None:
    ask(service.url, "add_examples", [{"text": "Ada", "entities": []}])
    service.faults.append(done_then_cut_off)
    ask(service.url, "delete_example", 1)
    assert service.examples == {}
    service.faults.append(answers(503))  # this one did nothing
    with pytest.raises(RequestRefused, match="no example 1"):
        ask(service.url, "delete_example", 1)


def test_a_slow_answer_is_not_asked_for_again(service: Service, ask: Asked) -> None:
    service.faults.append(silent)
    with pytest.raises(ServiceUnavailable, match=r"no answer within 0\.3 s\. Send less at once"):
        ask(service.url, "tag", "Ada", timeout=0.3)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 1.5 ", 1.5),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


# --- refusals and other errors ---------------------------------------------------------------------------------------


def test_a_refusal_tells_what_the_service_said(service: Service, ask: Asked) -> None:
    with pytest.raises(RequestRefused) as caught:
        ask(service.url, "tag", ["Ada", "Refuse"])
    error = caught.value
    assert isinstance(error, UserError)
    assert str(error) == (
        f"{service.url}/v1/entities: 422 one text is refused; leave it out; texts.1: odd[1m (request r-7)."
    )
    assert (error.status, error.detail, error.request_id) == (422, "one text is refused; leave it out", "r-7")
    assert error.errors[0].field == "texts.1"
    assert ask.slept == []


def test_the_token_is_sent_and_not_shown(service: Service, ask: Asked) -> None:
    service.token = TOKEN
    assert ask(service.url, "tag", "Ada", token=f"{TOKEN}\n").text == "Ada"
    with pytest.raises(RequestRefused, match=r"401 a token is needed.*METACROSS_TOKEN") as caught:
        ask(service.url, "tag", "Ada", token="wr0ng")
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(UserError, match="characters in it that no token has") as spoilt:
        ask(service.url, "tag", "Ada", token="wr0ng\nx-evil: 1")
    assert "wr0ng" not in str(spoilt.value)


def test_a_password_in_the_address_is_sent_and_not_shown(service: Service, ask: Asked) -> None:
    address = service.url.replace("//", "//me:hidden@")
    service.faults.append(answers(403))
    with pytest.raises(RequestRefused) as caught:
        ask(address, "model")
    assert str(caught.value).startswith(f"{service.url}/v1/model: 403 Forbidden (request r-9).")
    assert "hidden" not in str(caught.value)
    assert service.headers[0]["authorization"].startswith("Basic ")
    with pytest.raises(UserError, match="leave out one of them") as both:
        ask(address, "model", token=TOKEN)
    assert "hidden" not in str(both.value) and TOKEN not in str(both.value)


def test_a_fault_of_the_service(service: Service, ask: Asked) -> None:
    service.faults.append(answers(500, content_type="application/problem+json"))
    with pytest.raises(ServiceUnavailable, match=r"500 Internal Server Error \(request r-9\)"):
        ask(service.url, "tag", "Ada")
    assert ask.slept == []


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "",
        "[]",
        "{}",
        "null",
        '{"results": []}',
        '{"results": [{"entities": []}]}',
        '{"results": [{"text": "Ada", "entities": [{"start": "x", "end": 3, "text": "Ada", "label": "PER"}]}]}',
        "[" * 100_000,
    ],
    ids=lambda body: body[:20],
)
def test_an_answer_of_something_else(service: Service, ask: Asked, body: str) -> None:
    service.faults.append(answers(200, body))
    with pytest.raises(
        ServiceUnavailable, match=r"200, but the answer is none of this service's.*Check that the address"
    ):
        ask(service.url, "tag", "Ada")


def test_pages_that_lead_nowhere_end(service: Service, ask: Asked) -> None:
    service.faults.extend([answers(200, '{"examples": [], "next": 5}')] * 2)
    with pytest.raises(ServiceUnavailable, match="the page after 5 leads to 5"):
        ask(service.url, "examples")


def test_a_redirect_names_where_it_leads(service: Service, ask: Asked) -> None:
    service.faults.append(answers(308, location="https://me:pw@ner.example.org/"))
    with pytest.raises(RequestRefused, match=r"308 .*it leads to: https://ner\.example\.org/$"):
        ask(service.url, "model", token=TOKEN)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "localhost:8000: expected an address such as http://localhost:8000"),
        ("", "expected an address"),
        ("http://", "expected an address"),
        ("ftp://me:hidden@host", "ftp://host: expected an address"),
        ("http://me:hidden@host:port", "not an address"),
        ("http://host?x=1", "without [?] and #"),
    ],
)
def test_addresses_that_are_none(url: str, message: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(UserError, match=message) as caught:
            kind(url)
        assert "hidden" not in str(caught.value)


def test_tls_where_there_is_none(service: Service, ask: Asked) -> None:
    with pytest.raises(UserError, match="Is it http:// rather than https://"):
        ask(service.url.replace("http:", "https:"), "model")
    assert ask.slept == []


def test_a_host_that_is_none(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"nowhere\.invalid/v1/model: there is no host of this name"):
        ask("http://nowhere.invalid", "model")
    assert ask.slept == []


def test_nobody_listens(ask: Asked) -> None:
    asleep = Service()
    with pytest.raises(
        ServiceUnavailable,
        match=r"no answer \(connection refused\) after 3 attempts",
    ) as caught:
        ask(asleep.url, "model", retries=2)
    assert caught.value.status is None
    asleep.stop()


# --- words and offsets -----------------------------------------------------------------------------------------------


def test_words_are_found_again() -> None:
    for words in (["New", "York", "。"], ["a", "a\u00a0b", " c"], ["👩🏽‍🚀", "𝔘"], []):
        text, spans = join_words(words)
        assert word_spans(words, text) == list(spans)
    with pytest.raises(ServiceUnavailable, match="does not go on with the word 'Bob' at 4"):
        word_spans(["Ada", "Bob"], "Ada Rob")


def test_entities_mark_words() -> None:
    spans = [(0, 3), (4, 8), (8, 9), (10, 12)]
    entities = [Entity(0, 8, "", "LOC"), Entity(8, 9, "", "PER"), Entity(10, 11, "", "ORG"), Entity(11, 12, "", "PER")]
    assert word_tags(spans, entities) == ("B-LOC", "I-LOC", "B-PER", "B-ORG")
    assert word_tags(spans, [Entity(3, 4, "", "LOC"), Entity(12, 20, "", "LOC")]) == ("O",) * 4


# --- command line ----------------------------------------------------------------------------------------------------


def program(*arguments: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metacross", "tag", *map(str, arguments)]
    settings = {"env": {**os.environ, **environment}, "timeout": 240, "encoding": "utf-8"}
    return subprocess.run(command, input=stdin, capture_output=True, check=False, **settings)  # type: ignore[call-overload, no-any-return]


def test_text_on_standard_input_is_tagged_there(service: Service) -> None:
    service.token = TOKEN
    text = "Ada left 👋. Bob stayed."
    done = program("--server", service.url, stdin=f"{text}\n\nnobody\n", METACROSS_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    first = [{"entity_group": "PER", "score": 0.5, "word": "Ada", "start": 0, "end": 3}]
    second = [{"entity_group": "PER", "score": 0.5, "word": "Bob", "start": 12, "end": 15}]
    assert records == [
        {"text": text, "entities": first + second},
        {"text": "", "entities": []},
        {"text": "nobody", "entities": []},
    ]
    assert [list(e) for e in records[0]["entities"]] == [["entity_group", "score", "word", "start", "end"]] * 2
    assert [body["texts"] for body in service.seen] == [[text, "nobody"]], "an empty line is not sent"


def test_json_lines_keep_their_keys(service: Service, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"id": 7, "text": "Ada"}, {"words": ["met", "Ada", "Lovelace"]}, {"tokens": []}]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = program("--server", service.url, path, "--explain")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert list(first) == ["id", "text", "entities", "plain_entities", "support"]
    assert list(second) == ["words", "text", "ner_tags", "entities", "plain_entities", "support"]
    assert second["ner_tags"] == ["O", "B-PER", "I-PER"]
    source = {"entity_group": "PER", "word": "Ada", "start": 0, "end": 3}
    told = {"similarity": 0.75, "text": "Ada met Bob.", "entities": [source], "start": 0, "end": 3}
    assert first["support"] == [told]
    assert third == {"tokens": [], "text": "", "ner_tags": [], "entities": [], "plain_entities": [], "support": []}


def test_columns_in_and_out(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "in.conll"
    path.write_text("met O\nAda O\nLovelace O\n\n北 O\n京 O\n", encoding="utf-8")
    done = program("--server", service.url, path, "--output", "conll", "--no-adapt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "met\tO\nAda\tB-PER\nLovelace\tI-PER\n\n北\tO\n京\tO\n\n"
    assert service.seen[0]["adapt"] is False
    explained = program("--server", service.url, "--output", "conll", "--explain", stdin="Ada left. Bob stayed.")
    assert explained.stdout.splitlines()[:6] == [
        "# support 0.7500 Ada met Bob.",
        "# plain PER=Ada",
        "Ada\tB-PER",
        "left\tO",
        ".\tO",
        "",
    ]


def contract(tagged: TaggedText, body: dict[str, Any]) -> dict[str, Any]:
    """A tagger's own answer in the contract's words."""

    def entities(given: Sequence[TaggedEntity]) -> list[dict[str, Any]]:
        return [{"start": e.start, "end": e.end, "text": e.text, "label": e.type, "score": e.score} for e in given]

    answer = {"text": tagged.text, "entities": entities(tagged.entities()), "windows": 1, "adapted": body["adapt"]}
    if not body["explain"]:
        return answer
    support = [
        {"similarity": s.similarity, "text": s.text, "entities": entities(s.entities), "start": s.start, "end": s.end}
        for s in tagged.support()
    ]
    return {**answer, "plain": entities(tagged.plain_entities()), "support": support}


def masked(output: bytes) -> tuple[bytes, list[float]]:
    """Bytes without their decimals, which may differ by rounding, and the decimals."""
    decimals = re.compile(rb"-?\d+\.\d+(?:e-?\d+)?")
    without = re.sub(rb', "window": \d+', b"", output)
    return decimals.sub(b"#", without), [float(number) for number in decimals.findall(without)]


@pytest.mark.parametrize("options", [[], ["--explain"], ["--no-adapt"]], ids=str)
def test_the_same_is_written_here_and_there(
    service: Service, tiny_bundle: Path, tmp_path: Path, options: list[str]
) -> None:
    from typer.testing import CliRunner

    from metacross.cli.app import app
    from metacross.tagging.answers import TaggedText
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(tiny_bundle)

    def tag(body: dict[str, Any]) -> list[dict[str, Any]]:
        how = {"adapt": body["adapt"], "explain": body["explain"]}
        if "texts" in body:
            return [contract(tagged, body) for tagged in tagger.tag_texts(body["texts"], **how)]
        sentences = [sentence_from_words(words) for words in body["words"]]
        tagged = zip(sentences, tagger.tag_sentences(sentences, **how), strict=True)
        return [contract(TaggedText(given.text, (found,), (0,)), body) for given, found in tagged]

    service.tag = tag
    path = tmp_path / "in.jsonl"
    lines = [
        {"n": 1, "text": "👋 Anna Berg left Oslo.  Jan Smit lives in Lima. "},
        {"tokens": ["Anna", "Berg", "spoke", "京", "。"]},
        {"text": " "},
        {"words": []},
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    for output in ("jsonl", "conll"):
        here, there = (
            CliRunner().invoke(app, ["tag", *place, str(path), "--output", output, *options])
            for place in ([str(tiny_bundle)], ["--server", service.url])
        )
        assert (here.exit_code, there.exit_code, there.stderr) == (0, 0, "")
        (same, decimals), (wanted, expected) = masked(there.stdout_bytes), masked(here.stdout_bytes)
        assert same == wanted
        assert decimals == pytest.approx(expected, abs=1e-4)
    assert b"B-" in here.stdout_bytes
    assert len(service.seen) == 4


def test_what_cannot_be_done_exits_with_2_and_what_failed_with_1(service: Service, tmp_path: Path) -> None:
    refused = program("--server", service.url, stdin="Ada\nRefuse\n")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {service.url}/v1/entities: 422 one text is refused")
    service.token = TOKEN
    denied = program("--server", service.url, stdin="Ada", METACROSS_TOKEN="wr0ng")
    assert (denied.returncode, "401" in denied.stderr, "wr0ng" in denied.stderr) == (2, True, False)
    service.faults.append(answers(500, content_type="application/problem+json"))
    failed = program("--server", service.url, stdin="Ada")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "500 Internal Server Error" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give BUNDLE, or --server URL"),
        (["--server", "http://h", "runs/en/bundle", "news.txt"], "leave out --server, or runs/en/bundle"),
        (["--server", "http://h", "--examples", "de.conll"], "POST /v1/examples"),
        (["--server", "h:80"], "expected an address such as"),
        (["--server", "http://h", "no/such.txt"], "no/such.txt: no such file"),
        (["--server", "http://h", "--explain", "--no-adapt"], "leave out --no-adapt"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    from typer.testing import CliRunner

    from metacross.cli.app import app

    done = CliRunner().invoke(app, ["tag", *arguments])
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_tagging_there_needs_no_torch(service: Service) -> None:
    code = (
        "import sys\nfrom metacross.cli.app import main\n"
        "try: main()\nfinally: print(sorted({'torch', 'transformers', 'ray', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "tag", "--server", service.url]
    done = subprocess.run(command, input=b"Ada", capture_output=True, timeout=240, check=False)
    assert done.stdout.splitlines()[1:] == [b"[]"], done.stderr


def test_the_clients_are_found_in_the_package() -> None:
    assert (metacross.Client, metacross.AsyncClient) == (Client, AsyncClient)
