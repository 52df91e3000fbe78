"""Freed memory goes back to the system, and what stays is not searched for garbage.

The C library keeps what is freed between blocks that are still in use, for later allocations. A Tagger allocates large
tensors for every batch, and what its caches keep lies among them, so hundreds of megabytes stay free between.
"""

from __future__ import annotations

import ctypes
import gc
from functools import cache
from typing import Any


def return_freed_memory() -> None:
    """Gives the pages that hold no block in use back to the system; does nothing where the C library is not glibc."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def spare_the_collector() -> None:
    """Takes all objects that live now out of the garbage collector's sight, until the next call.

    A bundle's sentences are hundreds of thousands of objects that live as long as it does. The collector would go
    through all of them every time that an answer made many objects.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@cache
def _malloc_trim() -> Any:
    """Glibc's `malloc_trim`, or None; found once."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
