"""A small service with the HTTP contract of the real one and a simple rule in place of the model, for the page's tests.

Names in a list are entities. The plain answer looks them up in a list that is always the same; adaptation adds the
entities of the support sentences, found among a few source sentences and the stored examples by shared character
trigrams. So an example changes the answers to texts near to it, as with the model.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serve.web import api_page, page

LABELS = ["LOC", "MISC", "ORG", "PER"]
NEIGHBOURS = 4
LONGEST = 2000  # characters of a text
PLAIN = {
    "Valeria Montoya": "PER",
    "Guadalajara": "LOC",
    "Amazon": "LOC",
    "Anke Lorenz": "PER",
    "Quito": "LOC",
    "Coimbra": "LOC",
    "القاهرة": "LOC",
    "تونس": "LOC",
    "成都": "LOC",
    "अनन्या शर्मा": "PER",
    "जयपुर": "LOC",
    "Ankara": "LOC",
    "Nairobi": "LOC",
}
SOURCE = [
    ("Seattle is where Amazon built its first office.", {"Seattle": "LOC", "Amazon": "ORG"}),
    ("The Guadalajara International Book Fair opened on Saturday.", {"Guadalajara International Book Fair": "MISC"}),
    ("Critics praised the novel that Valeria Montoya had written.", {"Valeria Montoya": "PER"}),
    ("Banco Central kept its rates, said Helena Duarte.", {"Banco Central": "ORG", "Helena Duarte": "PER"}),
    ("Bremen lies on the river Weser.", {"Bremen": "LOC", "Weser": "LOC"}),
    ("The University of Cairo (جامعة القاهرة) opened in 1908.", {"جامعة القاهرة": "ORG"}),
    ("四川大学 is a university in Chengdu.", {"四川大学": "ORG", "Chengdu": "LOC"}),
    ("भारतीय रेल carries millions of people a day.", {"भारतीय रेल": "ORG"}),
]

Json = dict[str, Any]
_SUPPORT = ("text", "entities", "language", "confidence", "uncertain")  # what support says of an example


class Refusal(Exception):
    """An answer that is a problem."""

    def __init__(self, status: int, detail: str, *errors: tuple[str, str], **headers: str) -> None:
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers


@dataclass
class PageService:
    """What the service knows, and how it is to behave.

    Attributes:
        busy: so many more requests to tag or store are refused with 503.
        token: what requests must show; None: nothing.
        may: what the token allows.
        hold: requests to tag wait for this event.
        requests: method, path and body of every request to tag or store.
        voters: labelled sentences whose words vote on entities with the same text.
    """

    address: str = ""
    busy: int = 0
    token: str | None = None
    may: tuple[str, ...] = ("read_examples", "tag", "write_examples")
    hold: threading.Event = field(default_factory=threading.Event)
    examples: dict[int, Json] = field(default_factory=dict)
    requests: list[tuple[str, Json]] = field(default_factory=list)
    voters: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.hold.set()

    def add(self, text: str, entities: dict[str, str], language: str = "") -> Json:
        """Stores an example whose entities are given as {words: label}."""
        spans = [{k: e[k] for k in ("start", "end", "label")} for e in located(text, entities)]
        return self.store({"text": text, "entities": spans, "language": language})

    def add_by_machine(self, text: str, entities: dict[str, str]) -> None:
        """Stores an example that a machine labelled."""
        self.add(text, entities, "de").update(confidence=0.93, uncertain=[], labelled_by="5f0c2a91be77")

    def put(self, example: Json) -> Json:
        """Stores an example, or corrects that of the same sentence; the contract's ADDEDEXAMPLE."""
        before = next((one for one in self.examples.values() if one["text"] == example["text"]), None)
        if before is None:
            return {**self.store(example), "outcome": "added"}
        return {**self.store(example, before["id"]), "outcome": "replaced", "before": before}

    def store(self, example: Json, number: int | None = None) -> Json:
        text = example["text"]
        entities = [{**e, "text": text[e["start"] : e["end"]]} for e in example["entities"]]
        if number is None:
            number = self.numbers = self.numbers + 1
        self.examples[number] = {
            "id": number,
            "text": text,
            "entities": entities,
            "language": example.get("language", ""),
            "created": "2026-11-24T12:00:00Z",
        }
        return self.examples[number]

    def tagged(self, text: str, *, explain: bool) -> Json:
        """The contract's RESULT; a text's lines are its windows."""
        plain, entities, support = located(text, PLAIN), [], []
        windows = [match for match in re.finditer(r"[^\n]+", text)]
        for window in windows:
            near = self.nearest(window.group())
            learnt = {e["text"]: e["label"] for one in reversed(near) for e in one["entities"]}
            found = located(text, PLAIN | learnt, window.start(), window.end())
            entities += found
            for one in near:
                influences = [influence(entity, one) for entity in found]
                support.append({**one, "start": window.start(), "end": window.end(), "influences": influences})
        support += [
            {"similarity": 0.9, "text": voter, "entities": located(voter, names), "start": e["start"], "end": e["end"]}
            | {"place": "adopted.conll:3", "example": None, "voted": True}
            for voter, names in self.voters
            for e in entities
            if e["text"] in names
        ]
        result: Json = {"text": text, "entities": entities, "windows": len(windows), "adapted": True}
        return result | {"support": support, "plain": plain} if explain else result

    def nearest(self, text: str) -> list[Json]:
        pool: list[Json] = [
            {"text": t, "entities": located(t, names), "place": f"news.conll:{40 + 12 * i}", "example": None}
            for i, (t, names) in enumerate(SOURCE)
        ]
        pool += [
            {key: e[key] for key in _SUPPORT if key in e} | {"place": f"examples:{i}", "example": i}
            for i, e in self.examples.items()
        ]
        near = sorted(
            ({"similarity": similarity(text, one["text"]), **one} for one in pool), key=lambda one: one["text"]
        )
        return sorted(near, key=lambda one: -one["similarity"])[:NEIGHBOURS]


def labelled(example: Json, label: str) -> bool:
    """Whether an example has an entity with this label; "" is any."""
    return not label or any(entity["label"] == label for entity in example["entities"])


def influence(entity: Json, support: Json) -> Json:
    """What a labelled sentence changed in an entity: it raised its own entities, and lowered all others."""
    own = next((e for e in support["entities"] if e["text"] == entity["text"]), None)
    change = 0.2 * support["similarity"] if own else -0.01
    word = own or {"start": 0, "end": 3}
    words = [{"start": word["start"], "end": word["end"], "change": change}]
    return {"start": entity["start"], "end": entity["end"], "change": change, "words": words}


def similarity(one: str, other: str) -> float:
    """Shared character trigrams, as a cosine."""
    a, b = ({text[i : i + 3] for i in range(len(text) - 2)} for text in (one, other))
    return round(len(a & b) / ((len(a) * len(b)) ** 0.5 or 1), 4)


def located(text: str, names: dict[str, str], start: int = 0, end: int | None = None) -> list[Json]:
    """Entities of a stretch of text: the longest names win."""
    found: list[Json] = []
    for name in sorted(names, key=len, reverse=True):
        for match in re.compile(re.escape(name)).finditer(text, start, len(text) if end is None else end):
            if all(match.end() <= e["start"] or e["end"] <= match.start() for e in found):
                score = round(0.99 - 0.4 / (1 + len(name)), 3)
                found.append(
                    {
                        "start": match.start(),
                        "end": match.end(),
                        "text": name,
                        "label": names[name],
                        "score": score,
                    }
                )
    return sorted(found, key=lambda e: int(e["start"]))


def make_app(service: PageService) -> FastAPI:
    """The HTTP side."""
    app = FastAPI(docs_url=None)
    api_page.add(app)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        titles = {401: "Unauthorized", 404: "Not Found", 422: "Unprocessable Content", 503: "Service Unavailable"}
        errors = [{"field": name, "detail": detail} for name, detail in refusal.errors]
        problem = {"type": "about:blank", "title": titles[refusal.status], "status": refusal.status}
        problem |= {"detail": refusal.detail, "errors": errors, "request_id": "r-17"}
        headers = {name.replace("_", "-"): value for name, value in refusal.headers.items()}
        return JSONResponse(problem, refusal.status, headers, media_type="application/problem+json")

    @app.middleware("http")
    async def answer(request: Request, go_on: Any) -> Response:
        response: Response = await go_on(request)
        response.headers["x-request-id"] = "r-17"
        return response

    def admit(request: Request, body: Json | None = None) -> None:
        if service.token and request.headers.get("authorization") != f"Bearer {service.token}":
            raise Refusal(401, "Send Authorization: Bearer TOKEN.")
        if body is not None:
            service.requests.append((f"{request.method} {request.url.path}", body))
            if service.busy:
                service.busy -= 1
                raise Refusal(503, "The queue is full. Try again in 1 s.", retry_after="1")

    @app.get("/page/access")
    def access(request: Request) -> Json:
        admit(request)
        return {"may": service.may, "keeps_examples": True}

    page.add_files(app)

    @app.post("/v1/entities")
    def entities(request: Request, body: Json) -> Json:
        admit(request, body)
        service.hold.wait(20)
        texts = [body["text"]] if "text" in body else body.get("texts") or [" ".join(words) for words in body["words"]]
        if any(len(text) > LONGEST for text in texts):
            raise Refusal(422, "A text is too long. Send it in parts.", ("text", f"more than {LONGEST} characters"))
        model = {"bundle": "5f0c2a91be77", "method": "metacross"}
        return {"results": [service.tagged(text, explain=body.get("explain", False)) for text in texts], "model": model}

    @app.post("/v1/examples", status_code=201)
    def store(request: Request, body: Json) -> Json:
        admit(request, body)
        for i, example in enumerate(body["examples"]):
            if not re.fullmatch("([a-z]{2})?", example.get("language", "")):
                raise Refusal(422, "A language is no code.", (f"examples.{i}.language", "two letters, such as pt"))
        return {"examples": [service.put(example) for example in body["examples"]]}

    @app.get("/v1/examples")
    def listed(request: Request, after: int | None = None, limit: int = 10, text: str = "", label: str = "") -> Json:
        """The newest first."""
        admit(request)
        found = [e for e in reversed(service.examples.values()) if text in e["text"] and labelled(e, label)]
        later = [example for example in found if after is None or example["id"] < after]
        next_id = later[limit - 1]["id"] if len(later) > limit else None
        return {"examples": later[:limit], "next": next_id, "total": len(found)}

    @app.get("/v1/examples:export")
    def exported(request: Request) -> Response:
        admit(request)
        lines = "".join(f"{example['text']}\n" for example in service.examples.values())
        return Response(lines, headers={"content-disposition": 'attachment; filename="examples.jsonl"'})

    @app.post("/v1/examples:import", status_code=201)
    async def brought(request: Request, language: str = "") -> Json:
        admit(request)
        lines = (await request.body()).decode().split("\n")
        added = [service.add(line, PLAIN, language) for line in lines if line]
        return {
            "examples": added,
            "added": len(added),
            "replaced": 0,
            "unchanged": 0,
            "oddities": ["no tags in line 1"],
        }

    @app.get("/v1/examples/{number}")
    def one(request: Request, number: int) -> Json:
        admit(request)
        if number not in service.examples:
            raise Refusal(404, f"There is no example {number}.")
        return service.examples[number]

    @app.put("/v1/examples/{number}")
    def put(request: Request, number: int, body: Json) -> Json:
        admit(request, body)
        one(request, number)
        return service.store(body, number)

    @app.delete("/v1/examples/{number}", status_code=204)
    def delete(request: Request, number: int) -> Response:
        one(request, number)
        del service.examples[number]
        return Response(status_code=204)

    @app.get("/v1/model")
    def model(request: Request) -> Json:
        admit(request)
        return {
            "bundle": "5f0c2a91be77",
            "method": "metacross",
            "encoder": "multilingual-e5-small",
            "source_language": "en",
            "labels": LABELS,
            "dev_f1": 72.4,
            "source_sentences": 14041,
            "adopted": [{"language": "de", "file": "de.txt", "sentences": 900, "kept": 300, "distilled": 450}],
            "examples": sum("confidence" not in example for example in service.examples.values()),
            "machine_examples": sum("confidence" in example for example in service.examples.values()),
            "neighbours": NEIGHBOURS,
            "inner_lr": 0.05,
        }

    return app


@contextmanager
def running(service: PageService) -> Iterator[PageService]:
    """Serves on a free port of this machine; the service has the address."""
    config = uvicorn.Config(make_app(service), host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    listening.listen()  # connections wait until the thread takes them
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    service.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield service
    finally:
        service.hold.set()
        server.should_exit = True
        thread.join(10)
