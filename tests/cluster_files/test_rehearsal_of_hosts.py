"""The rehearsal of a cluster in its small form: two hosts, made of namespaces, with this machine's own files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.needs import missing

LACKING = 3  # the exit status of a rehearsal for which the machine lacks something
PATIENCE = 900  # seconds; a quiet machine takes less than 240


@pytest.mark.cluster
def test_two_hosts(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, because the hosts are made of namespaces")
    command = [root / "cluster" / "rehearsal.sh", "hosts", "--small", "--venv", sys.prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode == LACKING:
        missing(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
