"""Both clients against the service's own routes: examples and texts that it stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from metacross.client import RequestRefused, Result
from metacross.client.contract import Entity
from metacross.corpora.sentence import sentence_from_words
from serve.examples import ExampleStore
from serve.web.routes import make_app
from tests.helpers.client_service import Asked, Service
from tests.serve.web.test_example_routes import Capitals, Exchanged
from tests.serve.web.test_routes import LIMITS


@pytest.fixture(scope="module")
def application() -> tuple[FastAPI, Exchanged]:
    store = Exchanged()
    return make_app(Capitals(), store, limits=LIMITS), store  # type: ignore[arg-type]


@pytest.fixture
def url(service: Service, application: tuple[FastAPI, Exchanged], tmp_path: Path) -> str:
    service.app, application[1].store = application[0], ExampleStore(str(tmp_path / "examples.db"))
    return service.url


def test_examples(url: str, ask: Asked) -> None:
    result = Result("Ana lebt.", (Entity(0, 3, "Ana", "PER", 0.9),), windows=1, adapted=True)
    read = sentence_from_words(["Lima", "espera"], ["B-LOC", "O"])
    first, second = ask(url, "add_examples", [result, read], options={"language": "es"})
    assert (first.outcome, first.entities, second.language) == ("added", (Entity(0, 3, "Ana", "PER"),), "es")
    (same,) = ask(url, "add_examples", [first])
    assert (same.id, same.outcome) == (first.id, "unchanged")
    assert ask(url, "change_example", 1, options={"entities": [], "language": "de"}).entities == ()
    replaced = ask(url, "replace_example", 2, {"text": "Quito", "entities": []}, options={"language": "es"})
    assert (replaced.text, replaced.language) == ("Quito", "es")
    assert ask(url, "example", 2) == replaced
    assert [e.id for e in ask(url, "examples", options={"newest": True})] == [2, 1]
    assert [e.id for e in ask(url, "examples", options={"language": "de", "text": "ANA"})] == [1]
    file = ask(url, "export_examples", "conll", options={"language": "es"})
    assert file == b"Quito\tO\n\n" or file.startswith(b"Quito\tO\n")
    assert ask(url, "import_examples", file).unchanged == 1
    assert ask(url, "delete_examples", [1, 7]).missing == (7,)
    assert ask(url, "delete_examples", options={"by": "people"}).deleted == 1
    with pytest.raises(RequestRefused, match="no example 2"):
        ask(url, "example", 2)


def test_texts(url: str, ask: Asked) -> None:
    added = ask(url, "add_texts", ["Bern schläft. Otto auch."], options={"language": "de"})
    assert (added.state, added.kept) == ("labelled", 2)
    waiting = ask(url, "add_texts", "Quito.", options={"language": "es", "wait": False})
    assert (waiting.state, waiting.found, waiting.kept) == ("queued", 1, 0)
    assert ask(url, "text", added.id) == added
    assert ask(url, "texts", options={"newest": True}) == [waiting, added]
    assert ask(url, "texts", options={"state": "queued", "language": "es"}) == [waiting]
    assert [e.id for e in ask(url, "examples", options={"from_text": added.id})] == list(added.examples)
    assert ask(url, "delete_text", added.id, options={"examples": True}) is None
    assert ask(url, "examples") == []
