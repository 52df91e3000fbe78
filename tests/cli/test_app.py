"""The program itself: help, version, wrong usage."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import metacross
from metacross import AdaptiveTagger
from tests.helpers.commands import run


def test_help_comes_at_once_and_names_every_command() -> None:
    loaded = (
        "import sys, metacross.__main__; print({'torch', 'transformers', 'ray', 'faiss', 'numpy'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
    found = run("--help")
    assert found.status == 0
    for command in ("train", "tune", "evaluate", "tag", "data"):
        assert f"  {command}  " in found.out
        one = run(command, "--help")
        assert one.status == 0
        assert f"\n  metacross {command} " in one.out or f"| metacross {command} " in one.out, "an example"


def test_version_is_the_projects(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metacross.__version__ == project["version"]
    assert run("--version").out == f"metacross {project['version']}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["tag"], ["tag", "b", "-", "--format", "xml"], ["evaluate", "b", "--limit", "0"], ["data"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).status == 2


def test_there_is_only_what_is_promised() -> None:
    assert metacross.AdaptiveTagger is AdaptiveTagger
    with pytest.raises(AttributeError, match="no attribute 'Adaptive'"):
        _ = metacross.Adaptive
