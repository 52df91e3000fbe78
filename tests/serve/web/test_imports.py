"""Files as examples over HTTP: what `metacross tag` writes goes back in, as an object and as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from metacross import AdaptiveTagger
from serve.engine import Engine
from serve.examples import ExampleStore
from serve.web.imports import MOST_SENTENCES
from serve.web.limits import Limits
from serve.web.routes import make_app
from tests.helpers.commands import tagged
from tests.serve.web.test_routes import Here, refused

LIMITS = Limits(body_bytes=1 << 20, texts=8, characters=200, neighbours=10_000, work=10**9, seconds=30)


@pytest.fixture(scope="module")
def client(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = ExampleStore(str(tmp_path_factory.mktemp("store") / "examples.db"))
    engine = Engine(store, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu"))
    engine.load(str(tiny_bundle))
    with TestClient(make_app(Here(engine), store, limits=LIMITS), raise_server_exceptions=False) as client:
        yield client


def found(answer: Any) -> list[list[tuple[str, str]]]:
    assert answer.status_code in (200, 201), answer.text
    return [[(e["text"], e["label"]) for e in example["entities"]] for example in answer.json()["examples"]]


@pytest.mark.parametrize("explain", [(), ("--explain",)])
def test_what_tag_has_written_goes_back_in(client: TestClient, tiny_bundle: Path, explain: tuple[str, ...]) -> None:
    lines = [{"text": "😀 Anna Berg left Oslo."}, {"tokens": ["Anna", "Berg", "left", "Oslo", "."], "n": 7}]
    written = tagged(tiny_bundle, "--format", "jsonl", *explain, stdin="\n".join(map(json.dumps, lines)))
    entities = [[(e["text"], e["label"]) for e in record["entities"]] for record in written.records]
    assert all(entities)
    assert found(client.post("/v1/examples:import", content=written.out.encode())) == entities
    records = [{key: record[key] for key in record if key != "n"} for record in written.records]
    assert found(client.post("/v1/examples", json={"examples": records})) == entities


def test_columns_are_imported_and_what_was_mended_is_told(client: TestClient) -> None:
    answer = client.post("/v1/examples:import?language=no", content="1\tAnna\tI-PER\n2\tBerg\tI-PER\n3\tsa\tO\n")
    assert found(answer) == [[("Anna Berg", "PER")]]
    assert answer.json()["examples"][0]["language"] == "no"
    assert answer.json()["oddities"] == []
    answer = client.post("/v1/examples:import", content="\ufeffAnna\tPER\nsa\tO\n".encode())
    assert answer.json()["oddities"] == ["1 tag PER read as I-PER"]


def test_labels_and_languages_may_be_written_in_several_ways(client: TestClient) -> None:
    body = b"Anna\tB-person\nBerg\tI-person\nsa\tO\n"
    (example,) = client.post("/v1/examples:import?language=pt-br", content=body).json()["examples"]
    assert ([e["label"] for e in example["entities"]], example["language"]) == (["PER"], "pt-BR")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08\x00", "not UTF-8 text"),
        (
            b"Oslo\tB-CITY\nsa\tO\n",
            "body:1: the label 'CITY'; expected one of LOC, PER. Did you mean LOC?",
        ),
        (b"Anna\tB\nsa\tI\nno\tO\n", "body:1"),
        (b'{"tokens": ["Anna"], "ner_tags": 3}', "body:1"),
        (("a" * 201 + "\tO\n").encode(), "201 characters, at most 200"),
        (b"a\tO\n\n" * (MOST_SENTENCES + 1), f"{MOST_SENTENCES + 1} sentences, at most"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(client: TestClient, body: bytes, part: str) -> None:
    before = client.get("/v1/examples?limit=1000").json()
    refused(client.post("/v1/examples:import", content=body), 422, part)
    assert client.get("/v1/examples?limit=1000").json() == before


def test_a_file_that_is_too_large_is_refused(client: TestClient) -> None:
    refused(client.post("/v1/examples:import", content=b"a\tO\n" * (1 << 19)), 413)
    refused(client.post("/v1/examples:import?language=Norwegian", content=b"a\tO\n"), 422, "language")
