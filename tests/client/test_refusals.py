"""Refusals and other errors, as both clients tell them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from metacross.client import AsyncClient, Client, RequestRefused, ServiceUnavailable
from metacross.errors import UserError
from tests.helpers.client_service import TOKEN, Asked, Service, answers, problem


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


@pytest.mark.parametrize(
    ("detail", "errors", "said"),
    [
        ("2001 characters.", [("texts.3", "2001 characters.")], "texts.3: 2001 characters"),
        ("Not valid. a: is odd", [("a", "is odd")], "Not valid. a: is odd"),
        ("Not valid. a: x", [("a", "x"), ("b", "y")], "Not valid. a: x; b: y"),
    ],
)
def test_what_is_wrong_is_said_once(
    service: Service, ask: Asked, detail: str, errors: list[tuple[str, str]], said: str
) -> None:
    async def fault(_: Service, asgi: Any) -> None:
        fields = [{"field": field, "detail": text} for field, text in errors]
        await problem(422, detail, errors=fields)(*asgi)

    service.faults.append(fault)
    with pytest.raises(RequestRefused) as caught:
        ask(service.url, "tag", "Ada")
    assert str(caught.value) == f"{service.url}/v1/entities: 422 {said} (request r-7)."


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
