"""What browsers may do: names, origins, headers, and pages that load nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from metacross.client.contract import EntitiesAnswer, Model, ModelName
from metacross.config_loading import load_config
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from serve.jobs import Job, Labelled
from serve.web.browsers import Browsers
from serve.web.limits import Limits
from serve.web.problems import MEDIA_TYPE
from serve.web.routes import make_app

LIMITS = Limits(body_bytes=1 << 20, texts=8, characters=2000, neighbours=100, work=10**6, seconds=30)
APP = "https://app.example.org"
ON_LOOPBACK = Browsers.of([], [], loopback=True)


class Empty:
    """A backend that finds nothing."""

    asked = 0

    async def tag(self, jobs: Any, progressed: Any) -> EntitiesAnswer:
        self.asked += 1
        return EntitiesAnswer((), ModelName("5f0c2a91be77", "metacross"))

    async def label(self, sentences: Any, language: str, progressed: Any) -> Labelled:
        raise AssertionError

    async def model(self) -> Model:
        self.asked += 1
        return Model("5f0c2a91be77", "metacross")


@contextmanager
def answering(browsers: Browsers, backend: Any = None) -> Iterator[TestClient]:
    app = make_app(backend or Empty(), None, limits=LIMITS, browsers=browsers)
    with TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False) as client:
        yield client


def refused(answer: Any, status: int, part: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE), answer.text
    problem = answer.json()
    assert part in problem["detail"] and problem["request_id"] == answer.headers["x-request-id"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "localhost."])
def test_on_loopback_it_answers_to_the_names_of_loopback(host: str) -> None:
    with answering(ON_LOOPBACK) as client:
        assert client.get("/v1/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.2"])
def test_on_loopback_it_answers_to_no_other_name(host: str) -> None:
    backend = Empty()
    with answering(ON_LOOPBACK, backend) as client:
        for path in ("/", "/v1/model", "/docs", "/openapi.json", "/nothing"):
            refused(client.get(path, headers={"host": host}), 421, "serve.hosts")
        # As the browser sees it, a page whose name leads to 127.0.0.1 calls its own site.
        own = {"host": host, "origin": f"http://{host}"}
        refused(client.post("/v1/entities", json={"text": "a"}, headers=own), 421, "serve.hosts")
        assert client.get("/healthz", headers={"host": host}).status_code == 200  # of Kubernetes
    assert not backend.asked


def test_a_request_without_a_host_is_refused() -> None:
    assert ON_LOOPBACK.refusal("GET", "/", Headers({})) is not None


def test_names_behind_a_proxy() -> None:
    page = {"origin": "https://ner.example.org"}
    with answering(Browsers.of(["NER.example.org"], [], loopback=True)) as client:
        # The proxy may hand on the name that it was asked by, or put the service's own address there.
        for host in ("ner.example.org", "localhost:8000"):
            answer = client.post("/v1/entities", json={"texts": []}, headers={"host": host, **page})
            assert answer.status_code == 200, answer.text
        refused(client.get("/", headers={"host": "example.org"}), 421, "example.org")


def test_beyond_loopback_every_name_is_answered_unless_names_are_given() -> None:
    with answering(Browsers.of([], [], loopback=False)) as client:
        assert client.get("/v1/model", headers={"host": "ner.example.org"}).status_code == 200
    with answering(Browsers.of(["ner.example.org"], [], loopback=False)) as client:
        assert client.get("/v1/model", headers={"host": "ner.example.org"}).status_code == 200
        refused(client.get("/v1/model", headers={"host": "192.0.2.2"}), 421, "serve.hosts")


def posts() -> list[Callable[[TestClient, dict[str, str]], Any]]:
    """Every way to change or compute something, with the types of content that need no preflight."""
    simple = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "")
    calls: list[Callable[[TestClient, dict[str, str]], Any]] = [
        lambda client, headers: client.delete("/v1/examples/1", headers=headers)
    ]
    paths = ["/v1/entities", "/v1/entities:stream", "/v1/examples", "/v1/examples:import", "/v1/texts"]
    for path in [*paths, "/v1/texts:import?language=de"]:
        for kind in (*simple, "application/json"):
            typed = {"content-type": kind} if kind else {}
            calls.append(
                lambda client, headers, p=path, t=typed: client.post(p, content=b"{}", headers={**headers, **t})
            )
    return calls


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:3000", "https://localhost.example", "null"]
)
def test_pages_of_others_change_and_compute_nothing(origin: str) -> None:
    backend = Empty()
    with answering(ON_LOOPBACK, backend) as client:
        for post in posts():
            refused(post(client, {"origin": origin}), 403, "serve.cors")
        asked = {"origin": origin, "access-control-request-method": "POST"}
        refused(client.options("/v1/entities", headers=asked), 403, "serve.cors")
        assert not backend.asked
        # What changes nothing is answered, and the browser does not let the page read it.
        answer = client.get("/v1/model", headers={"origin": origin})
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


def test_its_own_page_and_programs_are_let_in() -> None:
    with answering(ON_LOOPBACK) as client:
        for headers in ({"origin": "http://localhost:8000"}, {}):
            assert client.post("/v1/entities", json={"texts": []}, headers=headers).status_code == 200


def test_origins_that_were_named_may_call_it() -> None:
    with answering(Browsers.of([], [APP], loopback=True)) as client:
        page = {"origin": APP}
        asked = {
            **page,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type, authorization",
        }
        answer = client.options("/v1/entities", headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
        answer = client.post("/v1/entities", json={"texts": []}, headers=page)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
        refused(
            client.post("/v1/entities", json={"texts": []}, headers={"origin": "https://evil.example"}), 403, "evil"
        )


@pytest.mark.parametrize(
    "setting",
    ["serve.hosts=[https://ner.example.org]", "serve.hosts=[a b]", "serve.cors=['*']", "serve.cors=[app.example.org]"],
)
def test_settings_that_would_match_nothing_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match="such as"):
        load_config(None, [setting])


class Broken(Empty):
    async def tag(self, jobs: list[Job], progressed: Any) -> EntitiesAnswer:
        raise RuntimeError("at /srv/secret")

    async def label(self, sentences: list[Sentence], language: str, progressed: Any) -> Labelled:
        raise RuntimeError


def test_every_answer_says_what_browsers_may_do() -> None:
    with answering(ON_LOOPBACK, Broken()) as client:
        answers = {
            200: [client.get(path) for path in ("/", "/docs", "/docs/start.js", "/openapi.json", "/healthz")],
            404: [client.get("/nothing")],
            421: [client.get("/", headers={"host": "evil.example"})],
            422: [client.post("/v1/entities", json={})],
            500: [client.post("/v1/entities", json={"text": "a"})],
        }
    for status, found in answers.items():
        for answer in found:
            assert answer.status_code == status and "/srv" not in answer.text
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_of_the_api_loads_everything_from_the_service() -> None:
    with answering(ON_LOOPBACK) as client:
        page = client.get("/docs").text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert [name for name in loaded if not name.startswith("data:")] == [
            "docs/swagger-ui.css",
            "docs/swagger-ui-bundle.js",
            "docs/start.js",
        ]
        for name in ("docs/swagger-ui.css", "docs/swagger-ui-bundle.js"):
            answer = client.get(f"/{name}")
            assert answer.status_code == 200 and len(answer.content) > 100_000
        assert client.get("/redoc").status_code == 404
