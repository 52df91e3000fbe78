"""Search spaces: what a sweep varies, how, and what all its trials share. A YAML file, read strictly.

    trials: 16                            # settings that are tried
    searcher: optuna                      # optuna (TPE, learns from the trials before) or random
    scheduler: asha                       # asha (bad trials are stopped early) or none
    reduction: 3                          # asha: one trial in this many goes on beyond each rung
    seed: 95                              # of the searcher
    resources: {cpus: 1, gpus: 1}         # of a worker; gpus where there are any: 0.5 lets two share one, 0 means never
    fixed: {train.steps: 600}             # settings of all trials, over those of the configuration
    space:                                # dotted settings, each with a distribution
      inner.lr: {loguniform: [0.01, 0.3]}

Distributions: uniform, loguniform [low, high]; quniform, qloguniform [low, high, step]; randint [low, high] (high left
out); choice [one, two, ...]. Every key, and every distribution's ends, are checked against the configuration before the
first trial starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metacross.config import Config
from metacross.config_loading import COMMAND_LINE, load_config
from metacross.errors import UserError
from metacross.yaml_nodes import read_yaml

NUMBERS = {"uniform": 2, "loguniform": 2, "quniform": 3, "qloguniform": 3, "randint": 2}  # numbers that each takes
KINDS = (*NUMBERS, "choice")


class Resources(BaseModel):
    """What one Ray Train worker of a trial reserves.

    Attributes:
        cpus: CPUs, and torch's threads.
        gpus: GPUs where the cluster has any; 0.5 lets two workers share one, 0 keeps them off GPUs.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    cpus: Annotated[float, Field(gt=0)]
    gpus: Annotated[float, Field(ge=0)]


class Space(BaseModel):
    """A search space as its file has it; see the top of this module. Not yet checked against a configuration.

    Attributes:
        trials: how many settings are tried.
        searcher: what proposes the settings.
        scheduler: what stops bad trials early.
        reduction: asha: one trial in this many goes on beyond each rung.
        seed: the searcher's.
        resources: what each worker reserves.
        fixed: settings of all trials, by dotted name.
        space: a distribution for every searched setting, by dotted name.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    trials: Annotated[int, Field(ge=1)]
    searcher: Literal["optuna", "random"]
    scheduler: Literal["asha", "none"]
    reduction: Annotated[int, Field(ge=2)]
    seed: Annotated[int, Field(ge=0)]
    resources: Resources
    fixed: dict[str, Any]
    space: Annotated[dict[str, Any], Field(min_length=1)]


def load_space(path: Path, base: Config) -> Space:
    """Reads a search space, and checks that a configuration allows the lowest and highest value of every distribution.

    Args:
        path: the YAML file.
        base: the configuration that all trials start from.

    Raises:
        UserError: the file cannot be read, a key is unknown or given twice, a distribution is malformed, or one of its
            values is not allowed for the key it varies.
    """
    try:
        space = Space.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            name = ".".join(map(str, detail["loc"])) or "the file"
            lines.append(f"{path}: {name}: {detail['msg'].lower()} (found {json.dumps(detail['input'], default=str)})")
        raise UserError("\n".join(lines)) from None
    both = space.fixed.keys() & space.space.keys()
    if both:
        raise UserError(f"{path}: {', '.join(sorted(both))} is fixed and searched at once. Remove one.")
    for key, distribution in space.space.items():
        for value in _ends(path, key, distribution):
            trial_config(base, space, {key: value}, place=str(path))
    return space


def trial_config(base: Config, space: Space, chosen: Mapping[str, Any], *, place: str = "trial") -> Config:
    """The configuration of a trial: the base, with the space's fixed settings and those chosen for the trial.

    Args:
        base: the configuration that all trials start from.
        space: the search space.
        chosen: the trial's searched settings, by dotted name.
        place: begins the message of an error: a file or what else the settings come from.

    Raises:
        UserError: a key is unknown, or a value is not allowed; begins with `place`.
    """
    return changed_config(base, {**space.fixed, **chosen}, place=place, source="search space")


def changed_config(base: Config, settings: Mapping[str, Any], *, place: str, source: str) -> Config:
    """A configuration with some of its settings changed.

    Args:
        base: the configuration.
        settings: by dotted name.
        place: begins the message of an error.
        source: what the settings come from, for messages.

    Raises:
        UserError: a key is unknown, or a value is not allowed.
    """
    try:
        return load_config(None, overrides(settings), base=base)
    except UserError as error:
        raise UserError(f"{place}: {str(error).replace(f'({COMMAND_LINE})', f'({source})')}") from None


def overrides(settings: Mapping[str, Any]) -> list[str]:
    """Dotted settings as `load_config` takes them.

    >>> overrides({"inner.lr": 0.1, "train.name": "first", "data.tag_map": {"OTH": "O"}})
    ['inner.lr=0.1', 'train.name=first', 'data.tag_map={"OTH": "O"}']
    """
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def sections(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted settings as the sections of a configuration file.

    >>> sections({"inner.lr": 0.1, "inner.steps": 2, "train.lr": 1e-4})
    {'inner': {'lr': 0.1, 'steps': 2}, 'train': {'lr': 0.0001}}
    """
    out: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, key = name.split(".")
        out.setdefault(section, {})[key] = value
    return out


def _ends(path: Path, key: str, distribution: Any) -> Sequence[Any]:
    """The lowest and the highest value that a distribution draws; for a choice all values."""
    if not isinstance(distribution, dict) or len(distribution) != 1 or next(iter(distribution)) not in KINDS:
        raise UserError(
            f"{path}: {key} is {json.dumps(distribution, default=str)}; expected a distribution such as "
            f"{{loguniform: [0.01, 0.3]}}, one of {', '.join(KINDS)}."
        )
    ((kind, values),) = distribution.items()
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: {key}: choice needs a list of values, such as [1, 2].")
        return values
    count = NUMBERS[kind]
    numbers = (int,) if kind == "randint" else (int, float)
    good = isinstance(values, list) and len(values) == count and all(type(v) in numbers for v in values)
    if not good or not values[0] < values[1] or ("log" in kind and values[0] <= 0) or (count == 3 and values[2] <= 0):
        form = ["low", "high", "step"][:count]
        rules = ", above 0" if "log" in kind else ""
        raise UserError(
            f"{path}: {key}: {kind} needs [{', '.join(form)}], low below high{rules}"
            f"{', whole numbers' if kind == 'randint' else ''}; found {json.dumps(values, default=str)}."
        )
    return [values[0], values[1] - 1 if kind == "randint" else values[1]]
