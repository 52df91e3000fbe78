"""`metacross serve`: it says when it answers, answers, and ends with Ctrl-C; mistakes show before anything starts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from metacross import Client

PATIENCE = 180  # seconds for Ray and Serve to start on a busy machine


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "metacross", "serve", *map(str, arguments)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.cluster
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_ended(end: signal.Signals, tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    shutil.copy(root / "ray_config.yaml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("RAY_ADDRESS", None)
    port = free_port()
    service = subprocess.Popen(
        command(tiny_bundle, "--port", port, "serve.examples="),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in a shell's background job
    )
    try:
        assert service.stdout is not None
        line = service.stdout.readline()
        assert re.fullmatch(rf"ready: http://localhost:{port} .*\n", line), (line, service.poll())
        with Client(f"http://localhost:{port}") as client:
            assert client.ready()
            assert client.tag("Anna Berg left Oslo.").adapted
        service.send_signal(end)
        _, told = service.communicate(timeout=PATIENCE)
        assert service.returncode == 0, told
        assert told.endswith("ending: requests under way are answered first\n")
    finally:
        service.kill()
        service.wait()


@pytest.mark.cluster
def test_mistakes_show_before_anything_starts(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        for arguments, message in (
            ((tmp_path,), "not a bundle (no manifest.json)"),
            ((tiny_bundle, "serve.replicas=none"), "serve.replicas is"),
            ((tiny_bundle, "train.lr=1"), "train.lr=1.0 but this bundle was trained with"),
            ((tiny_bundle, "--host", "0.0.0.0"), "serve.auth is empty"),
            ((tiny_bundle, "--port", taken), f"--port {taken}: cannot listen there"),
        ):
            done = subprocess.run(command(*arguments), cwd=root, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith("error: ") and message in done.stderr, done.stderr
