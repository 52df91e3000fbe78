"""Single files: written completely or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file beside `path`, then renames it: a reader sees the old content or the new one, never a part.

    Text is written as UTF-8; characters that UTF-8 cannot hold (lone surrogates) are written as backslash escapes.

    Raises:
        OSError: the file cannot be written; a file that was at `path` is unchanged.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a rename could outlive the content in a power failure
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that nothing else uses; `directories.tidy` recognises what is left under it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def write_json(path: Path, content: Any) -> None:
    """Writes a value as JSON, atomically as `write_file` does."""
    write_file(path, json.dumps(content, indent=1, ensure_ascii=False))


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(path: Path) -> dict[str, Any]:
    """A file's size and SHA-256, as manifests hold them."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
