"""Ray on this machine for tests, and torch as numbers that are compared between processes need it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch


@contextmanager
def started_ray(cpus: int) -> Iterator[None]:
    """Ray with so many logical CPUs, for the block."""
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 << 20,
    )
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
