"""What the routes ask: the backend that tags, and the store of examples; failures of both become problems."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from metacross.client.contract import EntitiesAnswer, Model, Readiness
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError
from serve.examples import ExampleStore
from serve.jobs import Job, Labelled, Refusal
from serve.web.auth import Grant, Token, needs
from serve.web.limits import Limits
from serve.web.problems import ProblemError, busy

READY_S = 5.0  # whoever asks whether the service is ready has little patience

log = logging.getLogger("metacross.serve")
T = TypeVar("T")


class Backend(Protocol):
    """What tags: a Serve deployment, or an engine in this process."""

    async def tag(self, jobs: Sequence[Job], progressed: Callable[[], None]) -> EntitiesAnswer | Refusal:
        """Tags texts by one checkpoint. ProblemError 503 where it is too busy or not there.

        Args:
            jobs: a request's.
            progressed: called whenever a part of the work is done.
        """

    async def label(self, sentences: Sequence[Sentence], language: str, progressed: Callable[[], None]) -> Labelled:
        """Labels sentences without tags by one checkpoint. ProblemError 503 where it is too busy or not there.

        Args:
            sentences: without tags.
            language: BCP 47 tag of all of them.
            progressed: called whenever a part of the work is done.
        """

    async def model(self) -> Model:
        """Facts about the checkpoint that answers now. ProblemError 503 before one is loaded."""

    async def readiness(self) -> Readiness:
        """By which checkpoint requests are answered, and how long they wait, at any Tagger. ProblemError 503 before."""


@dataclass(frozen=True)
class Service:
    """What the routes share.

    Attributes:
        backend: tags.
        store: keeps examples; None for a service without any.
        limits: what one request may ask for.
        tokens: who may do what; None lets everybody do everything.
    """

    backend: Backend
    store: ExampleStore | None
    limits: Limits
    tokens: list[Token] | None

    def may(self, grant: Grant) -> Any:
        """A route's dependency: only requests pass whose token grants this."""
        return Depends(needs(self.tokens, grant))

    async def tag(self, jobs: Sequence[Job]) -> EntitiesAnswer:
        """The backend's answer. ProblemError 422 where it refuses the request, 504 where nothing moves for too long."""
        answer = await self._in_time(partial(self.backend.tag, jobs))
        if isinstance(answer, Refusal):
            raise ProblemError(422, answer.detail, field=answer.field)
        return answer

    async def label(self, sentences: Sequence[Sentence], language: str) -> Labelled:
        """The backend's answer. ProblemError 504 where nothing moves for too long."""
        return await self._in_time(partial(self.backend.label, sentences, language))

    async def model(self) -> Model:
        """Facts about the checkpoint that answers now, which count no examples. ProblemError 504 after too long."""
        return await self._in_time(lambda progressed: self.backend.model())

    async def readiness(self) -> Readiness:
        """The backend's answer, given soon. ProblemError 503 where requests wait so long that they may be refused."""
        found = await self._in_time(lambda progressed: self.backend.readiness(), seconds=READY_S)
        if found.queue_age_s > self.limits.seconds / 2:
            raise busy(f"A request has waited for {found.queue_age_s:.0f} s without progress. Try again.", seconds=5)
        return found

    def kept(self) -> ExampleStore:
        """The store. ProblemError 404 where there is none."""
        if self.store is None:
            raise ProblemError(404, "This service keeps no examples: serve.examples is empty.")
        return self.store

    async def stored(self, work: Callable[[ExampleStore], T]) -> T:
        """What the store says, asked in a thread. ProblemError 404 where there is no store, 503 where it fails."""
        store = self.kept()
        try:
            return await run_in_threadpool(work, store)
        except RunError as error:
            log.error("the store of examples failed: %s", error)
            raise busy("The store of examples cannot be reached. Nothing was changed; try again.") from error

    async def _in_time(self, ask: Callable[[Callable[[], None]], Awaitable[T]], *, seconds: float = math.inf) -> T:
        """What is awaited, if it never stands still for longer than it may; every progress gives it that time again."""
        seconds, now = min(seconds, self.limits.seconds), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(seconds) as patience:
                return await ask(lambda: patience.reschedule(now() + seconds))
        except TimeoutError:
            raise ProblemError(
                504, f"No answer within {seconds:g} s. Send fewer or shorter texts, or try again later."
            ) from None
