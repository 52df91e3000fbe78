"""The same configuration trained with several seeds (train.seeds), one run after another.

ray_config.yaml      the configuration with all seeds
seed-95, seed-495    a run each, as driver.py describes it, with one seed; it can be resumed and used by itself
bundle               the average of their bundles, once all of them are done
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from metacross.config import Config
from metacross.config_loading import FILE_NAME
from metacross.errors import UserError
from metacross.events import Note, Show, ignore
from metacross.ray_training import driver
from metacross.ray_training.directory import Run, refuse_changes, refuse_used
from metacross.storage import addresses
from metacross.training.bundle_average import average_bundles
from metacross.training.seeds import seeds_of


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ in nothing but their seeds.

    Attributes:
        run_dir: the directory or address that all of them are in.
        results: how the runs ended, in the order of the seeds; after one that was stopped there are no others.
        averaged: where the average of their bundles is; None where one was stopped.
        averaged_f1: its F1 on development data, in percent.
    """

    run_dir: Path | str
    results: list[driver.TrainResult]
    averaged: Path | str | None = None
    averaged_f1: float = math.nan

    @property
    def stopped(self) -> bool:
        """Whether someone stopped them before the end of the last one."""
        return self.results[-1].stopped

    def summary(self) -> str:
        """The scores of finished runs, and the command that makes all of their bundles teachers."""
        scores = [result.best for result in self.results]
        each = ", ".join(f"{score:.2f}" for score in scores)
        teachers = " ".join(f"--teacher {result.bundle}" for result in self.results)
        return (
            f"dev F1 {mean(scores):.2f} ± {stdev(scores):.2f}, mean and standard deviation over {len(scores)} seeds "
            f"({each})\n"
            f"dev F1 {self.averaged_f1:.2f} of the average of their weights, {self.averaged}\n"
            f"to adopt languages with all of them as teachers: metacross adopt {self.averaged} --text LANGUAGE=FILE "
            f"{teachers}"
        )


def train_seeds(
    config: Config,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    auto_resume: bool = False,
    show: Show = ignore,
) -> SeedRuns:
    """Trains with every seed of a configuration.

    Runs that are done are not trained again, and one that was begun goes on.

    Args:
        config: the configuration; for runs that are resumed, what `driver.resume_config` returns.
        run_dir: where to write the runs, a directory or an address; train.storage_path/train.name by default.
        resume: go on with the runs in `run_dir`.
        auto_resume: go on with runs of this configuration where there are some, else start them.
        show: gets the events of all runs.

    Raises:
        UserError, RunError, KeyboardInterrupt: as `driver.train`.
    """
    if config.data.unlabelled:
        raise UserError(
            f"data.unlabelled: nothing is adopted after training with train.seeds={config.train.seeds}. Leave it out; "
            "at its end the training shows the metacross adopt command that has all bundles as teachers."
        )
    location = driver.location_of(config, run_dir)
    auto_resume = auto_resume or driver.resumes_by_itself(config, run_dir)
    configs = [_with_one_seed(config, seed) for seed in seeds_of(config.train)]
    with addresses.working_copy(location) as (local, mirror):
        together = Run(location, local, mirror)
        together.fetch_settings()
        if resume or (auto_resume and together.has(FILE_NAME)):
            refuse_changes(together, config)
            for one in configs:
                _refuse_changes_of_one(together.below(one.train.name), one)
        else:
            refuse_used(together)
        _write_settings(together, config)
        results: list[driver.TrainResult] = []
        for number, one in enumerate(configs, 1):
            show(Note(f"seed {one.train.seed} ({number} of {len(configs)})"))
            results.append(driver.train(one, run_dir=together.below(one.train.name), auto_resume=True, show=show))
            if results[-1].stopped:
                return SeedRuns(location, results)
        show(Note("averaging the weights of all seeds"))
        averaged = average_bundles([str(result.bundle) for result in results], local / "bundle", show=show)
        if mirror:
            mirror.push("bundle")
    return SeedRuns(location, results, together.below("bundle"), averaged.dev_f1)


def _refuse_changes_of_one(location: Path | str, config: Config) -> None:
    """Raises UserError where one of the runs has begun and cannot go on with its configuration."""
    with addresses.working_copy(location) as (local, mirror):
        run = Run(location, local, mirror)
        run.fetch_settings()
        if run.has(FILE_NAME):
            refuse_changes(run, config)


def _write_settings(runs: Run, config: Config) -> None:
    """Writes the configuration of all runs; raises UserError where that cannot be done."""
    try:
        runs.local.mkdir(parents=True, exist_ok=True)
        runs.write(FILE_NAME, config.to_yaml())
    except OSError as error:
        raise UserError(
            f"{runs.location}: cannot be written ({error.strerror or error}). Choose another train.storage_path."
        ) from error


def _with_one_seed(config: Config, seed: int) -> Config:
    """The configuration of the run with a seed."""
    train = config.train.model_copy(update={"seed": seed, "seeds": 1, "name": f"seed-{seed}"})
    return config.model_copy(update={"train": train})
