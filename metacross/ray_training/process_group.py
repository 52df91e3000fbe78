"""Torch's process group of the workers of a run, which listens on loopback alone where all of them are on one machine.

What gloo sends includes pickled objects, and whoever reaches a member of the group may send some. Ray Train lets the
workers meet at a server of torch (TCPStore) that listens on every address. On one machine they can meet in a file.
"""

from __future__ import annotations

import os
import socket
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch.distributed as dist
from ray.train.backend import Backend
from ray.train.torch import TorchConfig

from metacross.ray_session import on_this_machine_alone

LEAVE_SECONDS = 30  # as long as Ray Train's own backend waits


def process_group_config() -> type[TorchConfig]:
    """How the workers of the Ray that is initialised become a process group."""
    return LoopbackConfig if on_this_machine_alone() else TorchConfig


class LoopbackConfig(TorchConfig):
    """As `TorchConfig`, for workers that are all on one machine: they listen on loopback alone."""

    @property
    def backend_cls(self) -> type[Backend]:
        """See `ray.train.backend.BackendConfig`."""
        return _LoopbackBackend


class _LoopbackBackend(Backend):
    """Makes and ends the process group when Ray Train starts and ends the workers."""

    share_cuda_visible_devices = True  # as Ray Train's own backend for torch has it
    _meeting: Path  # a file

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        handle, name = tempfile.mkstemp(prefix="metacross-workers-")
        os.close(handle)
        self._meeting = Path(name)
        try:
            worker_group.execute(_join, name, backend_config.backend, backend_config.timeout_s)
        except BaseException:
            self._meeting.unlink(missing_ok=True)
            raise

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        left = worker_group.execute_async(_leave)
        ray.wait(left, num_returns=len(left), timeout=LEAVE_SECONDS)  # those that were lost do not answer
        self._meeting.unlink(missing_ok=True)


def _join(file: str, backend: str, timeout_s: float) -> None:
    """Runs in every worker: returns when all are in the process group."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    store = dist.FileStore(file, size)  # type: ignore[attr-defined]  # torch documents it
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s))


def _leave() -> None:
    """Runs in every worker."""
    if dist.is_initialized():
        dist.destroy_process_group()
