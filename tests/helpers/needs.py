"""What a test needs of the machine beside Python packages."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skips the test that asks, or fails it in CI, where a test that is skipped would go unseen.

    Args:
        what: what the machine lacks, and how to get it.
    """
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"CI runs every test it can, and this one {what}", pytrace=False)
    pytest.skip(what)
