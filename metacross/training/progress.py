"""How far a run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metacross.events import Measurement, from_fields, to_fields


@dataclass
class Progress:
    """How far a run has come; with theta and the optimizer's state, all that a checkpoint holds.

    Attributes:
        step: meta-steps done.
        best: the highest score of a measurement, F1 in percent; negative before the first.
        history: every measurement, in order.
        score_temperature: of the best measurement; see `metacross.tagging.calibration`.
    """

    step: int = 0
    best: float = -1.0
    history: list[Measurement] = field(default_factory=list)
    score_temperature: float = 1.0

    def copy(self) -> Progress:
        """The progress as it is now, which later steps do not change."""
        return replace(self, history=list(self.history))

    def to_json(self) -> dict[str, Any]:
        """The progress as checkpoints hold it.

        >>> Progress(300, 81.25, [Measurement(step=300, plain=81.25)]).to_json()
        {'step': 300, 'best': 81.25, 'history': [{'step': 300, 'plain': 81.25}], 'score_temperature': 1.0}
        """
        return {**vars(self), "history": [to_fields(measured) for measured in self.history]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Progress:
        """The progress that `to_json` wrote; other keys are passed over. Earlier versions wrote no temperature."""
        history = [from_fields(Measurement, measured) for measured in content["history"]]
        return cls(content["step"], content["best"], history, content.get("score_temperature", 1.0))
