"""The one place that chooses a device and a precision."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from metacross.errors import UserError

CPU_SLACK = 64.0  # word pieces, see `padding_slack`


def pick_device(use_gpu: bool | str = "auto", *, local_rank: int = 0) -> torch.device:
    """`cuda:local_rank` where there is one and it is wanted, else the CPU.

    Raises:
        UserError: a GPU is asked for and torch sees none.
    """
    if use_gpu is False:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    if use_gpu is True:
        raise UserError("train.use_gpu=true but torch sees no GPU: install a CUDA build of torch, or set it to auto")
    return torch.device("cpu")


def named_device(device: str | torch.device) -> torch.device:
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: no such device.
    """
    if device == "auto":
        return pick_device("auto")
    if device in ("cpu", "cuda"):
        return pick_device(device == "cuda")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device}: expected auto, cpu, cuda or cuda:N") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={device} but torch sees {torch.cuda.device_count()} GPUs: choose another, or auto")
    return place


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
    """What matrix products run in where that is not the weights' own type; `auto` takes bf16 where it is fast."""
    if precision == "bf16" or (precision == "auto" and bf16_is_fast(device)):
        return torch.bfloat16
    return None


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The block's matrix products in `product_dtype`."""
    dtype = product_dtype(precision, device)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def padding_slack(device: torch.device) -> float:
    """How much padding, in word pieces, is worth another forward.

    On a CPU time goes with the pieces, and a forward of few has a fixed cost like that of so many more
    (`python -m benchmarks.serving`); a GPU takes padding along for nothing.
    """
    return CPU_SLACK if device.type == "cpu" else math.inf
