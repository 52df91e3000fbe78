"""What runs on every Ray Train worker: a coat around `training_loop.run`, which does the work."""

from __future__ import annotations

import json
import os
import time
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

from metacross.config import Config
from metacross.encoder.device import pick_device
from metacross.ray_training.trackers import tracked
from metacross.storage import addresses
from metacross.training import learner, loop
from metacross.training.profiler import profiled
from metacross.training.team import Team

CARRIED = ("progress.jsonl", "mlflow.json", "tensorboard", "profile")  # to a run's address, besides what is learned
PREPARE_SECONDS = 0.2  # between two events of the preparation


@dataclass(frozen=True)
class Assignment:
    """What every worker is told."""

    config: Config
    place: Path | str  # the run's directory, or its address
    working_directory: Path  # the driver's: relative corpus paths start there
    use_gpu: bool
    threads: int


def work(job: Assignment) -> dict[str, Any]:
    """A worker's part: runs inside Ray Train, in a process of its own, with torch's process group up."""
    if job.working_directory.is_dir():
        os.chdir(job.working_directory)  # Ray Train has gone to a directory of its own
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    team = Team(rank, size, all_reduce=_sum_over_workers, gather=_gather_from_workers)
    with ExitStack() as stack:
        run_dir, mirror = stack.enter_context(addresses.working_copy(job.place))
        report = stack.enter_context(_reporting(job, run_dir, mirror)) if rank == 0 else None
        one = learner.Learner(job.config, device=_device(job.use_gpu), team=team, report=report)
        around_step = stack.enter_context(
            profiled(
                run_dir / "profile",
                wanted=job.config.train.profile and rank == 0,
                steps=job.config.train.steps,
                device=one.device,
                report=one.report,
            )
        )
        return loop.run(
            one,
            run_dir,
            should_stop=(run_dir / "STOP").exists if rank == 0 else lambda: False,
            # On every rank: Ray's report waits for all of them.
            on_eval=lambda found: ray.train.report(dict(found)),
            around_step=around_step,
            mirror=mirror,
        )


@contextmanager
def _reporting(job: Assignment, run_dir: Path, mirror: addresses.Mirror | None) -> Iterator[learner.Report]:
    """Rank 0's report: events go to progress.jsonl and to trackers; at an address they are carried on."""
    with ExitStack() as stack:
        if mirror:
            for name in CARRIED:  # of earlier attempts
                mirror.pull(name)
            stack.enter_context(mirror.follow(up=CARRIED, down=["STOP"]))
        yield stack.enter_context(tracked(job.config, run_dir, _EventLog(run_dir)))


class Stopped(Exception):
    """Someone stopped the run while it was being prepared."""


class _EventLog:
    """Appends events to progress.jsonl; while the run is being prepared it also looks for STOP.

    From the first step on, `training_loop.run` looks for it, since then all workers must stop at the same step.
    """

    def __init__(self, run_dir: Path) -> None:
        self._file = (run_dir / "progress.jsonl").open("a", encoding="utf-8", buffering=1)
        self._stop = run_dir / "STOP"
        self._prepared = float("-inf")

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "prepare":
            if self._stop.exists():
                raise Stopped
            now = time.monotonic()
            if now - self._prepared < PREPARE_SECONDS and event["done"] < event["total"]:
                return
            self._prepared = now
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")


def _sum_over_workers(flat: Tensor) -> None:
    dist.all_reduce(flat)


def _gather_from_workers(part: Any) -> list[Any]:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def _device(use_gpu: bool) -> torch.device:
    device = pick_device(use_gpu)
    return ray.train.torch.get_device() if device.type == "cuda" else device
