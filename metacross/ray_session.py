"""Ray as a run finds or starts it, and what a run that is a Ray job knows of its job."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray

from metacross import ray_internals
from metacross.errors import UserError

OBJECT_STORE_BYTES = 100 << 20  # hardly anything goes through it: neither in training nor in encoding


@contextmanager
def ray_session(*, dashboard: bool = False) -> Iterator[bool]:
    """Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray for the length of the block.

    Yields whether Ray was started here, for this run alone.

    Args:
        dashboard: start it with a dashboard. Tune needs one: Ray Train asks it whether a trial still lives, and frees
            its resources where it does not.

    Raises:
        UserError: Ray does not start, or no cluster is at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield False
        return
    ours = os.environ.get("RAY_ADDRESS", "") in ("", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if ours:
            _start(dashboard=dashboard)
        else:
            ray.init(logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        fix = (
            "If it cannot write its token below the home directory, set RAY_AUTH_MODE=disabled."
            if ours
            else f"Is there a cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}? Without it, Ray is started here."
        )
        raise UserError(f"Ray did not start: {error}. {fix}") from error
    try:
        yield ours
    finally:
        ray.shutdown()


def _start(*, dashboard: bool) -> None:
    os.environ.setdefault(ray_internals.HEALTH_CHECK_SECONDS, "0.5")
    os.environ.setdefault(ray_internals.PREEMPTION_WATCHER, "0")  # nobody takes this machine away
    # RAY_AUTH_MODE stays what it is: unset, Ray guards a local cluster with a token in ~/.ray, so that other users of
    # this machine cannot run code in it.
    known_address: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if dashboard:  # what asks it has to find this Ray
        known_address = ray_internals.known_address()
    with known_address as address:
        ray.init(
            **address,
            address="local",
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
        )


def cluster_resources() -> dict[str, float]:
    """What Ray has of each resource, in use or not, such as {"CPU": 8.0, "GPU": 1.0}."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def submission_id() -> str:
    """The submission id of the Ray job whose entrypoint this process is; "" where it is none."""
    job_config = json.loads(os.environ.get(ray_internals.JOB_CONFIG, "{}"))
    return str((job_config.get("metadata") or {}).get("job_submission_id", ""))


def refuse_unpacked(storage_path: str) -> None:
    """Raises UserError where `storage_path` leads into a job's unpacked working directory, which Ray deletes."""
    path = Path(storage_path).expanduser().absolute()
    if "://" not in storage_path and any(part.startswith(ray_internals.UNPACKED) for part in path.parts):
        raise UserError(
            f"train.storage_path={storage_path} is inside this job's copy of the working directory, which Ray deletes "
            "after the job. Give an absolute path that all nodes see."
        )
