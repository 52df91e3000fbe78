"""Ray Tune as a sweep sets it up: searcher, scheduler, search space, and a callback that keeps a record of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.optuna import OptunaSearch

from metacross.config import Config, TrainConfig
from metacross.errors import UserError, first_line
from metacross.event_files import to_line
from metacross.events import Event, TrialEnd, TrialMeasurement, TrialStart, from_fields
from metacross.ray_internals import TUNE_STATE
from metacross.sweeps.space import Space, trial_config
from metacross.sweeps.trial import ERROR_FILE, TrialRunner, drop_checkpoints, trial_directory
from metacross.sweeps.trials import METRIC, TRIALS_FILE

NAME = "sweep"  # of Ray Tune's experiment: the directory below tune/ that its state is in
# A trial's driver only waits for its workers, and a share of a processor for it would keep a worker out. Tune does not
# accept that a trial takes nothing, so it takes a megabyte of a node's memory.
DRIVER_RESOURCES = {"CPU": 0.0, "memory": 1e6}


def new_tuner(config: Config, space: Space, directory: Path, *, at_once: int) -> ray.tune.Tuner:
    """A tuner for a sweep's first start.

    Args:
        config: the configuration that all trials start from.
        space: the search space.
        directory: the sweep's.
        at_once: how many trials there is room for.
    """
    searcher: Searcher | BasicVariantGenerator = BasicVariantGenerator(random_state=space.seed)
    if space.searcher == "optuna":
        searcher = OptunaSearch(seed=space.seed)
    return ray.tune.Tuner(
        _trainable(config, space, directory),
        param_space={key: _domain(distribution) for key, distribution in space.space.items()},
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=searcher,
            scheduler=_scheduler(trial_config(config, space, {}).train, space),
            num_samples=space.trials,
            max_concurrent_trials=min(at_once, space.trials),
        ),
        run_config=ray.tune.RunConfig(
            name=NAME, storage_path=str(directory / "tune"), callbacks=[_TrialLog(directory)], verbose=0
        ),
    )


def restored_tuner(config: Config, space: Space, directory: Path) -> ray.tune.Tuner:
    """A tuner that goes on with the sweep in `directory`.

    Raises:
        UserError: the sweep was interrupted before Ray Tune had written its state, or another version of metacross
            began it.
    """
    state = str(directory / "tune" / NAME)
    if not ray.tune.Tuner.can_restore(state):
        raise UserError(f"{directory}: the sweep was interrupted before its first trial. Start it anew.")
    try:
        return ray.tune.Tuner.restore(state, _trainable(config, space, directory), resume_unfinished=True)
    except (ImportError, AttributeError) as error:
        # Ray Tune pickles the trainable and our callback by the names of their modules.
        raise UserError(
            f"{directory}: another version of metacross began this sweep ({first_line(error)}), and its unfinished "
            "trials cannot go on with this one. The finished trials stay below trials/. Start a new sweep: "
            "another --name."
        ) from error


def has_state(directory: Path) -> bool:
    """Whether Ray Tune has begun the sweep in `directory`, so that it can go on with it."""
    return any((directory / "tune" / NAME).glob(TUNE_STATE))


def first_rung(train: TrainConfig) -> int:
    """The step of the first measurement that trials may be stopped after: the first one past the plain steps.

    Before it the searched settings have hardly been at work: the inner step has only been measured, never trained for.
    """
    plain = 0 if train.plain_steps >= train.steps else train.plain_steps
    return min((plain // train.eval_every + 1) * train.eval_every, train.steps)


def _trainable(config: Config, space: Space, directory: Path) -> Any:
    return ray.tune.with_resources(TrialRunner(config, space, directory, Path.cwd()).run, DRIVER_RESOURCES)


def _scheduler(train: TrainConfig, space: Space) -> TrialScheduler:
    if space.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return ASHAScheduler(
        time_attr="step",
        max_t=train.steps,
        grace_period=first_rung(train),
        reduction_factor=space.reduction,
    )


def _domain(distribution: dict[str, list[Any]]) -> Any:
    """A distribution of the search space in Ray Tune's words."""
    ((kind, values),) = distribution.items()
    return ray.tune.choice(values) if kind == "choice" else getattr(ray.tune, kind)(*values)


class _TrialLog(ray.tune.Callback):
    """Writes what becomes of every trial into trials.jsonl, at once: that file, not Tune's state, is what we read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._write(TrialStart(trial.trial_id, trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if METRIC in result:  # Tune has results of its own besides
            self._write(from_fields(TrialMeasurement, {**result, "id": trial.trial_id}))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._write(TrialEnd(trial.trial_id, state="ended", error=""))
        drop_checkpoints(self._directory, trial.trial_id)  # one that was stopped may still be writing: see `tune`

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        file = trial_directory(self._directory, trial.trial_id) / ERROR_FILE
        message = file.read_text(encoding="utf-8") if file.exists() else "its process died"
        self._write(TrialEnd(trial.trial_id, state="failed", error=message))

    def _write(self, event: Event) -> None:
        with (self._directory / TRIALS_FILE).open("a", encoding="utf-8") as file:
            file.write(to_line(event))
