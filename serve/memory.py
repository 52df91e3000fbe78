"""Freed memory goes back to the system.

The C library keeps what is freed between blocks that are still in use, for later allocations. A Tagger allocates large
tensors for every batch, and what its caches keep lies among them, so hundreds of megabytes stay free between.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def return_freed_memory() -> None:
    """Gives the pages that hold no block in use back to the system; does nothing where the C library is not glibc."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """Glibc's `malloc_trim`, or None; found once."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
