"""Pools of actors on Ray Data: how many there are and what each gets, and what goes wrong in them, in one line.

Each actor holds a model and does one part of the work at a time, so memory does not depend on how much work there is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray.data
import torch

from metacross.errors import UserError
from metacross.ray_session import cluster_resources

ACTOR_CPUS = 4  # threads of a model on CPUs, if there are that many; more models would only take more memory


@dataclass(frozen=True)
class ActorPool:
    """How many actors run side by side, and what each of them gets.

    Attributes:
        actors: number of actors.
        use_gpu: whether each gets a GPU.
        cpus: CPUs that Ray reserves for each.
        threads: number of torch's threads in each.
    """

    actors: int
    use_gpu: bool
    cpus: float
    threads: int


def actor_pool(use_gpu: bool | str, *, ours: bool, actors: int | None) -> ActorPool:
    """The pool for the Ray that is initialised.

    Args:
        use_gpu: see `pool`.
        ours: whether this process started Ray.
        actors: see `pool`.

    Raises:
        UserError: there is no room for so many actors.
    """
    cluster = cluster_resources()
    if ours and use_gpu == "auto":  # Ray counts GPUs that this build of torch may not be able to use
        cluster["GPU"] = min(cluster.get("GPU", 0), torch.cuda.device_count())
    return pool(use_gpu, cluster, actors=actors)


def pool(use_gpu: bool | str, cluster: dict[str, float], *, actors: int | None = None) -> ActorPool:
    """Chooses a pool: an actor per GPU, or without GPUs one per four CPUs.

    Args:
        use_gpu: true, false, or `auto`: if there are any.
        cluster: Ray's resources, as `ray.cluster_resources` returns them.
        actors: number of actors, if the caller chooses it.

    Raises:
        UserError: there is no room for so many actors.

    >>> pool("auto", {"CPU": 16.0, "GPU": 2.0})
    ActorPool(actors=2, use_gpu=True, cpus=1, threads=8)
    >>> pool("auto", {"CPU": 2.0})
    ActorPool(actors=1, use_gpu=False, cpus=2, threads=2)
    """
    cpus, gpus = int(cluster.get("CPU", 1)), 0 if use_gpu is False else int(cluster.get("GPU", 0))
    if use_gpu is True and not gpus:
        raise UserError("train.use_gpu=true but Ray sees no GPU. Set it to auto.")
    room = gpus or cpus
    if actors is not None and actors > room:
        raise UserError(f"--actors {actors}: Ray has {room} {'GPUs' if gpus else 'CPUs'}. Ask for at most {room}.")
    count = actors or gpus or max(1, cpus // ACTOR_CPUS)
    share = cpus / count  # whole CPUs, or a fraction below one
    reserved = (1 if gpus else int(share)) if share >= 1 else int(share * 100) / 100
    return ActorPool(count, gpus > 0, reserved, max(1, cpus // count))


def first_cause(error: BaseException) -> str:
    """The error that an actor raised, in one line; Ray passes it on only in the text of its own errors."""
    text = str(error).strip() or type(error).__name__
    raised = re.search(r"^(?!ray\.)[\w.]*(?:Error|Exception)\b.*$", text, re.MULTILINE)
    return raised[0] if raised else f"{type(error).__name__}: {text.splitlines()[0]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Ray Data from printing anything inside the block."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
