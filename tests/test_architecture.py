"""Imports run one way, a wrong one is caught, and functions stay short enough to be read."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LONGEST = 60  # lines of a function, its docstring included


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the packages in a directory."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The packages and their contracts, to be spoiled."""
    for package in ("metacross", "serve"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_are_kept(root: Path) -> None:
    done = lint(root)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "wrong", "contract"),
    [
        ("metacross/corpora/words.py", "from metacross.tagging import tagger", "The layers of metacross"),
        ("serve/batcher.py", "from serve import engine", "The layers of the service"),
        ("metacross/tagging/scoring.py", "from metacross.tagging import evaluation", "No circles"),
        ("metacross/storage/files.py", "import serve.app", "metacross does not know the service"),
        ("metacross/training/learner.py", "import ray", "Ray is a wrapper"),
        ("serve/web/limits.py", "from serve.engine import Engine", "An Ingress needs no torch"),
        ("metacross/client/wire.py", "import torch", "A client of the service needs no torch"),
    ],
)
def test_a_planted_wrong_import_is_caught(copy: Path, module: str, wrong: str, contract: str) -> None:
    path = copy / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{wrong}\n", encoding="utf-8")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    broken = done.stdout.split("Broken contracts")[1]
    assert contract in broken
    assert f".{Path(module).stem}" in broken


def test_no_function_is_long(root: Path) -> None:
    long = []
    for folder in ("metacross", "serve", "benchmarks", "samples"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    if lines > LONGEST:
                        long.append(f"{path.relative_to(root)}:{node.lineno} {node.name} has {lines} lines")
    assert long == []
