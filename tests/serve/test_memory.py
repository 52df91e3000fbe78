"""Freed memory goes back to the system, and processes load no more than they need."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from serve.memory import return_freed_memory

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


def test_an_ingress_loads_no_torch() -> None:
    code = "import sys, serve.ingress; print({'torch', 'transformers', 'faiss'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
