"""Keeps transformers' progress bars and notes away from the user's terminal or notebook."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils.logging import set_tqdm_hook

_GUARD = threading.RLock()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside the block, transformers shows no progress bars and logs errors only.

    Afterwards the log level and the hook for progress bars are again what the user had set. Both are global to the
    process, so threads that want to enter the block at the same time wait for each other.
    """
    logger = logging.getLogger("transformers")
    with _GUARD:
        level = logger.level
        # A hook rather than `disable_progress_bar`, which would also change the settings of huggingface_hub.
        hook = set_tqdm_hook(_no_bar)
        logger.setLevel(max(level, logging.ERROR))
        try:
            yield
        finally:
            logger.setLevel(level)
            set_tqdm_hook(hook)


def _no_bar(factory: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    """Makes the progress bar that transformers asks for, but one that shows nothing."""
    return factory(*args, **{**settings, "disable": True})
