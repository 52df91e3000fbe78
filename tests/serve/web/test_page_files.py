"""What the page is made of, and what it may know of a token, without a browser."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from serve.web import page
from serve.web.auth import Token
from serve.web.limits import Limits
from serve.web.routes import make_app

LIMITS = Limits(body_bytes=1 << 16, texts=4, characters=1000, neighbours=8, work=2000, seconds=5)
HEADER = {"authorization": "Bearer " + "t" * 16}


def answering(tokens: list[Token] | None) -> TestClient:
    # The page asks no backend.
    return TestClient(make_app(None, None, limits=LIMITS, tokens=tokens))  # type: ignore[arg-type]


def test_every_file_that_the_page_names_is_there_and_under_its_policy() -> None:
    client = answering(None)
    names, seen = {"page/style.css", "page/main.js"}, set()
    assert set(re.findall(r'"(page/[\w.]+)"', client.get("/").text)) == names
    while names - seen:
        name = min(names - seen)
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-cache"
        names |= {f"page/{module}" for module in re.findall(r'from "\./([\w.]+)";', answer.text)}
        seen.add(name)
    assert {path.name for path in page.FILES.iterdir()} == {name.removeprefix("page/") for name in seen} | {
        "index.html"
    }


@pytest.mark.parametrize("name", ["index.html", "none.js", "..%2Fpage.py", "%2Fetc%2Fpasswd"])
def test_other_files_are_not_given(name: str) -> None:
    assert answering(None).get(f"/page/{name}").status_code == 404


def test_the_page_is_told_what_a_token_may_do() -> None:
    everything = ["read_examples", "read_metrics", "tag", "write_examples"]
    assert answering(None).get("/page/access").json() == {"may": everything, "keeps_examples": False}
    client = answering([Token(token="t" * 16, may=frozenset({"tag"}))])
    assert client.get("/page/access").status_code == 401
    assert client.get("/page/access", headers=HEADER).json()["may"] == ["tag"]
