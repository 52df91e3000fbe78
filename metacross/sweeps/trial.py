"""What runs inside a trial: a training run, whose measurements go to Ray Tune."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune

from metacross.config import Config
from metacross.events import Event, Measurement, to_fields
from metacross.ray_training import driver
from metacross.sweeps.space import Space, trial_config
from metacross.sweeps.trials import METRIC
from metacross.training import checkpoint
from metacross.training.progress import Progress

ERROR_FILE = "failed.txt"  # in a trial's directory: why it failed, for people


@dataclass(frozen=True)
class TrialRunner:
    """What all trials of a sweep have in common. Ray Tune calls `run` for each of them, in a process of its own.

    Attributes:
        config: the configuration that all trials start from.
        space: the search space.
        directory: the sweep's directory.
        working_directory: the driver's; relative paths of corpora start there.
    """

    config: Config
    space: Space
    directory: Path
    working_directory: Path

    def run(self, chosen: dict[str, Any]) -> None:
        """Trains with the chosen settings; goes on where an earlier attempt at the same trial stopped."""
        if self.working_directory.is_dir():
            os.chdir(self.working_directory)  # Tune has gone to a directory of its own
        config = trial_config(self.config, self.space, chosen)
        run_dir = trial_directory(self.directory, ray.tune.get_context().get_trial_id())
        resume = bool(checkpoint.paths(run_dir))
        if not resume:
            shutil.rmtree(run_dir, ignore_errors=True)  # one that was interrupted before its first checkpoint
        # The last measurements may have come after Tune had stopped listening; those it knows are not counted twice.
        for measured in (checkpoint.latest_progress(run_dir) or Progress()).history:
            _report_to_tune(measured)
        try:
            driver.train(
                config,
                run_dir=run_dir,
                resume=resume,
                show=_report_to_tune,
                cpus_per_worker=self.space.resources.cpus,
                gpus_per_worker=self.space.resources.gpus,
            )
        except Exception as error:
            # Tune keeps a traceback of its own; this is for people, and the sweep's driver reads it.
            (run_dir / ERROR_FILE).write_text(str(error) or type(error).__name__, encoding="utf-8")
            raise


def _report_to_tune(event: Event) -> None:
    """Passes a run's measurements on to Tune, which may stop the trial there."""
    if isinstance(event, Measurement):
        ray.tune.report({**to_fields(event), METRIC: event.score})


def trial_directory(directory: Path, trial_id: str) -> Path:
    """The directory of a trial's run, in a sweep's directory."""
    return directory / "trials" / trial_id


def drop_checkpoints(directory: Path, trial_id: str) -> None:
    """Removes a trial's checkpoints: a trial that has ended needs none, and they are most of what it takes on disk."""
    shutil.rmtree(trial_directory(directory, trial_id) / checkpoint.FOLDER, ignore_errors=True)
