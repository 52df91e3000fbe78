"""What both clients send, and what they give of the answers."""

from __future__ import annotations

import pytest

import metacross
from metacross.client import AddedTexts, AsyncClient, Client, Entity, LeftOut, RequestRefused, Result
from metacross.corpora.sentence import sentence_from_words
from tests.helpers.client_service import Asked, Service, answers, done_then_cut_off


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


def test_what_was_found_can_be_added_as_it_is(service: Service, ask: Asked) -> None:
    found = ask(service.url, "tag", "met Ada")
    (first,) = ask(service.url, "add_examples", [found], options={"language": "pt-BR"})
    entities = [first.entities[0], {"start": 0, "end": 3, "label": "PER"}]
    ask(service.url, "add_examples", [first, {"text": "met Ada", "entities": entities}])
    assert [example["text"] for example in service.examples.values()] == ["met Ada"] * 3
    assert [example["language"] for example in service.examples.values()] == ["pt-BR", "pt-BR", ""]


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


def test_the_clients_are_found_in_the_package() -> None:
    assert (metacross.Client, metacross.AsyncClient) == (Client, AsyncClient)
