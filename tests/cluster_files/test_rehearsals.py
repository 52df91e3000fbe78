"""The rehearsals of cluster/aws.yaml and cluster/local.yaml, and what they change in these files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.helpers.needs import missing

REHEARSED = ("aws", "local")
LACKS_SOMETHING = 3  # exit status of a rehearsal


def overlaid(root: Path, file: Path, overlay: Path) -> subprocess.CompletedProcess[str]:
    program = root / "cluster" / "rehearsal" / "overlay.py"
    return subprocess.run([sys.executable, program, file, overlay], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", REHEARSED)
def test_a_rehearsal_changes_few_values_of_a_file(root: Path, name: str) -> None:
    file = root / "cluster" / f"{name}.yaml"
    made = overlaid(root, file, root / "cluster" / "rehearsal" / f"{name}_overlay.yaml")
    assert made.returncode == 0, made.stderr
    assert "idle_timeout_minutes: 5 -> 1" in made.stderr
    assert len(made.stderr.splitlines()) <= 6
    now = yaml.safe_load(made.stdout)
    assert now["docker"] == yaml.safe_load(file.read_text(encoding="utf-8"))["docker"]
    validate_config(prepare_config(now))


def test_an_overlay_of_something_else_is_refused(root: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("available_node_types: {gpu_spot: {max_workers: 1}}", encoding="utf-8")
    refused = overlaid(root, root / "cluster" / "aws.yaml", overlay)
    assert refused.returncode == 1
    assert "the file has no available_node_types.gpu_spot" in refused.stderr


@pytest.mark.rehearsal
@pytest.mark.parametrize("name", REHEARSED)
def test_the_file_for_ray_up_does_what_it_should(root: Path, name: str) -> None:
    if os.geteuid():
        missing("makes hosts of namespaces, which needs root")
    script = root / "cluster" / "rehearsal.sh"
    done = subprocess.run([script, name, "--venv", sys.prefix], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == LACKS_SOMETHING:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stderr
