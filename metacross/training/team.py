"""The workers of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Team:
    """The workers of a run. Alone by default."""

    rank: int = 0
    size: int = 1
    all_reduce: Callable[[Tensor], None] = lambda flat: None  # sums in place over all workers
    gather: Callable[[Any], list[Any]] = lambda part: [part]  # every worker's part, by rank
