"""The image: its Dockerfile is clean, its context is small, and it has the versions that the tests ran with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def pinned(root: Path) -> dict[str, str]:
    """The versions of constraints.txt, by package."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert list(pins) == sorted(map(canonicalize_name, pins))
    return pins


def test_pyproject_and_constraints_agree(root: Path, pinned: dict[str, str]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    installed = ("cpu", "gpu", "aws", "gcp", "mlflow", "postgres", "spacy", "bench", "dev")
    lines = [*project["dependencies"], *(line for name in installed for line in extras[name])]
    for requirement in map(Requirement, lines):
        if requirement.name != "metacross":
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_package_that_is_used_is_pinned(pinned: dict[str, str]) -> None:
    """From the project's requirements to what these require, and so on, as far as it is installed here."""
    todo, seen = [Requirement("metacross[cpu,dev]")], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen or name in ("pip", "setuptools", "wheel"):
            continue
        seen.add((name, *sorted(requirement.extras)))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if name != "metacross":
            assert version(name).partition("+")[0] == pinned[name], name
        for line in found.requires or []:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                todo.append(further)
    assert len(seen) > 100


def test_nodes_with_and_without_gpus_have_one_version_of_faiss(pinned: dict[str, str]) -> None:
    """A bundle's index is written on one and read on the other."""
    assert pinned["faiss-gpu"] == pinned["faiss-cpu"]


def test_the_dockerfile_is_clean(root: Path) -> None:
    program = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    assert program is not None, "hadolint is not installed; it comes with the extra dev"
    dockerfile = root / "cluster" / "image" / "Dockerfile"
    done = subprocess.run([program, str(dockerfile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_is_as_kubernetes_wants_it(root: Path) -> None:
    text = (root / "cluster" / "image" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)  # by number, so that runAsNonRoot can be checked
    assert "--constraint constraints.txt" in text
    assert re.search(r"apt-get install .*\btini\b.*\bwget\b", text)
    assert "HEALTHCHECK" in text
    labels = re.findall(r"org\.opencontainers\.image\.(\w+)=", text)
    assert set(labels) == {"title", "description", "licenses", "version", "revision"}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ARG VERSION={project['version']}\n" in text


def test_login_shells_find_the_programs(root: Path) -> None:
    """`ray up` runs its commands in these, and Debian's /etc/profile sets PATH anew."""
    dockerfile = (root / "cluster" / "image" / "Dockerfile").read_text(encoding="utf-8")
    (path,) = re.findall(r"ENV PATH=(\S+):\$PATH", dockerfile.split("FROM ")[-1])
    assert re.search(rf'echo "PATH={path}:\\\$PATH" >/etc/profile.d/\w+\.sh', dockerfile)


def test_only_what_is_copied_is_sent(root: Path) -> None:
    dockerfile = (root / "cluster" / "image" / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    }
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    files = [file for name in copied for file in (root / name, *(root / name).rglob("*")) if file.is_file()]
    assert sum(file.stat().st_size for file in files if file.suffix != ".pyc") < 5 << 20
