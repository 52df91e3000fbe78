"""Ray that is started here listens on loopback alone, and answers only those who know its token."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

from metacross import ray_session
from metacross.errors import UserError
from metacross.ray_internals import AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_FILE, AUTH_TOKEN_PATH
from tests.helpers.listening import beyond_loopback, listeners
from tests.helpers.tiny_bundle import tiny_config

SPACE = """
trials: 1
searcher: random
scheduler: none
reduction: 2
seed: 3
resources: {cpus: 0.5, gpus: 0}
fixed: {}
space:
  inner.lr: {loguniform: [0.01, 0.3]}
"""
STRANGER = """
import ray, sys
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
    print("in")
except (ray.exceptions.AuthenticationError, ConnectionError) as error:
    print("refused", error)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new user's home directory, with nothing said about tokens."""
    for name in (AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_cluster_that_grows_by_itself_has_what_it_may_grow_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "memory": 1e9})
    assert ray_session.cluster_resources() == {"CPU": 4.0, "memory": 1e9}
    monkeypatch.setenv(ray_session.GROWS_TO, '{"CPU": 38, "GPU": 2}')
    assert ray_session.cluster_resources() == {"CPU": 38.0, "GPU": 2.0, "memory": 1e9}
    for wrong in ("38", "CPU: 38", '{"CPU": "many"}', '{"CPU": null}'):
        monkeypatch.setenv(ray_session.GROWS_TO, wrong)
        with pytest.raises(UserError, match=r'METACROSS_CLUSTER_GROWS_TO=.*expected JSON such as \{"CPU": 64'):
            ray_session.cluster_resources()


def test_a_token_is_made_for_its_user_alone_and_kept(home: Path) -> None:
    file = home / AUTH_TOKEN_FILE
    ray_session.make_token()
    token = file.read_text()
    assert len(token) == 64 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    ray_session.make_token()
    assert file.read_text() == token and AUTH_TOKEN not in os.environ


def test_a_token_that_others_can_read_is_taken_from_them(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = home / AUTH_TOKEN_FILE
    file.parent.mkdir()
    file.write_text("0123456789abcdef")
    file.chmod(0o644)
    ray_session.make_token()
    assert file.read_text() == "0123456789abcdef" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in caplog.text


def test_without_a_home_that_can_be_written_the_token_is_in_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / AUTH_TOKEN_FILE.parent).write_text("not a directory")
    monkeypatch.setenv(AUTH_TOKEN, "")  # so that it is undone
    ray_session.make_token()
    assert len(os.environ[AUTH_TOKEN]) == 64


@pytest.mark.parametrize(
    ("name", "value"), [(AUTH_MODE, "disabled"), (AUTH_TOKEN, "a-token-of-mine"), (AUTH_TOKEN_PATH, "/run/token")]
)
def test_what_the_user_says_about_tokens_counts(
    name: str, value: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    ray_session.make_token()
    assert list(home.iterdir()) == []


@contextmanager
def command(place: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`metacross`, in an environment that says nothing about Ray; it does not outlive the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(place / "home"), "PYTHONPATH": str(Path(__file__).parents[1])}
    (place / "home").mkdir()
    with (place / "told").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "metacross", *map(str, arguments)],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)


def seen_until_the_end(process: subprocess.Popen[str], *named: str) -> dict[str, set[str]]:
    """Where a command's processes listened while it ran; those named were among them."""
    seen: dict[str, set[str]] = {}
    while process.poll() is None:
        for address, names in listeners(process.pid).items():
            seen.setdefault(address, set()).update(names)
        time.sleep(0.3)
    for name in named:
        assert any(name in listening for names in seen.values() for listening in names), seen
    return seen


@pytest.mark.cluster
def test_a_sweep_and_its_training_listen_on_loopback_alone(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(tiny_config(tiny_folder).to_yaml(), encoding="utf-8")
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    arguments = ["tune", "--space", "space.yaml", "--config", "base.yaml", "--name", "sweep"]
    with command(tmp_path, *arguments, f"train.storage_path={tmp_path}") as process:
        seen = seen_until_the_end(process, "gcs_server", "raylet", "RayTrainWorker", "dashboard")
    assert process.returncode == 0, (tmp_path / "told").read_text()
    assert beyond_loopback(seen) == {}


@pytest.mark.cluster
def test_without_the_token_nobody_joins() -> None:
    right = {AUTH_MODE: "token", AUTH_TOKEN: os.environ[AUTH_TOKEN]}
    with ray_session.ray_session():
        address = ray.get_runtime_context().gcs_address
        assert ask_to_join(address, right) == "in"
        assert ask_to_join(address, {AUTH_MODE: "disabled"}) == "refused"
        assert ask_to_join(address, {AUTH_MODE: "token", AUTH_TOKEN: "0123456789abcdef"}) == "refused"


def ask_to_join(address: str, environment: dict[str, str]) -> str:
    """What becomes of a process that joins the Ray at an address: "in" or "refused"."""
    told = subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env={**os.environ, ENABLE_RAY_CLUSTERS_ENV_VAR: "0", **environment},  # it takes 127.0.0.1 as it stands
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert told.stdout, told.stderr
    return told.stdout.split()[0]
