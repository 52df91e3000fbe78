"""What one request may ask for: refused before anything is tagged, with the limit's value, and told in the document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.web.limits import Limits
from serve.web.routes import make_app
from tests.serve.web.test_routes import Failing, refused

LIMITS = Limits(body_bytes=1 << 16, texts=4, characters=1000, neighbours=8, work=2000, seconds=5)


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The service in front of a backend that fails if it is asked."""
    return TestClient(make_app(Failing(AssertionError("asked")), None, limits=LIMITS))


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({"text": "a", "neighbours": 9}, ['"field": "neighbours"', "neighbours=9, at most 8."]),
        (
            {"text": "a" * 300, "neighbours": 7},
            ['"field": "neighbours"', "300 characters times neighbours=7 is 2100, at most 2000"],
        ),
        ({"texts": ["a" * 150] * 2, "neighbours": 7}, ["300 characters times neighbours=7"]),
        ({"words": [["a"] * 150], "neighbours": 7}, ["300 characters times neighbours=7"]),
        ({"texts": ["a" * 400] * 3}, ['"field": "texts"', "1200 characters together, at most 1000 a call", "stream"]),
        ({"words": [["aaa"] * 100] * 3}, ['"field": "words"', "1200 characters together, at most 1000 a call"]),
    ],
)
def test_what_costs_too_much_is_refused_before_it_is_begun(
    client: TestClient, request_: dict[str, Any], parts: list[str]
) -> None:
    refused(client.post("/v1/entities", json=request_), 422, *parts)


def test_a_line_that_costs_too_much_is_refused_by_itself(client: TestClient) -> None:
    body = json.dumps({"text": "a" * 300}).encode()
    answer = client.post("/v1/entities:stream", params={"neighbours": 7}, content=body)
    error = json.loads(answer.text)["error"]
    assert error["status"] == 422 and "300 characters times neighbours=7" in error["detail"]
    refused(client.post("/v1/entities:stream", params={"neighbours": 9}, content=body), 422, "neighbours=9, at most 8")


def test_texts_to_label_are_bounded_together(client: TestClient) -> None:
    answer = client.post("/v1/texts", json={"texts": ["a" * 400] * 3, "language": "de"})
    refused(answer, 422, "1200 characters together")


def test_the_document_tells_them(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    fields = document["components"]["schemas"]["EntitiesRequest"]["properties"]
    assert fields["neighbours"]["anyOf"][0]["maximum"] == 8
    assert "at most 2000" in fields["neighbours"]["description"]
    for field in (
        fields["texts"],
        fields["words"],
        document["components"]["schemas"]["NewTexts"]["properties"]["texts"],
    ):
        assert field["description"] == "At most 1000 characters together."
    parameters = document["paths"]["/v1/entities:stream"]["post"]["parameters"]
    (neighbours,) = [parameter for parameter in parameters if parameter["name"] == "neighbours"]
    assert neighbours["schema"]["anyOf"][0]["maximum"] == 8 and "at most 2000" in neighbours["description"]
