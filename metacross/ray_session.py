"""Ray itself: started for a run alone or found, and what of it a run's workers get."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import torch

from metacross.config import TrainConfig
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


def worker_resources(
    train: TrainConfig,
    cluster: Mapping[str, float],
    *,
    ours: bool,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float = 1.0,
) -> tuple[bool, dict[str, float]]:
    """Whether workers get a GPU, and what Ray reserves for each: CPUs, and the GPU's share.

    Args:
        train: says how many workers, and whether on GPUs.
        cluster: what Ray has, as `ray.cluster_resources` tells it.
        ours: Ray was started for this run alone, on this machine; it will not grow.
        cpus_per_worker: the caller's choice.
        gpus_per_worker: the caller's choice; 0 keeps workers off GPUs.

    Raises:
        UserError: there are GPUs, but fewer than workers need.
    """
    if train.use_gpu is True and not gpus_per_worker:
        raise UserError("train.use_gpu=true but workers are to get 0 GPUs. Set one of the two.")
    gpus = int(cluster.get("GPU", 0)) if gpus_per_worker else 0
    if ours and train.use_gpu == "auto":
        gpus = min(gpus, torch.cuda.device_count())  # Ray may see more than this build of torch can use
    fewest, most = train.worker_range()
    room = int(gpus / gpus_per_worker) if gpus else 0
    short = room < fewest
    if short and ((train.use_gpu is True and ours) or (train.use_gpu == "auto" and gpus)):
        fix = f"train.workers={room} or train.use_gpu=false" if room else "train.use_gpu=false"
        raise UserError(
            f"train.workers={train.workers} but Ray sees {gpus} GPUs, and every worker needs {gpus_per_worker:g}. "
            f"Set {fix}."
        )
    share = cluster.get("CPU", 1.0) / most if ours else 1.0
    if cpus_per_worker is None:
        # Ray takes whole CPUs, or fractions below one where there are fewer CPUs than workers.
        cpus_per_worker = math.floor(share) if share >= 1 else math.floor(share * 100) / 100
    use_gpu = train.use_gpu is True or (train.use_gpu == "auto" and not short)
    return use_gpu, {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if use_gpu else {})


def worker_threads(cpus: float, *, ours: bool) -> int:
    """A worker's torch threads: its CPUs, unless this machine's environment says otherwise."""
    said = os.environ.get("OMP_NUM_THREADS", "") if ours else ""
    return int(said) if said.isdecimal() and int(said) else max(1, int(cpus))
