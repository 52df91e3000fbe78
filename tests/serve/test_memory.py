"""Freed memory goes back to the system, and processes load no more than they need."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from serve.memory import return_freed_memory, spare_the_collector

BLOCKS, BLOCK = 1000, 100 << 10  # below the size from which the C library maps every block by itself


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_what_is_freed_among_blocks_in_use_goes_back() -> None:
    blocks = [(bytearray(BLOCK), bytearray(1 << 10)) for _ in range(BLOCKS)]
    small = [between for _, between in blocks]  # stays, and lies between the large ones
    full = resident_mb()
    del blocks
    return_freed_memory()
    assert full - resident_mb() > 0.8 * BLOCKS * BLOCK / 1e6
    assert len(small) == BLOCKS


def test_what_lives_is_not_searched_again_and_garbage_is_freed() -> None:
    class Node:
        def __init__(self) -> None:
            self.itself = self

    kept, dropped = Node(), weakref.ref(Node())
    spare_the_collector()
    assert dropped() is None
    assert gc.get_freeze_count() > 0 and not any(one is kept for one in gc.get_objects())
    later = weakref.ref(kept)
    del kept
    spare_the_collector()
    assert later() is None, "what became garbage since is freed by the next call"
    gc.unfreeze()


def test_an_ingress_loads_no_torch() -> None:
    code = "import sys, serve.ingress; print({'torch', 'transformers', 'faiss'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
