"""What each worker of a run gets of a Ray cluster: CPUs, a GPU or a share of one, threads."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import torch

from metacross.config import TrainConfig
from metacross.errors import UserError


def worker_resources(
    train: TrainConfig,
    cluster: Mapping[str, float],
    *,
    ours: bool,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float = 1.0,
) -> tuple[bool, dict[str, float]]:
    """Whether workers get a GPU, and what Ray reserves for each, such as {"CPU": 2, "GPU": 1.0}.

    Args:
        train: says how many workers there are, and whether they use GPUs.
        cluster: what Ray has of each resource, in use or not.
        ours: Ray was started for this run alone, on this machine; it will not grow.
        cpus_per_worker: what the caller wants; None: all CPUs shared evenly where Ray is ours, else one.
        gpus_per_worker: what the caller wants; 0 keeps workers off GPUs.

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
        # Ray reserves a number of CPUs, or a fraction below one where there are fewer CPUs than workers.
        cpus_per_worker = math.floor(share) if share >= 1 else math.floor(share * 100) / 100
    use_gpu = train.use_gpu is True or (train.use_gpu == "auto" and not short)
    return use_gpu, {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if use_gpu else {})


def worker_threads(cpus: float, *, ours: bool) -> int:
    """A worker's torch threads: as many as CPUs, unless OMP_NUM_THREADS says otherwise where Ray is on this machine."""
    wanted = os.environ.get("OMP_NUM_THREADS", "") if ours else ""
    return int(wanted) if wanted.isdecimal() and int(wanted) else max(1, int(cpus))
