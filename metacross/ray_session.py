"""Ray as a run finds or starts it, and what a run that is a Ray job knows of its job."""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ray
import ray.util

from metacross import json_logs, ray_internals
from metacross.errors import UserError

# The environment variable in which whoever runs a cluster that grows by itself says how far it grows.
GROWS_TO = "METACROSS_CLUSTER_GROWS_TO"
OBJECT_STORE_BYTES = 100 << 20  # hardly anything goes through it: neither in training nor in encoding
log = logging.getLogger(__name__)


@contextmanager
def ray_session(*, dashboard: bool = False) -> Iterator[bool]:
    """Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray for the length of the block.

    Yields whether Ray was started here, for this run alone.

    Args:
        dashboard: start it with a dashboard. Tune needs one: Ray Train asks it whether a trial still lives, and frees
            its resources where it does not.

    Raises:
        UserError: Ray does not start, no cluster is at RAY_ADDRESS, or it does not let us in.
    """
    if ray.is_initialized():
        yield False
        return
    ours = os.environ.get("RAY_ADDRESS", "") in ("", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if ours:
            start_ray(dashboard=dashboard)
        else:
            ray.init(logging_level=logging.WARNING, **_json_logs())
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"Ray did not let us in: {error}. If the cluster wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "(its head's token)."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        fix = (
            "See its log below /tmp/ray/session_latest/logs."
            if ours
            else f"Is there a cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}? Without it, Ray is started here. If "
            "the cluster wants a token, set RAY_AUTH_MODE=token, too."
        )
        raise UserError(f"Ray did not start: {error}. {fix}") from error
    _know_job()
    try:
        yield ours
    finally:
        ray.shutdown()


def start_ray(*, cpus: int | None = None, dashboard: bool = False) -> None:
    """Starts Ray on this machine, for its user alone.

    Whoever reaches a Ray process runs code as its user. So all of them listen on loopback alone, and they answer only
    those who know a token, since other users of the machine reach them even there.

    Args:
        cpus: logical CPUs; None for those of this machine.
        dashboard: see `ray_session`.
    """
    os.environ.setdefault(ray_internals.HEALTH_CHECK_SECONDS, "0.5")
    os.environ.setdefault(ray_internals.PREEMPTION_WATCHER, "0")  # nobody takes this machine away
    make_token()
    known_address: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if dashboard:  # what asks it has to find this Ray
        known_address = ray_internals.known_address()
    with ray_internals.on_loopback(), known_address as address:
        ray.init(
            **{"log_to_driver": False, **address, **_json_logs()},
            address="local",
            num_cpus=cpus,
            include_dashboard=dashboard,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
        )


def _json_logs() -> dict[str, Any]:
    """Arguments of `ray.init` where logs are JSON: workers write such lines, and nothing of theirs is shown here."""
    if not json_logs.wanted():
        return {}
    return {"logging_config": ray.LoggingConfig(encoding="JSON", log_level="WARNING"), "log_to_driver": False}


def _know_job() -> None:
    """Lets the lines of this process name its job, as those of its workers do."""
    if not json_logs.wanted():
        return
    context = ray.get_runtime_context()
    json_logs.set_up()  # Ray has added a handler of its own
    json_logs.know(job_id=context.get_job_id(), node_id=context.get_node_id(), submission_id=submission_id())


def make_token() -> None:
    """Makes the token that this user's Ray asks for, where it is missing, and keeps it from the machine's other users.

    Ray would make it as well, but readable for everybody. Where the home directory cannot be written, this process and
    its children get a token of their own. RAY_AUTH_MODE=disabled turns the tokens off.
    """
    given = (ray_internals.AUTH_TOKEN, ray_internals.AUTH_TOKEN_PATH)
    if os.environ.get(ray_internals.AUTH_MODE, "").lower() == "disabled" or any(map(os.environ.get, given)):
        return
    path = Path.home() / ray_internals.AUTH_TOKEN_FILE
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent) as new, suppress(FileExistsError):
                new.write(secrets.token_hex(32))
                new.flush()
                os.link(new.name, path)  # complete at once, and another process's token stays
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
            log.warning("other users of this machine could read %s, Ray's token; now only you can", path)
    except OSError:
        os.environ[ray_internals.AUTH_TOKEN] = secrets.token_hex(32)


def on_this_machine_alone() -> bool:
    """Whether the Ray that is initialised listens on loopback alone, so that all its processes are on this machine."""
    return ip_address(ray.util.get_node_ip_address()).is_loopback  # type: ignore[no-untyped-call]


def cluster_resources() -> dict[str, float]:
    """What Ray has of each resource, in use or not, such as {"CPU": 8.0, "GPU": 1.0}.

    A cluster that grows by itself may have next to nothing until it is asked for more, and Ray does not tell how far it
    grows. Where `GROWS_TO` says so, that counts.

    Raises:
        UserError: `GROWS_TO` is not a JSON object of numbers.
    """
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    later = _grows_to(os.environ.get(GROWS_TO, "{}"))
    return {name: max(resources.get(name, 0.0), later.get(name, 0.0)) for name in resources.keys() | later.keys()}


def _grows_to(text: str) -> dict[str, float]:
    try:
        return {str(name): float(amount) for name, amount in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f'{GROWS_TO}={text}: expected JSON such as {{"CPU": 64, "GPU": 8}} ({error}).') from None


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
