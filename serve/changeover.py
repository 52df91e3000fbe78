"""From one bundle to the next, while the service answers. No Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metacross.errors import UserError

log = logging.getLogger("metacross.serve")


class Changeover:
    """Which bundle answers: the last one named that can be loaded.

    Args:
        load: loads a bundle beside the one that answers, then goes over to it; called in a thread.
        pending: is told whether the bundle named last does not answer: it is loaded, or was refused.
    """

    def __init__(self, load: Callable[[str], None], pending: Callable[[bool], None]) -> None:
        self._load, self._pending = load, pending
        self._answers = ""
        self._wanted: Mapping[str, Any] = {}
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Goes over to the bundle that is named.

        Serve sends no requests to a replica before this returns, and ends the replica where it raises. So only the
        first bundle is waited for; every other one is loaded while the one before it answers, and stays out if broken.
        """
        self._wanted = user_config
        if self._answers:
            self._task = asyncio.create_task(self._beside(user_config))
        else:
            await self._go_over(user_config)

    async def _beside(self, user_config: Mapping[str, Any]) -> None:
        async with self._one_at_a_time:
            if user_config is not self._wanted:  # the next one was named meanwhile
                return
            self._pending(True)
            try:
                await self._go_over(user_config)
            except Exception:  # whatever is wrong with it, there is one that answers
                log.exception("%s was refused; answers go on by %s", user_config, self._answers)

    async def _go_over(self, user_config: Mapping[str, Any]) -> None:
        path = bundle_named(user_config)
        if path != self._answers:  # Serve also asks for the same one, when it numbers its replicas anew
            await asyncio.to_thread(self._load, path)
            self._answers = path
            log.info("answers come by %s", path)
        self._pending(False)


def bundle_named(user_config: Mapping[str, Any]) -> str:
    """The bundle of a Tagger's user_config.

    Raises:
        UserError: it names none, a place that depends on the process, or something else besides.
    """
    bundle = user_config.get("bundle")
    if not isinstance(bundle, str) or not bundle:
        raise UserError("user_config of Tagger names no bundle. Give bundle: what `metacross train` named at its end.")
    if "://" not in bundle and not Path(bundle).is_absolute():
        raise UserError(f"bundle: {bundle} depends on where a replica runs. Give the whole path, or an address.")
    if unknown := sorted(user_config.keys() - {"bundle"}):
        raise UserError(f"{unknown[0]} is no key of Tagger's user_config. It has one, bundle; settings are args.")
    return bundle
