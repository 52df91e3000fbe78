"""A server of the contract, and calls of either client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.client_service import Asked, Service


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "METACROSS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    running = Service().start()
    yield running
    running.stop()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Asked:
    return Asked(request.param)
