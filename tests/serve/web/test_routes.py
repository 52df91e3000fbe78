"""The HTTP interface over a real engine and a real store in this process: contracts, limits, tokens, odd texts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from metacross import AdaptiveTagger
from metacross.client.batches import Batch, Streamed
from metacross.client.contract import EntitiesAnswer, Model, Readiness
from metacross.client.wire import tag_call, tag_options
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError
from serve.engine import Engine
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Refusal
from serve.web.auth import Token, read_tokens, refuse_open_door
from serve.web.limits import Limits
from serve.web.problems import ProblemError
from serve.web.routes import make_app

TEXT = "😀 Anna Berg left Oslo."
LIMITS = Limits(body_bytes=1 << 20, texts=8, characters=2000, neighbours=10_000, work=10**9, seconds=30)
PROBLEM = "application/problem+json"


class Here:
    """A backend in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def tag(self, jobs: Sequence[Job], progressed: Callable[[], None]) -> EntitiesAnswer | Refusal:
        return (await asyncio.to_thread(self.engine.answer, [jobs]))[0]

    async def label(self, sentences: Sequence[Sentence], language: str, progressed: Callable[[], None]) -> Labelled:
        return await asyncio.to_thread(self.engine.label, sentences, language)

    async def model(self) -> Model:
        return self.engine.model()

    async def readiness(self) -> Readiness:
        return Readiness("ready", self.engine.model().bundle)


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    store = ExampleStore(str(tmp_path_factory.mktemp("store") / "examples.db"))
    engine = Engine(store, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu"))
    engine.load(str(tiny_bundle))
    return engine


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[TestClient]:
    app = make_app(Here(engine), engine.store, limits=LIMITS)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, **request: Any) -> Any:
    answer = client.post("/v1/entities", json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: Any, status: int, *parts: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.status_code == problem["status"] == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["x-request-id"] == problem["request_id"]
    for part in parts:
        assert part in json.dumps(problem, ensure_ascii=False)
    return problem


def test_entities_of_a_text(client: TestClient, engine: Engine) -> None:
    answer = post(client, text=TEXT)
    assert answer["model"] == {"bundle": engine.model().bundle, "method": "metacross"}
    (result,) = answer["results"]
    assert result["text"] == TEXT
    assert (result["windows"], result["adapted"]) == (1, True)
    assert {"support", "plain"}.isdisjoint(result)
    assert ("Oslo", "LOC") in [(e["text"], e["label"]) for e in result["entities"]]
    for entity in result["entities"]:
        assert TEXT[entity["start"] : entity["end"]] == entity["text"], "offsets are code points"
        assert 0 < entity["score"] <= 1


def test_every_request_is_counted_under_its_route(engine: Engine) -> None:
    seen: list[tuple[str, int]] = []
    app = make_app(
        Here(engine),
        engine.store,
        limits=LIMITS,
        observed=lambda route, status, seconds, client: seen.append((route, status)),
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        for path in ("/healthz", "/v1/examples/77", "/v1/examples/78", "/nowhere/at/all"):
            client.get(path)
        client.post("/v1/entities", json={"text": TEXT})
        client.post("/v1/entities", json={})
    one = "/v1/examples/{number}"
    assert seen == [("/healthz", 200), (one, 404), (one, 404), ("", 404), ("/v1/entities", 200), ("/v1/entities", 422)]


def test_several_texts_and_given_words(client: TestClient) -> None:
    texts = [TEXT, "", "Nothing."]
    assert [r["text"] for r in post(client, texts=texts)["results"]] == texts
    assert post(client, texts=[])["results"] == []
    (result,) = post(client, words=[["Anna", "Berg", "left", "Oslo", "."]])["results"]
    assert result["text"] == "Anna Berg left Oslo ."
    assert {e["text"] for e in result["entities"]} == {"Anna Berg", "Oslo"}


def test_options(client: TestClient) -> None:
    (plain,) = post(client, text=TEXT, adapt=False)["results"]
    assert not plain["adapted"]
    (result,) = post(client, text=TEXT, explain=True, neighbours=3)["results"]
    assert result["plain"] == plain["entities"]
    assert len(result["support"]) == 3
    for support in result["support"]:
        assert (support["start"], support["end"], support["example"]) == (0, len(TEXT), None)
        assert all(support["text"][e["start"] : e["end"]] == e["text"] for e in support["entities"])
        assert ".conll:" in support["place"]
        changes = [influence["change"] for influence in support["influences"]]
        assert changes == [round(change, 4) for change in changes] != []
    both = "Anna Berg lives in Oslo."
    assert {e["label"] for e in post(client, text=both)["results"][0]["entities"]} == {"PER", "LOC"}
    (people,) = post(client, text=both, labels=["PER"])["results"]
    assert {e["label"] for e in people["entities"]} == {"PER"}
    scores = sorted(e["score"] for e in post(client, text=TEXT)["results"][0]["entities"])
    (sure,) = post(client, text=TEXT, threshold=scores[-1])["results"]
    assert len(sure["entities"]) == 1


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({}, ["exactly one of text, texts and words; found none"]),
        ({"text": "a", "texts": ["b"]}, ["found text and texts"]),
        ({"text": 3}, ['"field": "text"', "valid string"]),
        ({"text": "a", "adopt": True}, ['"field": "adopt"', "extra inputs"]),
        ({"text": "a", "labels": ["CAT"]}, ['"field": "labels"', "the label 'CAT'; expected one of LOC, PER."]),
        ({"inputs": "a"}, ["inputs is what Hugging Face's interface takes; here send text"]),
        ({"text": "a", "neighbours": 0}, ['"field": "neighbours"', "greater than or equal to 1"]),
        ({"text": "a", "neighbours": 5000}, ['"field": "neighbours"', "neighbours=5000, but there are 24"]),
        ({"text": "a", "threshold": 1.5}, ['"field": "threshold"']),
        ({"text": "x" * 2001}, ['"field": "text"', "2001 characters, at most 2000"]),
        ({"texts": ["a", "x" * 2001]}, ['"field": "texts.1"']),
        ({"texts": ["a"] * 9}, ["9 texts, at most 8", "stream"]),
        ({"words": [["a", ""]]}, ['"field": "words.0.1"']),
        ({"words": [[]]}, ['"field": "words.0"']),
    ],
)
def test_requests_that_make_no_sense(client: TestClient, request_: dict[str, Any], parts: list[str]) -> None:
    refused(client.post("/v1/entities", json=request_), 422, *parts)


def test_bodies_that_are_no_requests(client: TestClient) -> None:
    json_ = {"content-type": "application/json"}
    refused(client.post("/v1/entities", content=b"{broken", headers=json_), 422, "not JSON")
    refused(client.post("/v1/entities", content=b'{"text": "\\ud800"}', headers=json_), 422, "text", "surrogate")
    for kind in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        refused(client.post("/v1/entities", content=b"text=a", headers=kind), 415, "content-type: application/json")
    form = {"content-type": "multipart/form-data; boundary=a"}
    for path in ("entities:stream", "examples:import", "texts:import?language=de"):
        refused(client.post(f"/v1/{path}", content=b"a", headers=form), 415, "text/plain or application/x-ndjson")
    also_json = {"content-type": "application/vnd.ana+json; charset=utf-8"}
    assert client.post("/v1/entities", content=b'{"text": "a"}', headers=also_json).status_code == 200
    refused(client.post("/v1/entities", content=b" " * (1 << 20) + b"{}", headers=json_), 413, "too large")
    refused(client.post("/v1/entities", content=iter([b" " * (1 << 19)] * 3), headers=json_), 413, "too large")
    refused(client.get("/v1/entities"), 405, "/docs")
    refused(client.get("/v2"), 404, "/docs")


def test_examples_shape_the_next_answer_and_are_kept(client: TestClient, engine: Engine, tiny_bundle: Path) -> None:
    text = "Zoe Quist flew to Xanten."
    entities = [{"start": 0, "end": 9, "label": "PER"}, {"start": 18, "end": 24, "label": "LOC"}]
    count = client.get("/v1/model").json()["examples"]
    answer = client.post("/v1/examples", json={"examples": [{"text": text, "entities": entities, "language": "de"}]})
    assert answer.status_code == 201, answer.text
    (example,) = answer.json()["examples"]
    assert [e["text"] for e in example["entities"]] == ["Zoe Quist", "Xanten"]
    (first, *_) = post(client, text=text, explain=True)["results"][0]["support"]
    assert (first["example"], first["text"]) == (example["id"], text)
    assert client.get("/v1/model").json()["examples"] == count + 1
    kept = client.get(answer.headers["location"]).json()
    assert {**kept, "outcome": "added", "uses": 0} == example
    assert kept in client.get("/v1/examples").json()["examples"]

    other = Engine(engine.store, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu"))
    other.load(str(tiny_bundle))  # as after a restart, or on another replica
    (found,) = other.answer([[Job(text, explain=True)]])
    assert isinstance(found, EntitiesAnswer)
    assert (found.results[0].support or ())[0].example == example["id"]

    assert client.delete(f"/v1/examples/{example['id']}").status_code == 204
    refused(client.delete(f"/v1/examples/{example['id']}"), 404, "no example")
    refused(client.get(f"/v1/examples/{example['id']}"), 404)
    assert all(s["example"] is None for s in post(client, text=text, explain=True)["results"][0]["support"])
    (found,) = other.answer([[Job(text, explain=True)]])
    assert isinstance(found, EntitiesAnswer)
    assert all(s.example is None for s in found.results[0].support or ())


def test_answers_go_on_without_the_database(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost() -> int:
        raise RunError("the database is gone")

    expected = post(client, text=TEXT)
    assert engine.store is not None
    monkeypatch.setattr(engine.store, "version", lost)
    monkeypatch.setattr(engine.store, "count", lost)
    assert post(client, text=TEXT) == expected
    assert "the database is gone" in caplog.text
    assert refused(client.get("/v1/model"), 503, "store of examples")
    assert "retry-after" in client.get("/v1/model").headers


def test_examples_come_in_pages(client: TestClient) -> None:
    new = [{"words": ["Eva", "left", str(i)], "tags": ["B-PER", "O", "O"]} for i in range(5)]
    ids = [e["id"] for e in client.post("/v1/examples", json={"examples": new}).json()["examples"]]
    found, after = [], ids[0] - 1
    while after is not None:
        page = client.get("/v1/examples", params={"after": after, "limit": 2}).json()
        found += [e["id"] for e in page["examples"]]
        after = page["next"]
    assert found == ids
    assert all(client.delete(f"/v1/examples/{number}").status_code == 204 for number in ids)


def test_examples_that_make_no_sense_are_refused_all_together(client: TestClient) -> None:
    good = {"words": ["Eva", "left"], "tags": ["B-PER", "O"]}
    count = client.get("/v1/model").json()["examples"]
    for bad, part in [
        ({"text": "Eva left", "entities": [{"start": 1, "end": 3, "label": "PER"}]}, "Eva"),
        ({"text": "Eva left", "entities": [{"start": 0, "end": 3, "label": "CAT"}]}, "CAT"),
        ({"words": ["Eva"], "tags": ["B-PER", "O"]}, "1 word and 2 tags"),
        ({"text": "Eva left"}, "text and entities"),
    ]:
        refused(client.post("/v1/examples", json={"examples": [good, bad]}), 422, "examples.1", part)
    assert client.get("/v1/model").json()["examples"] == count


def test_lines(client: TestClient) -> None:
    lines = [{"id": 1, "text": TEXT}, "broken", {"id": {"a": 2}, "text": ""}, {"id": 3}, {"id": 4, "text": "x" * 2001}]
    body = "\n".join(json.dumps(line) for line in lines) + "\n\n" + json.dumps({"id": 5, "text": "y" * 9100})
    answer = client.post("/v1/entities:stream", params={"explain": True}, content=body.encode())
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in found] == [1, None, {"a": 2}, 3, 4, None]
    assert [line.get("line") for line in found] == [None, 2, None, 4, 5, 7]
    assert found[0]["result"] == post(client, text=TEXT, explain=True)["results"][0]
    assert found[2]["result"]["entities"] == []
    for line in (found[1], found[3], found[4], found[5]):
        assert line["error"]["status"] == 422
    wrong = client.post("/v1/entities:stream", params={"neighbours": 5000}, content=b'{"text": "a"}\n')
    assert json.loads(wrong.text)["error"]["detail"].startswith("neighbours=5000")
    for query, part in [
        ({"neighbours": "many"}, "neighbours"),
        ({"labels": ["person", "CAT"]}, "the label 'CAT'; expected one of LOC, PER."),
        ({"adopt": "true"}, "'adopt' is no parameter of this address; expected one of adapt, explain, labels"),
    ]:
        refused(client.post("/v1/entities:stream", params=query, content=b'{"text": "a"}'), 422, part)


def test_a_line_may_hold_the_words_of_a_text(client: TestClient) -> None:
    words = ["Anna", "Berg", "lives", "in", "Oslo", "."]
    lines = [
        {"id": 1, "words": words},
        {"id": 2, "words": ["x" * 2001]},
        {"id": 3, "words": [""]},
        {"id": 4, "words": words, "text": "Anna"},
    ]
    answer = client.post("/v1/entities:stream", content="\n".join(map(json.dumps, lines)))
    first, *others = [json.loads(line) for line in answer.text.splitlines()]
    assert first == {"id": 1, "result": post(client, words=[words])["results"][0]}
    assert ["at most 2000" in line["error"]["detail"] for line in others] == [True, False, False]
    assert all(line["error"]["status"] == 422 for line in others)


@pytest.mark.parametrize(
    "items", [[TEXT, "", "Oslo\u2028\x85"], [["Anna", "Berg"], ["北", "京"]]], ids=["texts", "words"]
)
def test_the_clients_read_a_stream_as_they_read_a_request(client: TestClient, items: list[Any]) -> None:
    options = tag_options(explain=True, labels=["person", "LOC"], threshold=0.1)
    streamed = Streamed(Batch(items, first=0, is_all=False), options)
    streamed.take(client.request(**streamed.call().http()).content)
    call = tag_call(items, options)
    assert list(streamed.results(pytest.fail)) == call.read(client.request(**call.http()).json())


def test_labels_are_meant_in_any_case_and_by_other_names(client: TestClient) -> None:
    both = "Anna Berg lives in Oslo."
    for labels in (["person"], ["PERSON"], ["per"]):
        (result,) = post(client, text=both, labels=labels)["results"]  # as GLiNER is asked
        assert {e["label"] for e in result["entities"]} == {"PER"}
        answer = client.post("/v1/entities:stream", params={"labels": labels}, content=json.dumps({"text": both}))
        assert json.loads(answer.text)["result"] == result


def test_what_an_answer_gives_is_taken_as_an_example(client: TestClient) -> None:
    (result,) = post(client, text="Anna Berg lives in Oslo.", explain=True)["results"]
    pipeline_keys = {"label": "entity_group", "text": "word"}
    as_a_pipeline = [{pipeline_keys.get(key, key): e[key] for key in e} for e in result["entities"]]
    given = [result, {"text": result["text"], "entities": as_a_pipeline, "language": "PT-br"}]
    added = client.post("/v1/examples", json={"examples": given}).json()["examples"]
    for example in added:
        assert [e["text"] for e in example["entities"]] == [e["text"] for e in result["entities"]]
    assert added[1]["language"] == "pt-BR"
    again = {"text": added[0]["text"], "entities": added[0]["entities"]}
    answer = client.post("/v1/examples", json={"examples": [again]})
    assert (answer.status_code, answer.json()["unchanged"]) == (200, 1)
    moved = [{**entity, "start": entity["start"] + 1} for entity in result["entities"]]
    wrong = {"examples": [{"text": result["text"], "entities": moved}]}
    refused(
        client.post("/v1/examples", json=wrong), 422, "entity 1 is 'Anna Berg', but from 1 to 9 the text is 'nna Berg'"
    )
    for example in client.get("/v1/examples?limit=1000").json()["examples"]:
        client.delete(f"/v1/examples/{example['id']}")


@pytest.mark.parametrize("path", ["/v1/model", "/v1/examples", "/v1/examples/1"])
def test_unknown_parameters_are_refused(client: TestClient, path: str) -> None:
    refused(client.get(path, params={"page": 2}), 422, "'page' is no parameter of this address")


def test_scores_have_four_digits(client: TestClient) -> None:
    (result,) = post(client, text=TEXT, explain=True)["results"]
    shown = [*result["entities"], *result["plain"]]
    numbers = [e["score"] for e in shown] + [s["similarity"] for s in result["support"]]
    assert numbers and all(number == round(number, 4) for number in numbers)


def test_probes_and_documents(client: TestClient, engine: Engine) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 200
    model = client.get("/v1/model").json()
    assert model["labels"] == ["LOC", "PER"]
    assert model["bundle"] == engine.model().bundle
    assert "/v1/entities" in client.get("/openapi.json").json()["paths"]
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]


def test_answers_do_not_tell_where_files_are_on_the_server(client: TestClient, tiny_folder: Path) -> None:
    (result,) = post(client, text=TEXT, explain=True)["results"]
    places = [support["place"] for support in result["support"]]
    assert places and all(place.startswith("train.conll:") for place in places)
    for told in (result, client.get("/v1/model").json(), client.get("/openapi.json").json()):
        assert str(tiny_folder.parent) not in json.dumps(told)


def test_request_ids_and_logs(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="metacross.serve"):
        answer = client.post("/v1/entities", json={"text": "Secret Person"}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    (line,) = [json.loads(r.message) for r in caplog.records if r.name == "metacross.serve"]
    assert (line["request_id"], line["path"], line["status"]) == ("mine-1", "/v1/entities", 200)
    assert "Secret" not in caplog.text
    other = client.post("/v1/entities", json={"text": "a"}, headers={"x-request-id": "not allowed\t!"})
    assert len(other.headers["x-request-id"]) == 32


class Failing:
    """A backend that cannot."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def tag(self, jobs: Sequence[Job], progressed: Callable[[], None]) -> EntitiesAnswer | Refusal:
        if self.error is None:
            await asyncio.sleep(60)
        else:
            raise self.error
        raise AssertionError

    async def label(self, sentences: Sequence[Sentence], language: str, progressed: Callable[[], None]) -> Labelled:
        await self.tag([], progressed)
        raise AssertionError

    async def model(self) -> Model:
        await self.tag([], lambda: None)
        raise AssertionError

    async def readiness(self) -> Readiness:
        await self.tag([], lambda: None)
        raise AssertionError


@pytest.mark.parametrize(
    ("error", "status", "part"),
    [
        (ProblemError(503, "full", headers={"Retry-After": "2"}), 503, "full"),
        (None, 504, "No answer within 0.05 s"),
        (RuntimeError("secret reason"), 500, "The service failed"),
    ],
)
def test_a_backend_that_cannot(error: Exception | None, status: int, part: str) -> None:
    limits = Limits(body_bytes=1000, texts=8, characters=100, neighbours=8, work=1000, seconds=0.05)
    with TestClient(make_app(Failing(error), None, limits=limits), raise_server_exceptions=False) as client:
        answer = client.post("/v1/entities", json={"text": "a"})
        refused(answer, status, part)
        assert "secret" not in answer.text
        assert (answer.headers.get("retry-after") == "2") == (status == 503)
        assert client.get("/readyz").status_code == status
        assert client.get("/healthz").status_code == 200
        refused(client.get("/v1/examples"), 404, "keeps no examples")


def test_tokens(engine: Engine) -> None:
    tokens = [
        Token(token="t" * 16, may=frozenset({"tag"})),
        Token(token="w" * 16, may=frozenset({"tag", "read_examples", "write_examples"})),
    ]
    with TestClient(make_app(Here(engine), engine.store, limits=LIMITS, tokens=tokens)) as client:
        refused(client.post("/v1/entities", json={"text": "a"}), 401, "Authorization: Bearer")
        assert client.post("/v1/entities", json={"text": "a"}).headers["www-authenticate"].startswith("Bearer")
        for wrong in ("Bearer nobody", "Basic " + "t" * 16, "Bearer " + "t" * 15 + "é"):
            headers = {"authorization": wrong.encode("latin-1")}
            refused(client.post("/v1/entities", json={"text": "a"}, headers=headers), 401)
        reader, writer = ({"authorization": f"bearer {letter * 16}"} for letter in "tw")
        assert client.post("/v1/entities", json={"text": "a"}, headers=reader).status_code == 200
        refused(client.get("/v1/examples", headers=reader), 403, "read_examples")
        assert client.get("/v1/examples", headers=writer).status_code == 200
        new = {"examples": [{"words": ["Eva"], "tags": ["B-PER"]}]}
        refused(client.post("/v1/examples", json=new, headers=reader), 403, "write_examples")
        assert client.get("/healthz").status_code == 200


ODD = st.text(
    st.sampled_from("aA zé\u0301\u200b\u200d\u202e\u0000\n\t😀👩‍👩‍👧北京مرحبا한\ufeff.,-'\"")
    | st.characters(exclude_categories=("Cs",)),
    max_size=200,
)


@settings(max_examples=40)
@given(texts=st.lists(ODD, min_size=1, max_size=3), explain=st.booleans())
def test_whatever_comes_offsets_slice_the_text(client: TestClient, texts: list[str], explain: bool) -> None:
    answer = post(client, texts=texts, explain=explain)
    for text, result in zip(texts, answer["results"], strict=True):
        assert result["text"] == text
        for entity in [*result["entities"], *result.get("plain", [])]:
            assert entity["text"] == text[entity["start"] : entity["end"]] != ""


@settings(max_examples=40)
@given(words=st.lists(ODD.filter(bool), min_size=1, max_size=4), explain=st.booleans())
def test_whatever_words_come_offsets_slice_their_text(client: TestClient, words: list[str], explain: bool) -> None:
    (result,) = post(client, words=[words], explain=explain)["results"]
    for entity in [*result["entities"], *result.get("plain", [])]:
        assert entity["text"] == result["text"][entity["start"] : entity["end"]] != ""
    for support in result.get("support", []):
        for entity in support["entities"]:
            assert entity["text"] == support["text"][entity["start"] : entity["end"]] != ""


@settings(max_examples=40)
@given(words=st.lists(ODD, min_size=1, max_size=4))
def test_whatever_is_added_is_kept_as_it_came_or_refused(client: TestClient, words: list[str]) -> None:
    tags = ["B-PER", *["I-PER"] * (len(words) - 1)]
    answer = client.post("/v1/examples", json={"examples": [{"words": words, "tags": tags}]})
    if any("\0" in word or not word.strip() for word in words):
        refused(answer, 422, "examples.0")
        return
    (example,) = answer.json()["examples"]
    assert {**client.get(f"/v1/examples/{example['id']}").json(), "outcome": "added"} == example
    (entity,) = example["entities"]
    assert entity["text"] == example["text"][entity["start"] : entity["end"]]
    assert all(word in entity["text"] for word in words)
    assert client.delete(f"/v1/examples/{example['id']}").status_code == 204


@pytest.mark.parametrize("unit", ["Anna Berg left Oslo. ", "مرحبا e\u0301 \u202e👩‍👩‍👧 \u200b北京 \0\x1b\n"])
def test_a_text_of_100_000_characters(engine: Engine, unit: str) -> None:
    limits = Limits(body_bytes=1 << 20, texts=8, characters=100_000, neighbours=8, work=10**6, seconds=300)
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    with TestClient(make_app(Here(engine), engine.store, limits=limits)) as client:
        (result,) = post(client, text=text, adapt=False)["results"]
        refused(client.post("/v1/entities", json={"text": text + "a"}), 422, "at most 100000")
    assert result["text"] == text
    assert all(e["text"] == text[e["start"] : e["end"]] != "" for e in result["entities"])
    assert result["windows"] > 100


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_without_tokens_on_loopback(host: str) -> None:
    refuse_open_door("", host)


@pytest.mark.parametrize("host", [None, "", "0.0.0.0", "::", "10.0.0.3", "example.org"])
def test_without_tokens_where_others_come(host: str | None) -> None:
    with pytest.raises(UserError, match=r"serve\.auth=FILE"):
        refuse_open_door("", host)
    for setting in ("none", "environment", "tokens.yaml"):
        refuse_open_door(setting, host)
    assert read_tokens("none") is None
