"""Ray itself: started for a run alone or found, and what of it a run's workers get."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from metacross.errors import UserError

OBJECT_STORE_BYTES = 100 << 20  # hardly anything goes through it: neither in training nor in encoding


@contextmanager
def ray_session(*, dashboard: bool = False) -> Iterator[bool]:
    """Ray, initialised; gives whether it was started here, for this run alone.

    Tune needs the dashboard: Ray Train asks it whether a trial still lives, and frees its resources where it does not.
    """
    if ray.is_initialized():
        yield False
        return
    ours = os.environ.get("RAY_ADDRESS", "") in ("", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ours:
        # How often Ray looks at the workers (2 s otherwise): a measurement, and the end, may wait for that long.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away
    try:
        if ours:
            # RAY_AUTH_MODE stays what it is: unset, Ray guards a local cluster with a token in ~/.ray, so that other
            # users of this machine cannot run code in it.
            ray.init(
                **(_known_address() if dashboard else {}),
                address="local",
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        else:
            ray.init(logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        fix = (
            "If it cannot write its token below the home directory, set RAY_AUTH_MODE=disabled."
            if ours
            else f"Is there a cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}? Without it, Ray is started here."
        )
        raise UserError(f"Ray did not start: {error}. {fix}") from error
    finally:
        if dashboard:
            os.environ.pop("RAY_GCS_SERVER_PORT", None)
    try:
        yield ours
    finally:
        ray.shutdown()


def _known_address() -> dict[str, Any]:
    """Arguments of `ray.init` for a local Ray whose address all its processes are told.

    What asks the dashboard looks for "the" cluster of this machine. Where another Ray runs it finds two and gives up:
    so does what frees a stopped trial's resources.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["RAY_GCS_SERVER_PORT"] = str(port)
    return {"_node_ip_address": "127.0.0.1", "runtime_env": {"env_vars": {"RAY_ADDRESS": f"127.0.0.1:{port}"}}}


def cluster_resources() -> dict[str, float]:
    """What Ray has, in use or not."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray tells the entrypoint of a job about it, as JSON


UNPACKED = "_ray_pkg_"  # begins the names of the directories that Ray unpacks --working-dir into


def submission_id() -> str:
    """The submission id of the Ray job whose entrypoint this process is; "" where it is none."""
    told = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    return str((told.get("metadata") or {}).get("job_submission_id", ""))


def refuse_unpacked(storage_path: str) -> None:
    """Raises UserError where `storage_path` leads into a job's unpacked working directory, which Ray deletes."""
    place = Path(storage_path).expanduser().absolute()
    if "://" not in storage_path and any(part.startswith(UNPACKED) for part in place.parts):
        raise UserError(
            f"train.storage_path={storage_path} is inside this job's copy of the working directory, which Ray deletes "
            "after the job. Give an absolute path that all nodes see."
        )
