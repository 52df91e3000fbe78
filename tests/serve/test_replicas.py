"""What a lost replica had to do is tried again, both by calls that block and by those that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from serve import replicas
from serve.ingress import TaggerBackend
from serve.replicas import ATTEMPTS, ShardsGoneError, is_lost
from serve.web.problems import ProblemError


def task_error(cause: Exception) -> RayTaskError:
    """An error that a replica raised, as its caller gets it."""
    return RayTaskError("tag", "", cause)


LOST = [
    ActorDiedError(),
    DeploymentUnavailableError("Tagger"),  # type: ignore[arg-type]  # only its message uses the rest
    ReplicaUnavailableError("gone"),
    task_error(ActorDiedError()),
]

FULL = BackPressureError(num_queued_requests=9, max_queued_requests=8)


class Failing:
    """Raises the errors that are left, one each call; then it succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"

    async def later(self) -> str:
        return self()


Retry = Callable[[Failing], str]


@pytest.fixture(params=["blocking", "awaited"])
def retry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Retry:
    monkeypatch.setattr(replicas, "LONGEST_PAUSE_SECONDS", 0.001)
    if request.param == "blocking":
        return replicas.retried
    return lambda call: asyncio.run(replicas.retried_async(call.later))


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_what_a_lost_replica_had_to_do_is_tried_again(retry: Retry, error: Exception) -> None:
    call = Failing(error, error)
    assert (retry(call), call.calls) == ("answer", 3)


def test_attempts_have_an_end_and_the_last_error_is_raised(retry: Retry) -> None:
    call = Failing(*[ReplicaUnavailableError(str(i)) for i in range(ATTEMPTS)])
    with pytest.raises(ReplicaUnavailableError, match=str(ATTEMPTS - 1)):
        retry(call)
    assert call.calls == ATTEMPTS


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault"),
        task_error(ValueError("a fault")),
        FULL,
        TimeoutError(),
    ],
)
def test_other_errors_are_raised_at_once(retry: Retry, error: Exception) -> None:
    assert not is_lost(error)
    call = Failing(error, error)
    with pytest.raises(type(error)):
        retry(call)
    assert call.calls == 1


class Handle:
    """A handle of Tagger, of which only `model` is called."""

    def __init__(self, call: Failing) -> None:
        self.model = self
        self.remote = call.later


@pytest.mark.parametrize(
    ("errors", "seconds", "part"),
    [
        ([ReplicaUnavailableError("gone")] * ATTEMPTS, "5", "No tagger answers"),
        ([FULL], "1", "Too many requests"),
        ([task_error(ShardsGoneError("No answer: SourceShard1."))], "5", r"SourceShard1\. Try again"),
    ],
)
def test_an_ingress_says_when_to_come_again(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], seconds: str, part: str
) -> None:
    monkeypatch.setattr(replicas, "LONGEST_PAUSE_SECONDS", 0.001)
    handle: Any = Handle(Failing(*errors))
    with pytest.raises(ProblemError, match=part) as caught:
        asyncio.run(TaggerBackend(handle, long=1, queue=1).model())
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": seconds})
    assert asyncio.run(TaggerBackend(handle, long=1, queue=1).model()) == "answer"
