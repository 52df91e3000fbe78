"""Choosing a device and the precision of matrix products."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metacross.errors import UserError

CPU_SLACK, FUSED_CPU_SLACK = 64.0, 32.0  # word pieces; see `padding_slack`


def pick_device(use_gpu: bool | str = "auto", *, local_rank: int = 0) -> torch.device:
    """Returns `cuda:local_rank` if there is a GPU and it is wanted, else the CPU.

    Args:
        use_gpu: True asks for a GPU, False for the CPU; `auto` takes a GPU if there is one.
        local_rank: number of this worker among those of its machine; workers share out the machine's GPUs by it.

    Raises:
        UserError: `use_gpu` is True and torch sees no GPU.
    """
    if use_gpu is False:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    if use_gpu is True:
        raise UserError("train.use_gpu=true but torch sees no GPU: install a CUDA build of torch, or set it to auto")
    return torch.device("cpu")


def named_device(device: str | torch.device) -> torch.device:
    """Returns the device that a user names: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: there is no such device.
    """
    if device == "auto":
        return pick_device("auto")
    if device in ("cpu", "cuda"):
        return pick_device(device == "cuda")
    try:
        named = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device}: expected auto, cpu, cuda or cuda:N") from error
    if named.type == "cuda" and (named.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={device} but torch sees {torch.cuda.device_count()} GPUs: choose another, or auto")
    return named


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 matrices natively: Ampere and later, or a CPU with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def product_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that matrix products run in, or None for the weights' own type.

    Args:
        precision: `bf16`, `fp32`, or `auto`: bf16 if the device is fast in it.
        device: where the products run.
    """
    if precision == "bf16" or (precision == "auto" and bf16_is_fast(device)):
        return torch.bfloat16
    return None


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Runs the block's matrix products in `product_dtype`."""
    dtype = product_dtype(precision, device)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def hold_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Converts the weights of linear layers to the type that autocast would convert them to in every forward.

    Results stay the same to the bit, but the conversion is done once: for a short sentence it is most of a forward.
    Not for weights that are trained or saved.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.to(dtype)


def padding_slack(device: torch.device, *, fused: bool) -> float:
    """Padding, in word pieces, that is accepted before another batch is started.

    On a CPU a forward's time grows with its pieces, padding included, and its fixed cost equals that of CPU_SLACK
    pieces (`python -m benchmarks.serving`). On a GPU padding is nearly free.

    Args:
        device: where the forward runs.
        fused: the batches are groups of one forward through fused layers: another one costs less.
    """
    if device.type != "cpu":
        return math.inf
    return FUSED_CPU_SLACK if fused else CPU_SLACK
