"""How many times as much one way takes as another, in pairs that were measured beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles


def ratio(some: Sequence[float], base: Sequence[float]) -> str:
    """The median of the pairs' ratios, with quartiles."""
    ratios = [a / b for a, b in zip(some, base, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return f"{median(ratios):.2f} [{low:.2f}-{high:.2f}]"
