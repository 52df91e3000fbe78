"""What a lost replica had to do is tried again: every call between deployments may be made twice.

Tagging and searching change nothing, so whether the lost replica had done its work does not matter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

ATTEMPTS = 4
T = TypeVar("T")


def is_lost(error: BaseException) -> bool:
    """Whether a call failed since its replica died under it, or there was none; another one may answer."""
    # What the replica itself raised comes in a RayTaskError. It may have called a replica that was lost.
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, (RayActorError, ReplicaUnavailableError, DeploymentUnavailableError))


def retried(call: Callable[[], T]) -> T:
    """The result of a call that blocks, made again where its replica was lost; the last error is raised."""
    for pause in _pauses():
        try:
            return call()
        except Exception as error:
            if not is_lost(error):
                raise
        time.sleep(pause)
    return call()


async def retried_async(call: Callable[[], Awaitable[T]]) -> T:
    """As `retried`, for a call that is awaited."""
    for pause in _pauses():
        try:
            return await call()
        except Exception as error:
            if not is_lost(error):
                raise
        await asyncio.sleep(pause)
    return await call()


def _pauses() -> Iterator[float]:
    """Seconds before each attempt after the first; random, so that those who lost one replica do not come at once."""
    return (random.uniform(0, 0.2 * 2**attempt) for attempt in range(1, ATTEMPTS))
