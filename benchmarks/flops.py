"""How much arithmetic: what the exact method needs at least, what an implementation did, what the machine can do.

Counted are matrix products, attention's included; one multiply-add is 2 FLOP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.inputs import MetaBatch

Result = TypeVar("Result")
GEMM = (512, 768, 3072)  # pieces, inputs, outputs: BERT-base's first feed-forward layer on 16 sentences


@dataclass(frozen=True)
class Sizes:
    """What the count depends on: H, the feed-forward size, layers in all and frozen, tags.

    `inner` is the number of layers that inner steps change; None: of all that are not frozen.
    """

    hidden: int
    feed_forward: int
    layers: int
    frozen: int
    tags: int
    inner: int | None = None

    @classmethod
    def of(cls, config: Any, frozen: int) -> Sizes:
        """Those of a BERT configuration."""
        return cls(config.hidden_size, config.intermediate_size, config.num_hidden_layers, frozen, config.num_labels)


def exact_flops(batch: MetaBatch, sizes: Sizes, *, steps: int, trunk_kept: bool = False) -> float:
    """FLOP of the exact first-order meta-gradient by factors, without padding.

    The trunk runs forward once per sentence (never, if its states are kept). An inner step is a forward and a backward
    for the gradients at layer outputs: the weights' own gradients are not needed, nor those at the trunk's states. The
    query needs forward and full backward. Each earlier step adds two thin products per layer, both ways; query, key
    and value layers share the first of them. Below the layers that inner steps change, support sentences need no
    backward, and the query's needs no thin products.
    """
    h, f, adapted = sizes.hidden, sizes.feed_forward, sizes.layers - sizes.frozen
    inner = adapted if sizes.inner is None else sizes.inner

    def dense(pieces: int) -> float:  # one layer's linear parts
        return pieces * (8 * h * h + 4 * h * f)

    def attention(pieces: int) -> float:  # of one sentence in one layer
        return 4 * pieces**2 * h

    def first_inputs(pieces: int) -> float:  # of query, key and value in the lowest adapted layer
        return pieces * 6 * h * h

    def thin(pieces: int, support: int, ends: bool) -> float:  # one step's factors, forward and backward
        per_layer = 2 * pieces * support * (8 * h + 2 * f)
        # Where the backward ends at the lowest of their layers, nothing goes back from query, key and value there.
        lowest = 2 * pieces * support * 4 * h if ends else 0
        return 2 * inner * per_layer - lowest + 2 * 2 * pieces * support * (h + sizes.tags)

    total = 0.0
    for sentences, query in zip(batch.support_EK, batch.query_E, strict=True):
        lengths, n, q = [len(x) for x in sentences], sum(len(x) for x in sentences), len(query)
        if not trunk_kept:
            total += sizes.frozen * (dense(n + q) + sum(attention(t) for t in [*lengths, q]))
        for step in range(steps):
            total += (adapted + inner) * dense(n) + (adapted + 2 * inner) * sum(map(attention, lengths))
            total += 2 * 2 * n * h * sizes.tags - first_inputs(n) + step * thin(n, n, ends=True)
        total += adapted * (3 * dense(q) + 3 * attention(q))
        total += 3 * 2 * q * h * sizes.tags - first_inputs(q) + steps * thin(q, n, ends=inner == adapted)
    return total


def counted(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and the FLOP it took."""
    attention: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    counter = FlopCounterMode(display=False, custom_mapping=attention)
    with counter:
        result = work()
    return result, float(counter.get_total_flops())


def gemm_rate(dtype: torch.dtype, *, seconds: float = 0.1) -> float:
    """FLOP/s of plain matrix products of a typical shape, the median of those that fit into `seconds`."""
    rows, inputs, outputs = GEMM
    x, w = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    with torch.no_grad():
        torch.nn.functional.linear(x, w)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            torch.nn.functional.linear(x, w)
            times.append(time.perf_counter() - start)
    return 2.0 * rows * inputs * outputs / sorted(times)[len(times) // 2]


def _attention(q: Any, k: Any, *args: Any, **kwargs: Any) -> int:
    rows, heads, queries, size = q
    return int(4 * rows * heads * queries * k[2] * size)


def _attention_backward(grad: Any, q: Any, k: Any, *args: Any, **kwargs: Any) -> int:
    # Five products to the forward's two: the fused backward computes the scores again.
    return _attention(q, k) * 5 // 2
