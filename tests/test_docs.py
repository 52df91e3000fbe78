"""The documents tell the truth: the tree, the names and the examples."""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from metacross.corpora.formats.writing import formats
from tests.helpers.commands import run


def tree(readme: str) -> list[str]:
    """Paths named by the README's annotated tree."""
    block = readme.split("## What is where")[1].split("```")[1]
    paths, folder = [], ""
    for line in block.strip("\n").splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            paths.append(folder + name)
        else:
            folder = name if name.endswith("/") else ""
            paths.append(name)
    return paths


def test_the_readme_tree_is_the_tree(root: Path) -> None:
    named = tree((root / "README.md").read_text(encoding="utf-8"))
    for path in named:
        assert (root / path).exists(), f"README names {path}"
    packages = {f"metacross/{path.parent.name}/" for path in (root / "metacross").glob("*/__init__.py")}
    assert packages <= set(named)


def test_packages_say_what_is_in_them(root: Path) -> None:
    packages = [
        path.parent for path in (*(root / "metacross").glob("*/__init__.py"), *(root / "serve").rglob("__init__.py"))
    ]
    assert len(packages) > 10
    for package in packages:
        docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
        modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
        assert modules == {name for name in re.findall(r"\w+", docstring) if name in modules}, package


def test_the_architecture_names_files_that_exist(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]*/[\w./]*|\w+\.(?:py|yaml|md))`", text)
    assert len(named) > 40
    for path in named:
        assert (root / path).exists() or (root / "metacross" / path).exists(), f"architecture.md names {path}"


def test_hints_to_install_name_extras_that_exist(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    files = [root / "README.md", root / "ray_config.yaml"]
    for folder in ("metacross", "serve", "benchmarks", "docs"):
        files += [*(root / folder).rglob("*.py"), *(root / folder).rglob("*.md")]
    hints = [hint for file in files for hint in re.findall(r'pip install -e "\.\[(.*?)\]"', file.read_text("utf-8"))]
    assert len(hints) >= 8
    assert {name for hint in hints for name in hint.split(",")} <= extras.keys()


def test_the_paper_map_names_things_that_exist(root: Path) -> None:
    text = (root / "docs" / "paper_map.md").read_text(encoding="utf-8")
    names = re.findall(r"`(metacross(?:\.\w+)+)`", text)
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(names) > 8
    assert len(tests) > 8
    for name in names:
        assert pkgutil.resolve_name(name) is not None
    for file, function in tests:
        assert f"def {function}(" in (root / file).read_text(encoding="utf-8"), f"{file}::{function}"


def test_links_between_documents_lead_somewhere(root: Path) -> None:
    for document in (root / "README.md", *(root / "docs").rglob("*.md"), root / "samples" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.fixture
def readers_place(root: Path, tmp_path: Path) -> Path:
    """A directory as a reader of the README has it: the samples, the configuration."""
    (tmp_path / "samples").symlink_to(root / "samples")
    (tmp_path / "ray_config.yaml").write_bytes((root / "ray_config.yaml").read_bytes())
    return tmp_path


def test_the_readme_converts_into_every_format(
    root: Path, readers_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (root / "README.md").read_text(encoding="utf-8").split("## Converting")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")][1:]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == set(formats())
    monkeypatch.chdir(readers_place)
    commands = [shlex.split(line) for line in section.splitlines() if line.startswith("    metacross convert")]
    assert len(commands) == 2
    for command in commands:
        done = run(*command[1:])
        assert done.status == 0, done.err


@pytest.mark.cluster
@pytest.mark.ray
def test_the_readme_examples_run(root: Path, readers_place: Path) -> None:
    """The commands in their order, then the Python example on the bundle that they leave."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    console = re.search(r"```console\n(.*?)```", readme, re.DOTALL)
    python = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert console is not None
    assert python is not None
    commands = [line.removeprefix("$ ") for line in console[1].splitlines()]
    assert len(commands) == 4
    for command in commands:
        shell = command.replace("metacross ", f"{shlex.quote(sys.executable)} -m metacross ")
        done = subprocess.run(
            shell, shell=True, cwd=readers_place, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert '"support"' in done.stdout
    assert (readers_place / "scores.json").exists()
    done = subprocess.run(
        [sys.executable, "-c", python[1]], cwd=readers_place, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
