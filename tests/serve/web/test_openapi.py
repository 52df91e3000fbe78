"""The service held to its own OpenAPI document: whatever is asked, the answer is one that the document tells of.

METACROSS_EXAMPLES=2000 asks that often for every operation.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from metacross import AdaptiveTagger
from metacross.client.contract import Problem, Result
from serve.engine import Engine
from serve.examples import ExampleStore
from serve.web.auth import Token
from serve.web.lines import NDJSON
from serve.web.routes import make_app
from tests.serve.web.test_routes import LIMITS, ODD, PROBLEM, Failing, Here, refused

# What is drawn from the document is large now and then, which Hypothesis would complain about.
SETTINGS = settings(
    max_examples=int(os.environ.get("METACROSS_EXAMPLES", "40")), suppress_health_check=list(HealthCheck)
)
SCHEMA = schemathesis.openapi.from_dict(
    make_app(Failing(None), None, limits=LIMITS).openapi(), config=SchemathesisConfig(seed=0)
)
SCHEMA.app = "each call names one"
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
# No document can tell which labels a bundle has, nor where words end: good requests may be refused.
EXCLUDED = [positive_data_acceptance]


@schemathesis.serializer(NDJSON)
def _as_it_is(context: schemathesis.SerializationContext, value: Any) -> dict[str, Any]:
    return {"data": str(value).encode()}


@pytest.fixture(scope="module")
def app(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    store = ExampleStore(str(tmp_path_factory.mktemp("store") / "examples.db"))
    engine = Engine(store, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu"))
    engine.load(str(tiny_bundle))
    app = make_app(Here(engine), store, limits=LIMITS)
    client = TestClient(app)  # without its lifespan, so that nothing is labelled
    for i in range(50):  # examples and texts for whoever guesses their numbers
        new = {"words": ["Eva", "left", str(i)], "tags": ["B-PER", "O", "O"]}
        assert client.post("/v1/examples", json={"examples": [new]}).status_code == 201
        text = {"texts": ["Eva left."], "language": "de"}
        assert client.post("/v1/texts", json=text, headers={"Prefer": "respond-async"}).status_code == 202
    return app


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_answers_are_as_the_document_says(app: FastAPI, operation: APIOperation) -> None:
    seen: set[int] = set()

    def asked(case: schemathesis.Case) -> None:
        number = str(case.path_parameters.get("number")).removeprefix("-")
        if number.isdecimal():
            case.path_parameters["number"] = 1 + int(number) % 120  # there are examples and texts up to 100
        lines = case.media_type == NDJSON and case.meta is not None and case.meta.is_negative_at(ParameterLocation.BODY)
        excluded = [*EXCLUDED, negative_data_rejection] if lines else EXCLUDED  # as text, nothing is of a wrong type
        seen.add(case.call_and_validate(app=app, excluded_checks=excluded).status_code)

    # Not @SCHEMA.parametrize(): it gives all its tests one name, and pytest-xdist then runs the first alone.
    modes = list(HypothesisTestMode)
    create_test(
        operation=operation,
        test_func=asked,
        config=HypothesisTestConfig(project=SCHEMA.config, modes=modes, settings=SETTINGS, seed=0),
    )()
    assert any(200 <= status < 300 for status in seen), "no request was good enough to be answered"


def test_links_lead_to_the_example_until_it_is_deleted(app: FastAPI) -> None:
    seen, numbers = set(), itertools.count()

    class Flow(SCHEMA.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: schemathesis.Case) -> None:
            # Each request has its own sentence: another step would otherwise delete its example. And none has a
            # key, which could be that of an earlier request.
            case.headers.pop("Idempotency-Key", None)
            example = {"words": ["Quito", "espera", str(next(numbers))], "tags": ["B-LOC", "O", "O"]}
            bodies = {"POST": {"examples": [example]}, "PUT": example, "PATCH": {"language": "es"}}
            case.body = bodies.get(case.method, case.body)  # most of what is drawn would be refused

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"app": app}

        def after_call(self, response: Any, case: schemathesis.Case) -> None:
            super().after_call(response, case)
            seen.add((case.method, response.status_code))

        def validate_response(self, response: Any, case: schemathesis.Case, *_: Any, **kwargs: Any) -> None:
            given = {"transport_kwargs": kwargs or None, "recorder": self.recorder}
            case.validate_response(response, excluded_checks=EXCLUDED, **given)

    Flow.run(settings=settings(SETTINGS, stateful_step_count=8))
    assert seen >= {("POST", 201), ("GET", 200), ("GET", 404), ("DELETE", 204), ("DELETE", 404)}


# --- what no document says -------------------------------------------------------------------------------------------


def test_problems_have_their_own_media_type_and_404_is_told_where_no_examples_are_kept() -> None:
    with TestClient(make_app(Failing(None), None, limits=LIMITS)) as client:
        document = client.get("/openapi.json").json()
        for operation in OPERATIONS:
            responses = document["paths"][operation.path][operation.method]["responses"]
            for status, response in responses.items():
                assert (list(response.get("content", {})) == [PROBLEM]) == (int(status) >= 400), (
                    operation.label,
                    status,
                )
            if operation.path.startswith("/v1/examples") and operation.method in ("get", "delete"):
                refused(client.request(operation.method, operation.path.format(number=1)), 404, "keeps no examples")
                assert "404" in responses


def test_every_operation_of_v1_asks_for_a_token_and_the_document_says_so() -> None:
    app = make_app(Failing(None), None, limits=LIMITS, tokens=[Token(token="t" * 16, may=frozenset({"tag"}))])
    with TestClient(app) as client:
        document = client.get("/openapi.json").json()
        for operation in OPERATIONS:
            secured = "security" in document["paths"][operation.path][operation.method]
            assert secured == operation.path.startswith("/v1/"), operation.label
            if secured:
                body = {"json": {"text": "a"}} if operation.label == "POST /v1/entities" else {}
                refused(client.request(operation.method, operation.path.format(number=1), **body), 401)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/examples", "GET, HEAD, POST"),
        ("/v1/examples/1", "DELETE, GET, HEAD, PATCH, PUT"),
        ("/v1/entities", "POST"),
        ("/healthz", "GET, HEAD"),
    ],
)
def test_a_refused_method_names_all_that_there_are(app: FastAPI, path: str, methods: str) -> None:
    with TestClient(app) as client:
        answer = client.options(path)
        refused(answer, 405)
        assert answer.headers["allow"] == methods


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/model", "/v1/examples", "/docs"])
def test_head_is_get_without_the_body(app: FastAPI, path: str) -> None:
    with TestClient(app) as client:
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert len(whole.content) == int(head.headers["content-length"]) > 0
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_head_is_refused_where_get_is(app: FastAPI) -> None:
    with TestClient(app) as client:
        answer = client.head("/v1/entities")
        assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", "POST")
        assert client.head("/v1/examples/999999").status_code == 404


def test_the_document_tells_the_limits(app: FastAPI) -> None:
    models = app.openapi()["components"]["schemas"]
    fields = models["EntitiesRequest"]["properties"]
    text, texts, words = (fields[name]["anyOf"][0] for name in ("text", "texts", "words"))
    assert text["maxLength"] == texts["items"]["maxLength"] == LIMITS.characters
    assert texts["maxItems"] == words["maxItems"] == LIMITS.texts
    assert models["NewExample"]["properties"]["text"]["anyOf"][0]["maxLength"] == LIMITS.characters


@pytest.mark.parametrize("body", [b'{"text": "\xff"}', b"[" * 100_000, b"1" * 5000])
def test_bodies_that_cannot_be_read(app: FastAPI, body: bytes) -> None:
    with TestClient(app) as client:
        for path in ("/v1/entities", "/v1/examples"):
            refused(client.post(path, content=body, headers={"content-type": "application/json"}), 400, "UTF-8")


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("entities", {"text": "\ud800"}),
        ("entities", {"texts": ["a", "\udfff"]}),
        ("entities", {"words": [["a", "\ud83d"]]}),
        ("entities", {"text": "a", "labels": ["\ud800"]}),
        ("entities", {"text": "a", "\ud800": 1}),
        ("examples", {"examples": [{"text": "a\ud800", "entities": []}]}),
        ("examples", {"examples": [{"text": "a", "entities": [{"start": 0, "end": 1, "label": "\ud800"}]}]}),
        ("examples", {"examples": [{"text": "a", "entities": [{"\ud800": 0}]}]}),
        ("examples", {"examples": [{"words": ["\ud800"], "tags": ["O"]}]}),
        ("examples", {"examples": [{"words": ["a"], "tags": ["\ud800"]}]}),
        ("examples", {"examples": [{"words": ["a"], "tags": ["O"], "language": "\ud800"}]}),
    ],
)
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(app: FastAPI, path: str, request_: dict[str, Any]) -> None:
    with TestClient(app) as client:
        content = json.dumps(request_).encode()
        refused(client.post(f"/v1/{path}", content=content, headers={"content-type": "application/json"}), 422)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["\ud800", float("nan"), 10**400, 1e999]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries({"text": ODD}, optional={"id": JSON}) | st.dictionaries(
    st.sampled_from(["id", "text", "\ud800"]), JSON
)
LINES = RECORDS.map(lambda record: json.dumps(record).encode()) | st.binary(max_size=30).filter(
    lambda b: b"\n" not in b
)


@settings(SETTINGS)
@given(lines=st.lists(LINES | st.sampled_from([b"", b" \r", b"[" * 5000]), max_size=6), explain=st.booleans())
def test_every_line_has_its_answer(app: FastAPI, lines: list[bytes], explain: bool) -> None:
    with TestClient(app) as client:
        answer = client.post("/v1/entities:stream", params={"explain": explain}, content=b"\n".join(lines))
    assert answer.status_code == 200
    asked = [line for line in lines if line.strip()]
    for line, out in zip(asked, answer.content.splitlines(), strict=True):
        found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        if "error" in found:
            assert TypeAdapter(Problem).validate_python(found["error"]).status == 422
        else:
            record, result = json.loads(line), TypeAdapter(Result).validate_python(found["result"])
            assert (found["id"], result.text) == (record.get("id"), record["text"])
            for entity in [*result.entities, *(result.plain or ())]:
                assert entity.text == result.text[entity.start : entity.end] != ""
