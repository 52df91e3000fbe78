"""What the tests rely on: a server that leaves nothing behind, and no silent skip in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from tests.helpers import postgres as helper
from tests.helpers.needs import missing
from tests.helpers.postgres import postgres_database


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("false", pytest.skip.Exception), ("", pytest.skip.Exception)]
)
def test_what_is_missing_fails_in_ci_alone(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="needs a printer"):
        missing("needs a printer")


def test_a_server_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METACROSS_TEST_POSTGRES", "postgresql://elsewhere/db")
    with postgres_database() as address:
        assert address == "postgresql://elsewhere/db"


def test_without_a_server_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "METACROSS_TEST_POSTGRES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(helper, "_programs", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="apt-get install postgresql"), postgres_database():
        pass


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("METACROSS_TEST_POSTGRES", raising=False)
    monkeypatch.setenv("PGPORT", "1")  # meant for another server
    with postgres_database() as address:
        folder = Path(str(make_url(address).query["host"]))
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        yield address
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_own_server_is_private_and_gone_afterwards(own_server: str) -> None:
    server = create_engine(own_server)
    with server.connect() as connection:
        assert connection.exec_driver_sql("SHOW listen_addresses").scalar() == ""
        assert connection.exec_driver_sql("SHOW fsync").scalar() == "on"
    folder = Path(str(make_url(own_server).query["host"]))
    assert folder.stat().st_mode & 0o777 == 0o700
    server.dispose()
