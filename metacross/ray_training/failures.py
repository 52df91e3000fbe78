"""Why an attempt failed: what the workers raised, whether another attempt may help, and what the user gets to see."""

from __future__ import annotations

from typing import NoReturn

import ray.train
import torch

from metacross.errors import RunError, UserError, first_line
from metacross.ray_training.directory import Run

# A fault of the program, or too large a model, shows in one of these, and would show again.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
    torch.OutOfMemoryError,
)


def causes(error: BaseException) -> list[BaseException]:
    """What workers raised, by rank; where none did, what Ray raised."""
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    return [failures[rank] for rank in sorted(failures)] or [error]


def worth_another_attempt(error: BaseException) -> bool:
    """Whether an attempt may have failed by its machines alone.

    A worker that died shows as an error of Ray's, and the others lose their connections, which are RuntimeErrors.
    """
    return not any(isinstance(cause, (UserError, RunError, *FAULTS)) for cause in causes(error))


def raise_cause(run: Run, error: BaseException) -> NoReturn:
    """Raises what a worker raised, without Ray's wrapping.

    Raises:
        UserError: where a worker raised one.
        RunError: otherwise; what is not our own error is written to error.log.
    """
    raised = causes(error)
    # A UserError on one worker makes others fail too, by lost connections: it is the cause.
    for kind in (UserError, RunError):
        for cause in raised:
            if isinstance(cause, kind):
                raise cause
    run.write("error.log", str(error))
    hint = f" What was done before is kept: go on with --resume {run.location}" if run.newest() else ""
    raise RunError(
        f"a worker failed: {type(raised[0]).__name__}: {first_line(raised[0])} (all of it: {run.below('error.log')})."
        f"{hint}"
    ) from error
