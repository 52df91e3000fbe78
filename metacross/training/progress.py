"""Where a run stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
from dataclasses import dataclass, field


def score_of(found: Mapping[str, float]) -> float:
    """The figure of a measurement by which bundles and trials are chosen: target languages' if there are any.

    >>> score_of({"step": 300, "plain": 81.0, "adapted": 82.0, "target_plain": 70.0, "target_adapted": 71.0})
    71.0
    """
    return next(found[key] for key in ("target_adapted", "target_plain", "adapted", "plain") if key in found)


@dataclass
class Progress:
    """Where a run stands; with theta and the optimizer, all a checkpoint holds."""

    step: int = 0
    best: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)
