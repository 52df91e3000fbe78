"""A sweep's trials, read back from what was written while they ran. No Ray."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metacross.config import Config
from metacross.sweeps.space import Space

METRIC = "score"  # what trials are compared by: evaluation.score_of


@dataclass(frozen=True)
class Trial:
    """How one trial ended.

    Attributes:
        id: Ray Tune's; the trial's run is `trials/id`.
        chosen: the searched settings.
        history: its measurements, {"step", "score", "plain", ...}.
        state: finished, stopped (by the scheduler), failed, or unfinished (the sweep was interrupted).
        error: the first line of what went wrong, "" where nothing did.
    """

    id: str
    chosen: dict[str, Any]
    history: list[dict[str, float]]
    state: str
    error: str

    @property
    def best(self) -> float:
        """Its best dev F1 in percent; negative where nothing was measured."""
        return max((measured[METRIC] for measured in self.history), default=-1.0)


@dataclass(frozen=True)
class Sweep:
    """A sweep that has ended, or was interrupted."""

    directory: Path
    config: Config
    space: Space
    trials: list[Trial]  # best first

    @property
    def interrupted(self) -> bool:
        """Whether trials are left to be run; `tune` with resume=True goes on."""
        # One that its driver's death made Tune forget stays unfinished for ever; another has run in its place.
        return sum(trial.state != "unfinished" for trial in self.trials) < self.space.trials


def read_trials(directory: Path, steps: int) -> list[Trial]:
    """A sweep's trials so far, best first.

    Args:
        directory: the sweep's.
        steps: of a trial that ran to its end.
    """
    trials: dict[str, dict[str, Any]] = {}
    for line in (directory / "trials.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        trial = trials.setdefault(event["id"], {"chosen": event.get("chosen"), "history": {}, "end": "", "error": ""})
        match event["event"]:
            case "trial":
                trial["end"] = ""
            case "measured":
                trial["history"][event["step"]] = {k: event[k] for k in event.keys() - {"event", "id"}}
            case "ended":
                trial["end"], trial["error"] = event["state"], event["error"]
    out = []
    for name, trial in trials.items():
        history = [trial["history"][step] for step in sorted(trial["history"])]
        state = trial["end"] or "unfinished"
        if state == "ended":
            state = "finished" if history and history[-1]["step"] >= steps else "stopped"
        out.append(Trial(name, trial["chosen"], history, state, trial["error"]))
    return sorted(out, key=lambda trial: -trial.best)
