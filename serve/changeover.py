"""Goes over from one bundle to the next while the service answers. No Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metacross.errors import UserError

log = logging.getLogger("metacross.serve")


class Changeover:
    """Decides which bundle answers: of those named so far, the last one that can be loaded.

    Args:
        load: loads a bundle beside the one that answers, then goes over to it; called in a thread.
        pending: called with True while the bundle that was named last does not answer, because it is being loaded or
            was refused; with False once it answers.
    """

    def __init__(self, load: Callable[[str], None], pending: Callable[[bool], None]) -> None:
        self._load, self._pending = load, pending
        self._answering = ""  # path of the bundle that answers; "" before the first
        self._wanted: Mapping[str, Any] = {}
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Goes over to the bundle that is named.

        Serve sends no requests to a replica before this returns, and ends the replica where it raises. So only the
        first bundle is waited for. Every later one is loaded while the one before it answers, which goes on answering
        if the new one is broken.
        """
        self._wanted = user_config
        if self._answering:
            # The task is kept, since asyncio's loop itself holds only a weak reference to it.
            self._task = asyncio.create_task(self._beside(user_config))
        else:
            await self._go_over(user_config)

    async def _beside(self, user_config: Mapping[str, Any]) -> None:
        async with self._one_at_a_time:
            if user_config is not self._wanted:  # another bundle was named while this one waited its turn
                return
            self._pending(True)
            try:
                await self._go_over(user_config)
            except Exception:  # whatever is wrong with it, the bundle before it answers
                log.exception("%s was refused; answers go on by %s", user_config, self._answering)

    async def _go_over(self, user_config: Mapping[str, Any]) -> None:
        path = bundle_named(user_config)
        if path != self._answering:  # Serve also names the same bundle again, when it renumbers its replicas
            await asyncio.to_thread(self._load, path)
            self._answering = path
            log.info("answers come by %s", path)
        self._pending(False)


def bundle_named(user_config: Mapping[str, Any]) -> str:
    """The bundle of a Tagger's user_config.

    Raises:
        UserError: it names no bundle, a path that depends on the working directory, or has another key.
    """
    bundle = user_config.get("bundle")
    if not isinstance(bundle, str) or not bundle:
        raise UserError("user_config of Tagger names no bundle. Give bundle: what `metacross train` named at its end.")
    if "://" not in bundle and not Path(bundle).is_absolute():
        raise UserError(f"bundle: {bundle} depends on where a replica runs. Give the whole path, or an address.")
    if unknown := sorted(user_config.keys() - {"bundle"}):
        raise UserError(f"{unknown[0]} is no key of Tagger's user_config. It has one, bundle; settings are args.")
    return bundle
