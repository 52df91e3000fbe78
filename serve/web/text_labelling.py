"""Texts that wait are labelled: by the request that brought them, or later by any replica that has time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from metacross.corpora.sentence import Sentence, sentence_from_text
from serve.examples.texts import StoredText
from serve.web.problems import ProblemError
from serve.web.service import Service

TAKEN_SECONDS = 300.0  # a replica that has taken a text and has not labelled it by then counts as lost
LOOK_SECONDS = 5.0  # how often a replica looks for texts that wait

log = logging.getLogger("metacross.serve")


class TextLabeller:
    """Labels the texts of a store, one at a time.

    Args:
        service: has the store, and the backend that labels.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Texts that wait are labelled inside of this context; nothing is done where there is no store."""
        if self._service.store is None:
            yield
            return
        self._woken = asyncio.Event()  # of the loop that runs now
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """Says that a text waits."""
        self._woken.set()

    async def label(self, number: int, sentences: Sequence[Sentence], language: str) -> StoredText | None:
        """Labels a text that the caller has taken; gives it back if that is not done.

        Args:
            number: of the text.
            sentences: the different ones.
            language: of all of them.

        Returns:
            The text; None where it was deleted meanwhile.

        Raises:
            ProblemError: the backend or the store has no time, or cannot be reached; somebody else may try.
        """
        done = False
        try:
            labelled = await self._service.label(sentences, language)
            text = await self._service.stored(
                lambda store: store.texts.finish(number, labelled.sentences, bundle=labelled.bundle)
            )
            done = True
            return text
        finally:
            if not done:
                with suppress(ProblemError):
                    await self._service.stored(lambda store: store.texts.give_back(number))

    async def _run(self) -> None:
        while True:
            try:
                text = await self._service.stored(lambda store: store.texts.take(TAKEN_SECONDS))
                if text is not None:
                    await self._label_taken(text)
                    continue
            except ProblemError as error:
                log.warning("a text waits on: %s", error.detail)
            self._woken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)

    async def _label_taken(self, text: StoredText) -> None:
        try:
            await self.label(text.id, [sentence_from_text(each) for each in text.sentences], text.language)
        except ProblemError:
            raise
        except Exception:
            log.exception("text %d cannot be labelled", text.id)
            reason = "The service failed. Its log has the reason."
            await self._service.stored(lambda store: store.texts.fail(text.id, reason))
