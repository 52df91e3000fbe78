"""Ray on this machine for tests, and torch as numbers that are compared between processes need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch

from metacross.ray_session import start_ray


@contextmanager
def started_ray(cpus: int) -> Iterator[None]:
    """Ray with so many logical CPUs, for the block."""
    start_ray(cpus=cpus)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch sums in one thread inside the block: in the same order in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
