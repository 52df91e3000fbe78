"""A sweep's trials, read back from trials.jsonl, which is written while they run. No Ray.

Tables, best settings and plots come from this file alone. Ray Tune's own state is only for resuming.

trials.jsonl         what became of every trial: TrialStart, TrialMeasurement and TrialEnd events, one a line
trials/ID/           a run each
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metacross.config import Config
from metacross.event_files import read_events
from metacross.events import TrialEnd, TrialMeasurement, TrialStart
from metacross.sweeps.space import Space

METRIC = "score"  # what trials are compared by: Measurement.score, under the name that Ray Tune has it
TRIALS_FILE = "trials.jsonl"


@dataclass(frozen=True)
class Trial:
    """How one trial ended.

    Attributes:
        id: Ray Tune's; the trial's run is `trials/id`.
        chosen: the searched settings.
        history: its measurements, by step.
        state: finished, stopped (by the scheduler), failed, or unfinished (the sweep was interrupted).
        error: what went wrong, "" where nothing did.
    """

    id: str
    chosen: dict[str, Any]
    history: list[TrialMeasurement]
    state: str
    error: str

    @property
    def best(self) -> float:
        """Its best dev F1 in percent; negative where nothing was measured."""
        return max((measured.score for measured in self.history), default=-1.0)


@dataclass(frozen=True)
class Sweep:
    """A sweep that has ended, or was interrupted.

    Attributes:
        directory: where it was written.
        config: the configuration that all trials started from.
        space: the search space.
        trials: all trials that were started, best first.
    """

    directory: Path
    config: Config
    space: Space
    trials: list[Trial]

    @property
    def interrupted(self) -> bool:
        """Whether trials are left to be run; `tune` with resume=True goes on."""
        # A trial that Tune forgot when its driver died stays unfinished for ever; another one has run instead of it.
        return sum(trial.state != "unfinished" for trial in self.trials) < self.space.trials


def read_trials(directory: Path, steps: int) -> list[Trial]:
    """A sweep's trials so far, best first.

    Args:
        directory: the sweep's.
        steps: meta-steps of a trial that runs to its end.
    """
    chosen: dict[str, dict[str, Any]] = {}
    histories: dict[str, dict[int, TrialMeasurement]] = {}  # trial -> step -> measurement
    ends: dict[str, TrialEnd] = {}
    for event in read_events(directory / TRIALS_FILE):
        match event:
            case TrialStart():  # comes again when the trial is resumed
                chosen[event.id] = event.chosen
                ends.pop(event.id, None)
            case TrialMeasurement():
                histories.setdefault(event.id, {})[event.step] = event
            case TrialEnd():
                ends[event.id] = event
    trials = []
    for trial_id, settings in chosen.items():
        history = [measured for _, measured in sorted(histories.get(trial_id, {}).items())]
        end = ends.get(trial_id)
        state = end.state if end else "unfinished"
        if state == "ended":
            state = "finished" if history and history[-1].step >= steps else "stopped"
        trials.append(Trial(trial_id, settings, history, state, end.error if end else ""))
    return sorted(trials, key=lambda trial: -trial.best)
