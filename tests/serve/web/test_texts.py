"""Text that nobody labelled over HTTP: labelled, stored as examples of a machine, and outdone by labels of people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from metacross import AdaptiveTagger
from metacross.client.contract import EntitiesAnswer
from metacross.corpora.sentence import MachineLabels, sentence_from_words
from serve.engine import Engine
from serve.examples import ExampleStore
from serve.jobs import Job
from serve.web import texts
from serve.web.auth import Token
from serve.web.limits import Limits
from serve.web.routes import make_app
from tests.helpers.adoption import TEXT, other_theta
from tests.serve.test_machine_examples import add_labelled
from tests.serve.web.test_routes import LIMITS, Failing, Here, refused

SENTENCE = "Anna Berg lives in Oslo."


@pytest.fixture
def engine(tiny_bundle: Path, tmp_path: Path) -> Engine:
    store = ExampleStore(str(tmp_path / "examples.db"))
    overrides = ["serve.label_confidence=0.5"]
    engine = Engine(store, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu", overrides=overrides))
    engine.load(str(tiny_bundle))
    return engine


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(make_app(Here(engine), engine.store, limits=LIMITS), raise_server_exceptions=False) as client:
        yield client


def add(client: TestClient, *given: str) -> dict[str, Any]:
    answer = client.post("/v1/texts", json={"texts": given, "language": "de"})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/texts/{told['id']}"
    assert client.get(answer.headers["location"]).json() == told
    assert told["found"] == told["kept"] + sum(told["left_out"].values())
    assert told["kept"] == len(told["examples"])
    return told


def supports(client: TestClient, text: str) -> list[dict[str, Any]]:
    answer = client.post("/v1/entities", json={"text": text, "explain": True})
    return [s for s in answer.json()["results"][0]["support"] if s["example"] is not None]


def test_sentences_are_stored_and_shape_the_next_answer(client: TestClient, engine: Engine) -> None:
    told = add(client, TEXT, "")
    assert (told["found"], told["labelled_by"], told["replaced"]) == (10, engine.model().bundle, 0)
    assert told["kept"] > 0
    listed = client.get("/v1/examples").json()["examples"]
    assert [example["id"] for example in listed] == told["examples"]
    for example in listed:
        assert example["text"] in TEXT.replace("\n", " ")
        assert (example["language"], example["labelled_by"]) == ("de", told["labelled_by"])
        assert 0 < example["confidence"] <= 1
        for entity in example["entities"]:
            assert entity["text"] == example["text"][entity["start"] : entity["end"]] and "score" not in entity
    model = client.get("/v1/model").json()
    assert (model["examples"], model["machine_examples"]) == (0, told["kept"])
    (first, *_) = supports(client, listed[0]["text"])
    for key in ("text", "language", "confidence", "uncertain"):
        assert first[key] == listed[0][key]
    assert first["example"] == listed[0]["id"]
    assert client.delete(f"/v1/examples/{first['example']}").status_code == 204
    assert first["example"] not in [s["example"] for s in supports(client, listed[0]["text"])]


def test_uncertain_words_have_no_weight_in_the_step(engine: Engine) -> None:
    store = engine.store
    assert store is not None

    def scores(tag: str, uncertain: tuple[int, ...]) -> list[float | None]:
        """Of the answer to a sentence while it is stored with this tag on its last name."""
        labels = sentence_from_words(SENTENCE.split(), ["B-PER", "I-PER", "O", "O", tag])
        labelled = replace(labels, machine=MachineLabels("de", 0.9, uncertain))
        (example,) = add_labelled(store, [labelled], bundle="b1").examples
        (answer,) = engine.answer([[Job(SENTENCE)]])
        assert isinstance(answer, EntitiesAnswer) and store.delete(example.id)
        return [entity.score for entity in answer.results[0].entities]

    assert scores("O", (4,)) == pytest.approx(scores("B-LOC", (4,)))
    assert scores("O", ()) != pytest.approx(scores("B-LOC", ()))


def test_what_is_left_out_is_counted_by_reason(client: TestClient) -> None:
    told = add(client, f"{SENTENCE} {SENTENCE}", "Anna Berg lives  in Oslo .", "zzz zzz.")
    assert (told["found"], told["kept"]) == (4, 1)
    assert told["left_out"] == {"repeated": 2, "uncertain": 1, "by_people": 0, "stored": 0}
    assert add(client, SENTENCE)["left_out"]["stored"] == 1
    assert client.get("/v1/model").json()["machine_examples"] == 1


def test_labels_by_people_win_whoever_comes_first(client: TestClient) -> None:
    (number,) = add(client, SENTENCE)["examples"]
    words = ["Anna", "Berg", "lives", "in", "Oslo", "."]
    tags = ["B-PER", "I-PER", "O", "O", "O", "O"]
    answer = client.post("/v1/examples", json={"examples": [{"words": words, "tags": tags}]})
    (people,) = answer.json()["examples"]
    assert {"confidence", "uncertain", "labelled_by"}.isdisjoint(people)
    assert people["id"] == number
    told = add(client, SENTENCE)
    assert (told["kept"], told["left_out"]["by_people"]) == (0, 1)
    found = [s for s in supports(client, SENTENCE) if s["text"].startswith("Anna")]
    assert found and all(s["example"] == people["id"] and "confidence" not in s for s in found)


def test_another_bundle_labels_anew_and_older_labels_say_whose_they_are(
    client: TestClient, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    old = add(client, TEXT)
    engine.load(str(other_theta(tiny_bundle, tmp_path / "other")))
    assert engine.model().bundle != old["labelled_by"]
    digests = {example["labelled_by"] for example in client.get("/v1/examples").json()["examples"]}
    assert digests == {old["labelled_by"]}, "they stay until somebody deletes them or sends the text again"
    new = add(client, TEXT)
    assert new["labelled_by"] == engine.model().bundle
    listed = client.get("/v1/examples").json()["examples"]
    by_new = [example["id"] for example in listed if example["labelled_by"] == new["labelled_by"]]
    assert by_new == new["examples"]
    assert len(listed) == old["kept"] + new["kept"] - new["replaced"]
    assert len({example["text"] for example in listed}) == len(listed)


def test_a_file(client: TestClient) -> None:
    answer = client.post("/v1/texts:import?language=de", content="\ufeff" + TEXT)
    assert answer.status_code == 201, answer.text
    assert answer.json()["found"] == 10
    assert answer.json()["examples"] == [e["id"] for e in client.get("/v1/examples").json()["examples"]]
    refused(client.post("/v1/texts:import?language=de", content=b"\xff"), 422, "not UTF-8 text (byte 0)")
    refused(client.post("/v1/texts:import?language=de", content=b"a\0"), 422, "the file holds U+0000 (NUL)")
    refused(client.post("/v1/texts:import?language=de", content=b"a" * 2001), 422, "A sentence of 2001 characters")
    refused(client.post("/v1/texts:import?language=de", content=b" \n"), 422, "no sentence")
    refused(client.post("/v1/texts:import", content=b"a"), 422, "language")


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({"texts": ["a"]}, ["language"]),
        ({"texts": ["a"], "language": "German"}, ['"field": "language"']),
        ({"texts": [], "language": "de"}, ['"field": "texts"']),
        ({"texts": "a", "language": "de"}, ['"field": "texts"']),
        ({"texts": ["a"] * 9, "language": "de"}, ["9 texts, at most 8 a call"]),
        ({"texts": ["a", "x" * 2001], "language": "de"}, ['"field": "texts.1"', "2001 characters"]),
        ({"texts": ["a", "b\0"], "language": "de"}, ['"field": "texts.1"', "NUL"]),
        ({"texts": ["a"], "language": "de", "labels": []}, ["extra inputs"]),
    ],
)
def test_requests_that_make_no_sense(client: TestClient, request_: dict[str, Any], parts: list[str]) -> None:
    refused(client.post("/v1/texts", json=request_), 422, *parts)
    assert client.get("/v1/examples").json()["examples"] == []


def test_too_many_sentences_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_SENTENCES", 9)
    refused(client.post("/v1/texts", json={"texts": [TEXT], "language": "de"}), 422, "10 sentences, at most 9 a call")


def test_who_may_add_texts(engine: Engine) -> None:
    tokens = [
        Token(token="t" * 16, may=frozenset({"tag", "read_examples"})),
        Token(token="w" * 16, may=frozenset({"write_examples"})),
    ]
    with TestClient(make_app(Here(engine), engine.store, limits=LIMITS, tokens=tokens)) as client:
        reader, writer = ({"authorization": f"Bearer {letter * 16}"} for letter in "tw")
        for path, body in (
            ("/v1/texts", f'{{"texts": ["{SENTENCE}"], "language": "de"}}'),
            ("/v1/texts:import?language=de", SENTENCE),
        ):
            sent = {"content-type": "application/json"}
            refused(client.post(path, content=body, headers=sent), 401)
            refused(client.post(path, content=body, headers=sent | reader), 403, "write_examples")
            assert client.post(path, content=body, headers=sent | writer).status_code == 201


def test_without_a_store_nothing_is_labelled() -> None:
    limits = Limits(body_bytes=1000, texts=8, characters=100, neighbours=8, work=1000, seconds=30)
    with TestClient(make_app(Failing(AssertionError("asked")), None, limits=limits)) as client:
        refused(client.post("/v1/texts", json={"texts": ["a"], "language": "de"}), 404, "keeps no examples")
