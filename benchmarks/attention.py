"""Milliseconds of attention, forward and backward, on this CPU: torch's fused kernel and ours.

    python -m benchmarks.attention

The ways run in turn within a repeat; what is printed are medians over the repeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from metacross.encoder.attention import written_out_attention

HEADS, SIZE = 12, 32  # of the embedded encoder
SHAPES = ((64, 16), (64, 32), (32, 64), (8, 128))  # rows, word pieces: about 2048 pieces, as in training
REPEATS = 15

Way = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Torch's kernel for the CPU."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Ours."""
    return written_out_attention(query, key, value, mask, SIZE**-0.5)


def milliseconds(way: Way, dtype: torch.dtype, rows: int, pieces: int) -> float:
    """One forward and backward."""
    query, key, value = (
        torch.randn(rows, pieces, HEADS, SIZE, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)
    )
    mask = torch.ones(rows, 1, pieces, pieces, dtype=torch.bool)
    start = time.perf_counter()
    torch.autograd.grad(way(query, key, value, mask).sum(), [query, key, value])
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Prints the table."""
    torch.manual_seed(0)
    ways: list[tuple[str, Way, torch.dtype]] = [
        ("fused, fp32", fused, torch.float32),
        ("written out, fp32", written_out, torch.float32),
        ("fused, bf16", fused, torch.bfloat16),
        ("written out, bf16", written_out, torch.bfloat16),
    ]
    table = Table("rows x pieces", *(name for name, _, _ in ways), title=f"ms, {torch.get_num_threads()} threads")
    for rows, pieces in SHAPES:
        found: dict[str, list[float]] = {name: [] for name, _, _ in ways}
        for repeat in range(REPEATS + 1):
            for name, way, dtype in ways:
                taken = milliseconds(way, dtype, rows, pieces)
                if repeat:  # the first is a warm-up
                    found[name].append(taken)
        table.add_row(f"{rows} x {pieces}", *(f"{median(found[name]):.1f}" for name, _, _ in ways))
    Console().print(table)


if __name__ == "__main__":
    main()
