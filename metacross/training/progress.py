"""How far a run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metacross.events import Measurement, from_fields, to_fields


@dataclass
class Progress:
    """How far a run has come; with theta and the optimizer's state, all that a checkpoint holds.

    Attributes:
        step: meta-steps done.
        best: the highest score of a measurement, F1 in percent; negative before the first.
        history: every measurement, in order.
    """

    step: int = 0
    best: float = -1.0
    history: list[Measurement] = field(default_factory=list)

    def copy(self) -> Progress:
        """The progress as it is now, which later steps do not change."""
        return Progress(self.step, self.best, list(self.history))

    def to_json(self) -> dict[str, Any]:
        """The progress as checkpoints hold it.

        >>> Progress(300, 81.25, [Measurement(step=300, plain=81.25)]).to_json()
        {'step': 300, 'best': 81.25, 'history': [{'step': 300, 'plain': 81.25}]}
        """
        return {"step": self.step, "best": self.best, "history": [to_fields(measured) for measured in self.history]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Progress:
        """The progress that `to_json` wrote; other keys are passed over."""
        history = [from_fields(Measurement, measured) for measured in content["history"]]
        return cls(content["step"], content["best"], history)
