"""Attempts at a run: Ray Train workers are started, watched, and started again where machines were lost.

A worker or a node that is lost ends an attempt; the next one goes on from the newest checkpoint. That is done here and
not by Ray, whose own retries leave out a node lost while workers start, and would repeat the user's mistakes.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

import ray.train
import ray.train.torch

from metacross.config import TrainConfig
from metacross.errors import RunError, first_line
from metacross.event_files import EventTail
from metacross.events import Note, Show
from metacross.ray_training.directory import Run
from metacross.ray_training.failures import causes, raise_cause, worth_another_attempt
from metacross.ray_training.process_group import process_group_config
from metacross.ray_training.signals import stop_on_signal
from metacross.ray_training.worker import Assignment, work
from metacross.training.event_log import Stopped
from metacross.training.loop import Outcome
from metacross.training.progress import Progress

POLL_SECONDS = 0.2  # between two looks of the driver at progress.jsonl
COLLECTIVE_SECONDS = 900  # how long a worker waits for the others, who may still be encoding or writing a bundle
RESIZE_SECONDS = 60.0  # between two looks whether there is room for more workers
PATIENCE_SECONDS = 60.0  # without an event from the workers, before the driver says what it waits for


def attempt_until_done(run: Run, assignment: Assignment, resources: Mapping[str, float], show: Show) -> Outcome:
    """Makes attempts until one comes to its end; returns what `loop.run` returned on rank 0.

    Attempts that failed one after another without a new checkpoint are counted, up to train.max_failures.

    Args:
        run: the run.
        assignment: what every worker gets.
        resources: what Ray reserves for every worker.
        show: gets all events.

    Raises:
        UserError, RunError: what a worker raised, or that too many attempts failed.
    """
    max_failures = assignment.config.train.max_failures
    failures = 0
    with stop_on_signal(run.local) as notes, run.followed():
        while True:
            before = run.newest()
            outcome = _attempt(run, assignment, resources, show, notes)
            if not isinstance(outcome, BaseException):
                break
            error = outcome
            if any(isinstance(cause, Stopped) for cause in causes(error)):
                return Outcome(run.progress() or Progress(), stopped=True)
            failures = 1 if run.newest() > before else failures + 1
            if not worth_another_attempt(error) or failures > max_failures or (run.local / "STOP").exists():
                raise_cause(run, error)
            cause = causes(error)[0]
            show(
                Note(
                    f"lost workers: {first_line(cause)} ({type(cause).__name__}); going on from step {run.newest()}, "
                    f"try {failures} of {max_failures}"
                )
            )
    if not run.has("bundle"):
        raise RunError(
            f"the workers finished, but {run.below('bundle')} is not here: train.storage_path must be a directory that "
            "all nodes see, or an address."
        )
    return outcome


def _attempt(
    run: Run, assignment: Assignment, resources: Mapping[str, float], show: Show, notes: list[str]
) -> Outcome | BaseException:
    """Runs workers once and shows events and notes meanwhile; returns how the run ended, or the error."""
    trainer = _trainer(run, assignment, resources)
    outcomes: list[Outcome | BaseException] = []

    def fit() -> None:
        try:
            result: Any = trainer.fit()
            outcomes.append(result.return_value)
        except BaseException as error:
            # Its frames would keep Ray's controller, and so the workers' resources, from the next attempt.
            outcomes.append(error.with_traceback(None))

    # Not in this thread: there, Ray would install a SIGINT handler of its own, which aborts without a checkpoint.
    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    events = EventTail(run.local / "progress.jsonl")
    thread.start()
    began, quiet = time.monotonic(), True
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        for event in events.new():
            quiet = False
            show(event)
        if quiet and time.monotonic() - began > PATIENCE_SECONDS:
            quiet = False
            notes.append(_waiting(assignment.config.train, assignment.use_gpu))
        while notes:
            show(Note(notes.pop(0)))
    if run.mirror:
        run.mirror.pull("progress.jsonl")  # the last events may not have come yet
    for event in events.new():
        show(event)
    return outcomes[0]


def _trainer(run: Run, assignment: Assignment, resources: Mapping[str, float]) -> ray.train.torch.TorchTrainer:
    fewest, most = assignment.config.train.worker_range()
    # A new name for every attempt, so that Ray resumes nothing by itself.
    name = f"attempt-{uuid.uuid4().hex[:8]}"
    storage: dict[str, Any] = {"storage_path": str(run.local / "ray")}
    if run.mirror:
        storage = {"storage_path": run.mirror.path("ray"), "storage_filesystem": run.mirror.filesystem}
    return ray.train.torch.TorchTrainer(
        lambda: work(assignment),  # type: ignore[arg-type]  # what it returns comes back as return_value
        torch_config=process_group_config()(
            backend="nccl" if assignment.use_gpu else "gloo", timeout_s=COLLECTIVE_SECONDS
        ),
        scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg]  # seen as Train V1's
            num_workers=fewest if fewest == most else (fewest, most),  # type: ignore[arg-type]
            use_gpu=assignment.use_gpu,
            resources_per_worker=dict(resources),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=ray.train.RunConfig(name=name, failure_config=ray.train.FailureConfig(max_failures=0), **storage),
    )


def _waiting(train: TrainConfig, use_gpu: bool) -> str:
    each = ", each with a GPU" if use_gpu else ""
    return (
        f"nothing yet from the workers (train.workers={train.workers}{each}). Is there room for them? On a cluster, "
        "`ray status` shows it"
    )
