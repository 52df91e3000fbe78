"""A real HTTP server of the contract for the clients, whose answers can be made to fail, and calls of either client.

It finds capitalised words, so that every answer can be told beforehand.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from metacross.client import AsyncClient, Client
from metacross.corpora.words import join_words

TOKEN = "s3cret-token"
Fault = Callable[["Service", Any], Awaitable[None]]


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

    @app.post("/v1/entities:stream")
    async def stream(request: Request) -> Any:
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        query = request.query_params
        options = {"adapt": query["adapt"] == "true", "explain": query["explain"] == "true"}
        options |= {"labels": query.getlist("labels") or None, "threshold": float(query["threshold"])}
        key = "texts" if "text" in lines[0] else "words"
        body = {key: [line.get("text", line.get("words")) for line in lines], **options}
        service.seen.append(body)
        texts = body["texts"] if "texts" in body else [join_words(words)[0] for words in body["words"]]
        results = service.tag(body) if service.tag else [result(text, body) for text in texts]

        async def answers() -> AsyncIterator[bytes]:
            for number, (line, text, one) in enumerate(zip(lines, texts, results, strict=True), 1):
                answer = {"id": line["id"], "result": one}
                if text == "Refuse" or service.busy.pop(text, None):
                    status = 422 if text == "Refuse" else 503
                    error = {"status": status, "detail": f"said of {text}", "errors": [], "request_id": "r-7"}
                    answer = {"id": line["id"], "line": number, "error": error}
                yield json.dumps(answer, ensure_ascii=False).encode() + b"\n"

        return StreamingResponse(answers(), media_type="application/x-ndjson")

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
    busy: dict[str, int] = field(default_factory=dict)  # texts for which there is no room once, when they are streamed
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


def cut_off_after(lines: int, *, neatly: bool = False) -> Fault:
    """Ends a stream after some lines; neatly: as if these were all."""

    async def fault(service: Service, asgi: Any) -> None:
        scope, receive, send = asgi
        sent = 0

        async def some(message: Any) -> None:
            nonlocal sent
            if sent == lines and message.get("body"):
                if not neatly:
                    raise ConnectionResetError
                return
            sent += bool(message.get("body"))
            await send(message)

        await service.app(scope, receive, some)

    return fault


async def done_then_cut_off(service: Service, asgi: Any) -> None:
    """Does what is asked, but nobody hears of it."""

    async def swallow(_: Any) -> None:
        return None

    await service.app(asgi[0], asgi[1], swallow)
    await cut_off(service, asgi)


async def silent(service: Service, _: Any) -> None:
    await asyncio.to_thread(service.released.wait)


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
