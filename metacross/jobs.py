"""Runs that are Ray jobs (`ray job submit`): the name a run takes from its job, and where it may be written."""

from __future__ import annotations

import json
import os
from pathlib import Path

from metacross.errors import UserError

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
