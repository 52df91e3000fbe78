"""What a worker needs to know of the others that train with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Team:
    """The workers that train together, as one of them sees them. By default that one is alone.

    Attributes:
        rank: this worker's number, from 0; rank 0 writes files and reports events.
        size: the number of workers.
        all_reduce: sums a tensor over all workers, in place; every worker has to call it.
        gather: returns every worker's argument, by rank; every worker has to call it.
    """

    rank: int = 0
    size: int = 1
    all_reduce: Callable[[Tensor], None] = lambda flat: None
    gather: Callable[[Any], list[Any]] = lambda part: [part]
