"""What metacross uses of Ray that Ray does not document, all of it read in Ray 2.60.0.

An upgrade may take any of it away: tests/test_ray_internals.py then says what is missing and what for. That holds for
environment variables and names of files above all, which would just have no effect any more.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray._private import ray_constants, utils, worker

if TYPE_CHECKING:
    from ray.train import PreemptionInfo

# The environment variable in which `ray job submit` tells a job's entrypoint about the job, as JSON. Ray documents the
# submission id only for the one who submits; a run takes it for its name.
# (ray/_private/runtime_env/constants.py: RAY_JOB_CONFIG_JSON_ENV_VAR)
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# Begins the names of the directories that Ray unpacks --working-dir into, and deletes after the job: a run must not be
# written there. (ray/_private/runtime_env/packaging.py: RAY_PKG_PREFIX)
UNPACKED = "_ray_pkg_"

# Seconds between two looks of Ray Train at its workers, 2 by default: a measurement and the end may wait for that long.
# (ray/train/v2/_internal/constants.py: HEALTH_CHECK_INTERVAL_S_ENV_VAR)
HEALTH_CHECK_SECONDS = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"

# "0" saves the process that waits for a cloud to take machines away.
# (ray/train/v2/_internal/constants.py: ENABLE_PREEMPTION_WATCHER_ENV_VAR)
PREEMPTION_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"

# "0" keeps Ray Tune from printing tables of its own, and tracebacks of trials that failed.
# (ray/tune/experimental/output.py: get_air_verbosity)
TUNE_OUTPUT = "RAY_AIR_NEW_OUTPUT"

# The port of the local Ray that `ray.init` is about to start.
# (ray/_private/ray_constants.py: GCS_PORT_ENVIRONMENT_VARIABLE)
GCS_PORT = "RAY_GCS_SERVER_PORT"

# The environment variables that say whether Ray wants a token ("disabled": it does not), and that hold the token or the
# path of its file; and the file that Ray takes without them, and makes where it is missing.
# (ray/_private/authentication/authentication_token_setup.py and exceptions.py)
AUTH_MODE = "RAY_AUTH_MODE"
AUTH_TOKEN = "RAY_AUTH_TOKEN"
AUTH_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
AUTH_TOKEN_FILE = Path(".ray", "auth_token")  # below the home directory

# The files that Ray Tune keeps its state in, and resumes from. (ray/tune/execution/tune_controller.py: CKPT_FILE_TMPL)
TUNE_STATE = "experiment_state-*"


def announced_preemption() -> PreemptionInfo | None:
    """On a Ray Train worker: which nodes of the run will be taken away, as Ray was told (`ray drain-node`); None: none.

    `ray.train.get_preemption_info` says the same, but lets all workers wait for each other at every call.
    (ray/train/v2/_internal/execution/context.py: PreemptionContext)
    """
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info


def started_cluster() -> str | None:
    """The address of the cluster that `ray start` started on this machine last, which may be over; None without one.

    (ray/_private/utils.py: read_ray_address)
    """
    return utils.read_ray_address() or None


@contextmanager
def on_loopback() -> Iterator[None]:
    """A Ray that starts inside the block listens on 127.0.0.1 alone, with all of its processes.

    They listen on loopback if their node has a loopback address, else on every address of the machine. On Linux, Ray
    takes an address that other machines reach, even where `_node_ip_address` is 127.0.0.1. On macOS and Windows, where
    it supports no clusters, it takes 127.0.0.1, and this constant makes it do the same here.
    (ray/_private/services.py: resolve_ip_for_localhost, get_node_ip_address)
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def signals_kept() -> Iterator[None]:
    """A Ray that starts inside the block leaves SIGINT and SIGTERM to this process's handlers.

    Ray takes SIGTERM several times while it starts, for handlers that end this process with status 1 or 15. At last,
    when the process connects to Ray, its C++ part takes signals unnoticed by Python; those that come then wait.
    (ray/_private/utils.py: set_sigterm_handler, called by node.py and worker.py; worker.py: connect, called by init)
    """
    kept = {signal.SIGINT, signal.SIGTERM}
    take, connect = utils.set_sigterm_handler, worker.connect

    def connect_undisturbed(*arguments: Any, **named: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, kept)  # not before: Ray's processes would inherit it
        return connect(*arguments, **named)

    utils.set_sigterm_handler = lambda handler: None
    worker.connect = connect_undisturbed
    try:
        yield
    finally:
        utils.set_sigterm_handler, worker.connect = take, connect
        for number in kept:
            signal.signal(number, signal.getsignal(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, kept)


@contextmanager
def known_address() -> Iterator[dict[str, Any]]:
    """Yields arguments of `ray.init` for a local Ray whose address all its processes know; call it inside the block.

    Ray Train asks the dashboard whether a trial still lives, and what asks looks for "the" cluster of this machine.
    Where another Ray runs it finds two and gives up, and a stopped trial's resources are never freed. So the port is
    chosen here, and RAY_ADDRESS is put into every process's environment. Use it within `on_loopback`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ[GCS_PORT] = str(port)
    try:
        yield {"runtime_env": {"env_vars": {"RAY_ADDRESS": f"127.0.0.1:{port}"}}}
    finally:
        os.environ.pop(GCS_PORT, None)
