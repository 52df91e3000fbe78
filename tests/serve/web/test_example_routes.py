"""Examples and texts over HTTP: found, corrected, exported, deleted, sent again, labelled later."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient

from metacross.client.contract import EntitiesAnswer, Model, Readiness
from metacross.corpora.formats.writing import TextFormat, WordFormat, formats
from metacross.corpora.sentence import MachineLabels, Sentence
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Refusal
from serve.web import exports, text_labelling
from serve.web.example_schemas import ExportFormat
from serve.web.problems import busy
from serve.web.routes import make_app
from tests.serve.web.test_routes import LIMITS, refused

BUNDLE = "0" * 12
ROME = {"text": "Ana lebt in Rom.", "entities": [{"start": 0, "end": 3, "label": "PER"}], "language": "de"}
LIMA = {"words": ["Lima", "espera"], "tags": ["B-LOC", "O"], "language": "es"}


class Capitals:
    """A backend that labels the first word of every sentence as a place; `busy` times it has no time before."""

    busy = 0
    error: Exception | None = None

    async def tag(self, jobs: Sequence[Job], progressed: Callable[[], None]) -> EntitiesAnswer | Refusal:
        raise AssertionError

    async def label(self, sentences: Sequence[Sentence], language: str, progressed: Callable[[], None]) -> Labelled:
        if self.busy:
            self.busy -= 1
            raise busy("no time")
        if self.error:
            raise self.error
        labels = MachineLabels(language, 0.9, (1,))
        tags = [("B-LOC", *["O"] * (len(s.words) - 1)) for s in sentences]
        return Labelled(BUNDLE, [replace(s, tags=t, machine=labels) for s, t in zip(sentences, tags, strict=True)])

    async def model(self) -> Model:
        return Model(BUNDLE, "metacross", labels=("LOC", "PER"))

    async def readiness(self) -> Readiness:
        return Readiness("ready", BUNDLE)


class Exchanged:
    """A store in whose place another one can be put, since it takes long to make an application."""

    store: ExampleStore

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.fixture(scope="module")
def application() -> tuple[TestClient, Capitals, Exchanged]:
    backend, store = Capitals(), Exchanged()
    app = make_app(backend, store, limits=LIMITS)  # type: ignore[arg-type]
    return TestClient(app, raise_server_exceptions=False), backend, store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExampleStore]:
    store = ExampleStore(str(tmp_path / "examples.db"))
    yield store
    store.close()


@pytest.fixture
def client(application: tuple[TestClient, Capitals, Exchanged], store: ExampleStore) -> TestClient:
    application[2].store = store
    return application[0]


@pytest.fixture
def backend(application: tuple[TestClient, Capitals, Exchanged]) -> Iterator[Capitals]:
    backend = application[1]
    yield backend
    vars(backend).clear()


def add(client: TestClient, *examples: dict[str, Any], **headers: str) -> Any:
    answer = client.post("/v1/examples", json={"examples": examples}, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return answer


def found(client: TestClient, **query: Any) -> list[int]:
    answer = client.get("/v1/examples", params=query)
    assert answer.status_code == 200, answer.text
    return [example["id"] for example in answer.json()["examples"]]


def test_the_answer_says_what_became_of_each_sentence(client: TestClient) -> None:
    answer = add(client, ROME, LIMA, ROME)
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/examples/1")
    told = answer.json()
    assert [(e["id"], e["outcome"]) for e in told["examples"]] == [(1, "added"), (2, "added"), (1, "unchanged")]
    assert (told["added"], told["replaced"], told["unchanged"]) == (2, 0, 1)
    answer = add(client, {**ROME, "entities": []}, LIMA)
    assert answer.status_code == 200 and "location" not in answer.headers, "nothing was created"
    assert [e["outcome"] for e in answer.json()["examples"]] == ["replaced", "unchanged"]
    replaced, unchanged = answer.json()["examples"]
    assert replaced["changed"] and replaced["before"] == {
        k: v for k, v in told["examples"][2].items() if k != "outcome"
    }
    assert "before" not in unchanged
    assert add(client, replaced).json()["unchanged"] == 1, "it can be sent as it was answered"


def test_a_request_with_a_key_is_done_once(client: TestClient) -> None:
    first = add(client, ROME, LIMA, **{"Idempotency-Key": "one"})
    assert client.delete("/v1/examples/1").status_code == 204
    again = add(client, ROME, LIMA, **{"Idempotency-Key": "one"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert found(client) == [2]
    other = client.post("/v1/examples", json={"examples": [LIMA]}, headers={"Idempotency-Key": "one"})
    refused(other, 422, '"field": "Idempotency-Key"', "was that of another request")
    refused(client.post("/v1/examples", json={"examples": [LIMA]}, headers={"Idempotency-Key": "a b"}), 422)
    imported = [client.post("/v1/examples:import", content="Oslo\tO\n", headers={"Idempotency-Key": "two"})] * 2
    assert {answer.status_code for answer in imported} == {201}


def test_examples_go_back_in_as_they_were_answered(client: TestClient) -> None:
    (example,) = add(client, ROME).json()["examples"]
    assert add(client, example).json()["unchanged"] == 1
    wrong = {**example, "entities": [{**example["entities"][0], "text": "Rom"}]}
    refused(
        client.post("/v1/examples", json={"examples": [wrong]}), 422, "examples.0", "'Rom', but from 0 to 3", "'Ana'"
    )
    result = {
        "text": "Bern schläft.",
        "entities": [{"start": 0, "end": 4, "text": "Bern", "label": "LOC", "score": 0.9}],
    }
    assert (
        add(
            client, {**result, "windows": 1, "adapted": True, "support": [], "plain": [], "missing_shards": [1]}
        ).json()["added"]
        == 1
    )
    refused(client.post("/v1/examples", json={"examples": [{**result, "colour": 1}]}), 422, "examples.0.colour")


def test_they_are_found_by_conditions_and_come_in_pages(client: TestClient) -> None:
    add(client, ROME, LIMA, {**ROME, "text": "Ana schläft."})
    assert [found(client, language="de"), found(client, label="LOC"), found(client, text="LEBT")] == [[1, 3], [2], [1]]
    page = client.get("/v1/examples", params={"order": "newest", "limit": 2}).json()
    assert ([e["id"] for e in page["examples"]], page["next"], page["total"]) == ([3, 2], 2, 3)
    page = client.get("/v1/examples", params={"order": "newest", "limit": 2, "after": 2}).json()
    assert ([e["id"] for e in page["examples"]], page["next"], page["total"]) == ([1], None, 3)
    assert found(client, added_since="2026-01-01", added_before="2126-01-01T00:00:00+02:00", by="people") == [1, 2, 3]
    for query, part in [
        ({"added_since": "2026"}, "expected a date or a time"),
        ({"added_before": "0001-01-01T00:00:00+14:00"}, "no time of a year from 1"),
        ({"text": "\0"}, "NUL"),
        ({"label": ""}, "at least 1"),
        ({"by": "cats"}, "people"),
        ({"colour": "red"}, "'colour' is no parameter of this address"),
    ]:
        refused(client.get("/v1/examples", params=query), 422, *query, part)


def test_one_is_replaced_or_changed(client: TestClient) -> None:
    add(client, ROME, {"words": ["New York", "wartet"], "tags": ["B-LOC", "O"], "language": "de"})
    answer = client.put("/v1/examples/1", json={"text": "Ana?", "entities": []})
    assert (answer.status_code, answer.json()["text"], answer.json()["language"]) == (200, "Ana?", "")
    taken = {"words": ["New York", "wartet"], "tags": ["O", "O"]}
    refused(client.put("/v1/examples/1", json=taken), 409, "Example 2 has")
    refused(client.put("/v1/examples/7", json=ROME), 404, "no example 7")
    refused(client.put("/v1/examples/1", json={**ROME, "entities": [{"start": 1, "end": 2, "label": "PER"}]}), 422)
    entities = [{"start": 0, "end": 8, "label": "PER"}]
    changed = client.patch("/v1/examples/2", json={"entities": entities})
    assert changed.json()["entities"] == [{**entities[0], "text": "New York"}], "one word, as it was given"
    assert changed.json() == client.get("/v1/examples/2").json()
    assert client.patch("/v1/examples/2", json={"tags": ["O", "O"], "language": "en"}).json()["language"] == "en"
    for change, part in [
        ({"entities": [{"start": 0, "end": 3, "label": "PER"}]}, "nearest"),
        ({"tags": ["O"]}, "2 words and 1 tag"),
        ({"tags": ["O", "B-CAT"]}, "CAT"),
        ({"tags": ["O", "O"], "entities": []}, "not both"),
        ({}, "what is to be changed"),
        ({"text": "New"}, "extra inputs"),
    ]:
        refused(client.patch("/v1/examples/2", json=change), 422, part)
    refused(client.patch("/v1/examples/7", json={"language": "de"}), 404)


def test_several_are_deleted(client: TestClient) -> None:
    add(client, ROME, LIMA, {**ROME, "text": "Ana schläft."})
    answer = client.post("/v1/examples:delete", json={"ids": [3, 9, 3, 8]})
    assert answer.json() == {"deleted": 1, "missing": [9, 8]}
    assert client.post("/v1/examples:delete", json={"matching": {"language": "es"}}).json()["deleted"] == 1
    for wrong in ({}, {"ids": []}, {"ids": [1], "matching": {}}, {"matching": {"from_text": "1"}}, {"ids": ["1"]}):
        refused(client.post("/v1/examples:delete", json=wrong), 422)
    assert found(client) == [1]
    assert client.post("/v1/examples:delete", json={"matching": {}}).json() == {"deleted": 1, "missing": []}


@pytest.mark.parametrize("form", get_args(ExportFormat))
def test_what_is_exported_can_be_imported(client: TestClient, form: str) -> None:
    refused(client.get("/v1/examples:export"), 404, "nothing to export")
    before = add(client, ROME, {**LIMA, "tags": ["B-LOC", "O"]}, {**ROME, "text": "Ana schläft."}).json()["examples"]
    file = client.get("/v1/examples:export", params={"format": form})
    assert file.status_code == 200 and 'filename="examples.' in file.headers["content-disposition"], file.text
    assert ("metacross-oddities" in file.headers) == form.startswith("label-studio"), "which labels it needs"
    again = client.post("/v1/examples:import", content=file.content)
    if form == "label-studio-predictions":
        assert all("predictions" in task for task in file.json())
        refused(again, 422, "Nobody has annotated this file")
        return
    assert again.json()["unchanged"] == 3, again.text
    assert [e["id"] for e in again.json()["examples"]] == [e["id"] for e in before]


def test_an_export_tells_of_what_it_leaves_out(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(get_args(ExportFormat)) == {
        name for name, form in formats().items() if isinstance(form, (WordFormat, TextFormat)) and form.is_text
    }
    add(client, ROME)
    client.post("/v1/texts", json={"texts": ["Bern schläft."], "language": "de"})
    assert json.loads(client.get("/v1/examples:export").text)["tokens"][0] == "Ana", "people's alone, unless asked for"
    by_machine = client.get("/v1/examples:export", params={"by": "machine"})
    assert json.loads(by_machine.headers["metacross-oddities"]) == [
        "1 example with labels that may be wrong; the file does not say which"
    ]
    monkeypatch.setattr(exports, "MOST", 0)
    refused(client.get("/v1/examples:export"), 422, "1 examples match, at most 0")


# --- texts -----------------------------------------------------------------------------------------------------------

TEXTS = {"texts": ["Bern schläft. Bern schläft. Otto auch."], "language": "de"}


def test_texts_are_looked_up_and_deleted_with_their_examples(client: TestClient) -> None:
    answer = client.post("/v1/texts", json=TEXTS, headers={"Idempotency-Key": "one"})
    text = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/texts/{text['id']}")
    assert (text["state"], text["found"], text["kept"], text["labelled_by"]) == ("labelled", 3, 2, BUNDLE)
    assert client.post("/v1/texts", json=TEXTS, headers={"Idempotency-Key": "one"}).json() == text
    other = client.post("/v1/texts:import?language=es", content="Lima espera.").json()
    pages = [client.get("/v1/texts", params=q).json() for q in ({"limit": 1}, {"language": "es"}, {"state": "queued"})]
    assert [page["texts"] for page in pages] == [[text], [other], []]
    assert [(page["next"], page["total"]) for page in pages] == [(text["id"], 2), (None, 1), (None, 0)]
    assert found(client, from_text=text["id"]) == text["examples"]
    client.patch(f"/v1/examples/{text['examples'][0]}", json={"language": "en"})
    assert client.delete(f"/v1/texts/{text['id']}?examples=true").status_code == 204
    assert found(client) == [text["examples"][0], *other["examples"]]
    assert client.delete(f"/v1/texts/{other['id']}").status_code == 204
    assert found(client, by="machine") == other["examples"]
    refused(client.get(f"/v1/texts/{text['id']}"), 404, "no text")
    refused(client.delete(f"/v1/texts/{text['id']}"), 404, "no text")


def state_after(client: TestClient, number: int) -> str:
    """The state of a text once it waits no more."""
    for _ in range(400):
        state: str = client.get(f"/v1/texts/{number}").json()["state"]
        if state != "queued":
            return state
        time.sleep(0.01)
    return "queued"


def test_texts_are_labelled_later(client: TestClient, backend: Capitals, monkeypatch: pytest.MonkeyPatch) -> None:
    with client:  # only now does the service look for texts that wait
        labelled_later(client, backend, monkeypatch)


def labelled_later(client: TestClient, backend: Capitals, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.post("/v1/texts", json=TEXTS, headers={"Prefer": "wait=5, respond-async"})
    assert (answer.status_code, answer.json()["state"], answer.json()["kept"]) == (202, "queued", 0)
    assert state_after(client, answer.json()["id"]) == "labelled"
    monkeypatch.setattr(text_labelling, "LOOK_SECONDS", 0.02)
    backend.busy = 3
    answer = client.post("/v1/texts", json={**TEXTS, "texts": ["Quito."]})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued"), "nothing is lost where taggers have no time"
    assert state_after(client, answer.json()["id"]) == "labelled"
    backend.error = ValueError("broken")
    answer = client.post("/v1/texts", json={**TEXTS, "texts": ["Oslo."]}, headers={"Prefer": "respond-async"})
    assert state_after(client, answer.json()["id"]) == "failed"
    assert "log" in client.get(answer.headers["location"]).json()["reason"]


def test_a_text_is_given_back_when_the_service_ends(client: TestClient, store: ExampleStore, backend: Capitals) -> None:
    held = asyncio.Event()
    backend.label = lambda *_: held.wait()  # type: ignore[method-assign, assignment]
    with client:
        client.post("/v1/texts", json=TEXTS, headers={"Prefer": "respond-async"})
        for _ in range(400):
            if store.texts.take(0) is None:
                break
            time.sleep(0.01)
        assert store.texts.take(0) is None, "it is being labelled"
    assert store.texts.take(60) is not None, "another replica may, at once"
