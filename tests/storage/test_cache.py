"""Which directory is the cache."""

from __future__ import annotations

import pytest

from metacross.storage.cache import default_cache_dir


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"METACROSS_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/metacross"),
        ({"METACROSS_CACHE": "", "XDG_CACHE_HOME": "not/absolute"}, "~/.cache/metacross"),
        ({}, "~/.cache/metacross"),
    ],
)
def test_default_cache(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name in ("METACROSS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(default_cache_dir()) == expected
