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


class OtherVersionError(Exception):
    """A replica does not have what a call is about; another one may still have it."""


class ShardsGoneError(Exception):
    """Shards of the source index do not answer, and there is no answer without them. The message names them."""


ATTEMPTS = 4
LONGEST_PAUSE_SECONDS = 1.6  # before the last attempt; half as long before each earlier one
T = TypeVar("T")


def is_lost(error: BaseException) -> bool:
    """Whether a call failed because its replica was lost, or because there was none: another one may answer it."""
    # What the replica raised arrives as the cause of a RayTaskError; it may itself have called a replica that was lost.
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, (RayActorError, ReplicaUnavailableError, DeploymentUnavailableError, OtherVersionError))


def shards_gone(error: BaseException) -> ShardsGoneError | None:
    """The reason of a failed call, if it is that shards are gone."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, ShardsGoneError) else None


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
    """Seconds to wait before each attempt after the first."""
    for left in reversed(range(ATTEMPTS - 1)):
        # Random, so that not all who lost the same replica come back at the same moment.
        yield random.uniform(0, LONGEST_PAUSE_SECONDS / 2**left)
