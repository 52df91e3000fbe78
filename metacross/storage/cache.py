"""The directory for what metacross can make again: the embedded encoder and copies of bundles."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """Returns `$METACROSS_CACHE`, else `$XDG_CACHE_HOME/metacross`, else `~/.cache/metacross`."""
    if own := os.environ.get("METACROSS_CACHE"):
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is to be ignored.
    return (shared if shared.is_absolute() else Path("~/.cache")) / "metacross"
