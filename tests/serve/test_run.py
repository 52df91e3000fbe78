"""`metacross serve`: it says when it answers, answers, and ends with Ctrl-C; mistakes show before anything starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
import typer

from benchmarks.serving_memory import family
from metacross import Client
from serve.run import run
from tests.helpers.listening import beyond_loopback, listeners
from tests.helpers.machines import command as command_of
from tests.helpers.machines import wait_for

PATIENCE = 180  # seconds for Ray and Serve to start on a busy machine


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "metacross", "serve", *map(str, arguments)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(bundle: Path, place: Path, root: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service, as a shell's background job, and its address; it does not outlive the block."""
    shutil.copy(root / "ray_config.yaml", place)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(place), "PYTHONPATH": str(root)}
    port = free_port()
    service = subprocess.Popen(
        command(bundle, "--port", port, *settings),
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in a shell's background job
    )
    try:
        yield service, f"http://localhost:{port}"
    finally:
        service.kill()
        service.wait()


def ready_line(service: subprocess.Popen[str]) -> str:
    assert service.stdout is not None
    line = service.stdout.readline()
    assert line, service.communicate()
    return line


@pytest.mark.cluster
def test_it_answers_on_loopback_alone_until_it_is_ended(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    with running(tiny_bundle, tmp_path, root) as (service, url):
        kept = f"examples are kept in {tmp_path}/examples.db"
        assert ready_line(service) == f"ready: {url} answers by {tiny_bundle}; {kept} (Ctrl-C ends it)\n"
        with Client(url) as client:
            assert client.ready()
            assert client.tag("Anna Berg left Oslo.").adapted
        found = listeners(service.pid)
        names = " ".join(name for names in found.values() for name in names)
        assert all(name in names for name in ("gcs_server", "raylet", "Tagger", "Ingress", "SourceIndex", "Proxy"))
        assert beyond_loopback(found) == {}
        processes = family(service.pid)
        service.send_signal(signal.SIGINT)
        printed, told = service.communicate(timeout=PATIENCE)
        assert service.returncode == 0, told
        assert printed == "" and told == f"loading {tiny_bundle}\nending: requests under way are answered first\n"
        assert not [pid for pid in processes if command_of(pid)]


def ingress_lines(request_id: str) -> list[dict[str, str]]:
    """What the Ingresses of this machine logged of a request, in whatever session of Ray."""
    logs = Path("/tmp/ray").glob("session_*/logs/serve/replica_*_Ingress_*.log")
    lines = [line for path in logs for line in path.read_text(encoding="utf-8").splitlines() if request_id in line]
    return [json.loads(line) for line in lines]


@pytest.mark.cluster
@pytest.mark.parametrize("until", ["gcs_server", "loading"])
def test_it_ends_in_order_while_it_starts(until: str, tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    with running(tiny_bundle, tmp_path, root) as (service, _):
        if until == "loading":
            assert service.stderr is not None and service.stderr.readline().startswith("loading")
        else:  # one of Ray's processes is there, and others are not
            wait_for(lambda: any(until.encode() in command_of(pid) for pid in family(service.pid)), PATIENCE)
        service.send_signal(signal.SIGTERM)
        processes = set(family(service.pid))
        while service.poll() is None:
            processes |= set(family(service.pid))
            time.sleep(0.2)
        printed, told = service.communicate()
        assert service.returncode == 0 and (printed, told) == ("", "ending before it was ready\n"), told
        wait_for(lambda: not [pid for pid in processes if command_of(pid)], 30)


@pytest.mark.cluster
def test_requests_under_way_are_answered_when_it_is_ended_and_logs_are_json(
    tiny_bundle: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METACROSS_LOGS", "json")
    name = uuid.uuid4().hex
    with running(tiny_bundle, tmp_path, root, "serve.examples=", "serve.drain_s=60") as (service, url):
        ready = json.loads(ready_line(service))["message"]
        assert ready.startswith(f"ready: {url} answers by") and ready.endswith(
            "; no examples are kept (Ctrl-C ends it)"
        )
        connection = HTTPConnection("localhost", httpx.URL(url).port, timeout=PATIENCE)
        connection.putrequest("POST", "/v1/entities:stream")
        connection.putheader("transfer-encoding", "chunked")
        connection.putheader("x-request-id", name)
        connection.endheaders()
        connection.send(chunk(0, "Anna Berg left Oslo."))
        answer = connection.getresponse()
        found = [json.loads(answer.readline())]  # so the request is under way
        service.send_signal(signal.SIGTERM)
        refused = wait_for(lambda: [a for a in [httpx.get(f"{url}/readyz", timeout=60)] if a.status_code == 503])[0]
        assert "ending" in refused.json()["detail"]
        assert service.poll() is None
        for number in range(1, 40):
            connection.send(chunk(number, "Jan Smit lives in Lima."))
        connection.send(b"0\r\n\r\n")
        found += [json.loads(line) for line in answer]
        assert [line["id"] for line in found] == list(range(40)) and all("result" in line for line in found), found
        printed, told = service.communicate(timeout=PATIENCE)
        assert service.returncode == 0 and printed == "" and "Traceback" not in told, told
    assert all("message" in json.loads(line) for line in told.splitlines())
    logged = ingress_lines(name)
    assert logged and all(line["levelname"] == "INFO" and "Ingress" in line["deployment"] for line in logged)


def chunk(number: int, text: str) -> bytes:
    """A line of a stream, as HTTP sends a part of a body whose length is not known."""
    line = json.dumps({"id": number, "text": text}).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


@pytest.mark.cluster
def test_its_port_tells_the_metrics_of_all_replicas(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    settings = ("serve.examples=", "serve.replicas=2")
    with running(tiny_bundle, tmp_path, root, *settings) as (service, url), Client(url) as client:
        ready_line(service)
        stalled = socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0))
        stalled.sendall(b"POST /v1/entities HTTP/1.1\r\nhost: localhost\r\n")
        assert httpx.get(f"{url}/readyz", timeout=60).json()["taggers"] == 2

        def counted() -> bool:
            for _ in range(8):
                client.tag("Anna Berg left Oslo.")
            time.sleep(1)
            text = httpx.get(f"{url}/metrics", timeout=60).text
            counts = re.findall(r"^ray_metacross_batch_requests_count\{.*replica=\"([^\"]+)\"", text, re.MULTILINE)
            return len(set(counts)) == 2

        wait_for(counted, PATIENCE)
        stalled.settimeout(60)
        assert stalled.recv(100).startswith(b"HTTP/1.1 408 "), "its header never came"


def test_mistakes_show_before_anything_starts(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.run.ray_session", None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        for bundle, options, message in (
            (tmp_path, {}, "not a bundle (no manifest.json)"),
            (tiny_bundle, {"overrides": ["serve.replicas=none"]}, "serve.replicas is"),
            (tiny_bundle, {"overrides": ["train.lr=1"]}, "train.lr=1.0 but this bundle was trained with"),
            (tiny_bundle, {"host": "0.0.0.0"}, "serve.auth is empty"),
            (tiny_bundle, {"port": taken}, f"--port {taken}: cannot listen there"),
        ):
            with pytest.raises(typer.Exit) as ended:
                run(str(bundle), **options)
            told = capsys.readouterr()
            assert (ended.value.exit_code, told.out) == (2, "")
            assert told.err.startswith("error: ") and message in told.err, told.err
