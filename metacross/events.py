"""What happens in a run, as events."""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]


FIGURES: dict[str, dict[str, tuple[str, ...]]] = {
    "step": {"train": ("loss", "learning_rate"), "speed": ("pieces_per_second", "steps_per_second", "seconds_left")},
    "eval": {"dev_f1": ("plain", "adapted", "target_plain", "target_adapted")},
}


def metrics(event: Event) -> dict[str, float]:
    """The figures of an event by their names in TensorBoard and MLflow; most kinds of events have none.

    >>> metrics({"event": "eval", "step": 300, "plain": 81.25, "adapted": 83.5})
    {'dev_f1/plain': 81.25, 'dev_f1/adapted': 83.5}
    """
    groups = FIGURES.get(event["event"], {})
    return {f"{group}/{key}": float(event[key]) for group, keys in groups.items() for key in keys if key in event}
