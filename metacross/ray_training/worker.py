"""What runs on every Ray Train worker: a wrapper around `loop.run`, which does the work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor

from metacross import ray_internals
from metacross.config import Config
from metacross.encoder.device import pick_device
from metacross.events import Note, Show, ignore, to_fields
from metacross.ray_training.trackers import tracked
from metacross.storage import addresses
from metacross.training import loop
from metacross.training.event_log import EventLog
from metacross.training.learner import Learner
from metacross.training.profiler import profiled
from metacross.training.team import Team

# What rank 0 carries to a run's address while it trains, besides checkpoints and the bundle.
CARRIED = ("progress.jsonl", "mlflow.json", "tensorboard", "profile")


@dataclass(frozen=True)
class Assignment:
    """What the driver sends to every worker.

    Attributes:
        config: the run's configuration.
        location: the run's directory or address.
        working_directory: the driver's; relative paths of corpora start there.
        use_gpu: whether the worker has a GPU.
        threads: torch's threads.
    """

    config: Config
    location: Path | str
    working_directory: Path
    use_gpu: bool
    threads: int


def work(assignment: Assignment) -> loop.Outcome:
    """A worker's part; runs inside Ray Train, in a process of its own, with torch's process group up."""
    if assignment.working_directory.is_dir():
        os.chdir(assignment.working_directory)  # Ray Train has gone to a directory of its own
    torch.set_num_threads(assignment.threads)
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    team = Team(rank, size, all_reduce=_sum_over_workers, gather=_gather_from_workers)
    config = assignment.config
    with ExitStack() as stack:
        run_dir, mirror = stack.enter_context(addresses.working_copy(assignment.location))
        report = stack.enter_context(_reporting(assignment, run_dir, mirror)) if rank == 0 else ignore
        learner = Learner.from_config(config, device=_device(assignment.use_gpu), team=team, report=report)
        around_step = stack.enter_context(
            profiled(
                run_dir / "profile",
                wanted=config.train.profile and rank == 0,
                steps=config.train.steps,
                device=learner.device,
                report=report,
            )
        )
        return loop.run(
            learner,
            run_dir,
            should_save=Announcements(report),
            should_stop=(run_dir / "STOP").exists if rank == 0 else lambda: False,
            # On every rank: Ray's report waits for all of them.
            on_eval=lambda measured: ray.train.report(to_fields(measured)),
            around_step=around_step,
            mirror=mirror,
        )


class Announcements:
    """Tells once of every time that Ray announces the loss of nodes: `True` asks for a checkpoint, before they go.

    Args:
        report: gets a note of it.
    """

    def __init__(self, report: Show) -> None:
        self._report = report
        self._known: ray.train.PreemptionInfo | None = None

    def __call__(self) -> bool:
        """Whether something was announced since the last call."""
        announced = ray_internals.announced_preemption()
        if announced is None or announced == self._known:
            return False
        self._known = announced
        lost = len(announced.preempted_ranks)
        self._report(
            Note(f"{lost} of the workers will be lost with their nodes, as Ray announces: writing a checkpoint")
        )
        return True


@contextmanager
def _reporting(assignment: Assignment, run_dir: Path, mirror: addresses.Mirror | None) -> Iterator[Show]:
    """Rank 0's report: events go to progress.jsonl and to trackers; a mirror carries what they write to an address."""
    with ExitStack() as stack:
        if mirror:
            for name in CARRIED:  # earlier attempts may have written them
                mirror.pull(name)
            stack.enter_context(mirror.follow(up=CARRIED, down=["STOP"]))
        name = str(assignment.location).rstrip("/").rpartition("/")[2]
        yield stack.enter_context(tracked(assignment.config, run_dir, EventLog(run_dir), name=name))


def _sum_over_workers(flat: Tensor) -> None:
    dist.all_reduce(flat)


def _gather_from_workers(part: Any) -> list[Any]:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def _device(use_gpu: bool) -> torch.device:
    device = pick_device(use_gpu)
    return ray.train.torch.get_device() if device.type == "cuda" else device
