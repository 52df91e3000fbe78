"""What is used of Ray's private side is still there; else the message says what went, and what it was for."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
from pathlib import Path

import pytest
import ray
from ray._private import utils, worker

from metacross import ray_internals


@pytest.mark.parametrize(
    ("module", "constant", "expected", "purpose"),
    [
        (
            "ray._private.runtime_env.constants",
            "RAY_JOB_CONFIG_JSON_ENV_VAR",
            ray_internals.JOB_CONFIG,
            "a run that is a job takes the job's submission id for its name",
        ),
        (
            "ray._private.runtime_env.packaging",
            "RAY_PKG_PREFIX",
            ray_internals.UNPACKED,
            "no run is written into a directory that Ray deletes after the job",
        ),
        (
            "ray.train.v2._internal.constants",
            "HEALTH_CHECK_INTERVAL_S_ENV_VAR",
            ray_internals.HEALTH_CHECK_SECONDS,
            "measurements and the end of a run do not wait for two seconds",
        ),
        (
            "ray.train.v2._internal.constants",
            "ENABLE_PREEMPTION_WATCHER_ENV_VAR",
            ray_internals.PREEMPTION_WATCHER,
            "a run on this machine starts no process that waits for a cloud",
        ),
        (
            "ray._private.ray_constants",
            "GCS_PORT_ENVIRONMENT_VARIABLE",
            ray_internals.GCS_PORT,
            "a sweep's processes find their own Ray where another one runs",
        ),
        (
            "ray._private.authentication.authentication_token_setup",
            "AUTH_MODE_ENV_VAR",
            ray_internals.AUTH_MODE,
            "no token is made where the user wants none",
        ),
    ],
)
def test_a_constant_has_the_value_that_is_used_here(module: str, constant: str, expected: str, purpose: str) -> None:
    try:
        value = getattr(importlib.import_module(module), constant)
    except (ImportError, AttributeError):
        value = None
    assert value == expected, (
        f"Ray {ray.__version__} has {module}.{constant} = {value!r}, metacross/ray_internals.py says {expected!r}. "
        f"It is needed so that {purpose}."
    )


@pytest.mark.parametrize(
    ("module", "text", "purpose"),
    [
        (
            "ray._private.services",
            "if not ray_constants.ENABLE_RAY_CLUSTER:",
            "a Ray that is started here listens on loopback alone",
        ),
        (
            "ray._private.authentication.authentication_token_setup",
            'Path.home() / "{}" / "{}"'.format(*ray_internals.AUTH_TOKEN_FILE.parts),
            "Ray takes the token that was made for it, readable for its user alone",
        ),
        ("ray.exceptions", ray_internals.AUTH_TOKEN_PATH, "a token of the user's own is left alone"),
        ("ray.exceptions", f"`{ray_internals.AUTH_TOKEN}`", "a token needs no writable home directory"),
        ("ray.tune.experimental.output", f'"{ray_internals.TUNE_OUTPUT}"', "Ray Tune prints nothing of its own"),
        (
            "ray.tune.execution.tune_controller",
            f'"{ray_internals.TUNE_STATE.removesuffix("*")}{{}}.json"',
            "a sweep that is submitted again knows whether Ray Tune has begun it",
        ),
    ],
)
def test_a_name_is_still_read(module: str, text: str, purpose: str) -> None:
    try:
        source = inspect.getsource(importlib.import_module(module))
    except ImportError:
        source = ""
    assert text in source, (
        f"Ray {ray.__version__} does not read {text} in {module} any more. It is needed so that {purpose}: see "
        "metacross/ray_internals.py."
    )


def test_the_address_is_only_set_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ray_internals.GCS_PORT, raising=False)
    with ray_internals.known_address() as arguments:
        port = os.environ[ray_internals.GCS_PORT]
        assert arguments["runtime_env"]["env_vars"] == {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    assert ray_internals.GCS_PORT not in os.environ


def test_a_cluster_that_was_started_here_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_internals.started_cluster() is None
    (tmp_path / "ray").mkdir()
    utils.write_ray_address("127.0.0.1:6379")
    assert ray_internals.started_cluster() == "127.0.0.1:6379"


def test_workers_are_told_of_nodes_that_will_be_taken_away() -> None:
    context = importlib.import_module("ray.train.v2._internal.execution.context")
    fields = {field.name for field in dataclasses.fields(context.TrainContext)}
    preemption = importlib.import_module("ray.train.v2._internal.execution.preemption")
    assert "preemption_context" in fields and callable(context.get_train_context)
    assert preemption.PreemptionContext().preemption_info is None


def test_signals_stay_with_whoever_starts_ray() -> None:
    took = utils.set_sigterm_handler, worker.connect
    for module, text in [
        ("ray._private.node", "ray._private.utils.set_sigterm_handler("),
        ("ray._private.worker", "ray._private.utils.set_sigterm_handler("),
        ("ray._private.worker", "\n    connect(\n"),
    ]:
        assert text in inspect.getsource(importlib.import_module(module)), f"{module} takes signals in another way now"
    with ray_internals.signals_kept():
        assert utils.set_sigterm_handler is not took[0] and worker.connect is not took[1]
    assert (utils.set_sigterm_handler, worker.connect) == took
