"""Atomic directories with checksums: written completely or not at all, and checked when they are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from metacross.errors import RunError, UserError
from metacross.storage.files import file_record, temporary_name, write_json

MANIFEST = "manifest.json"  # SHA-256 and size of every other file of a directory


def write_directory(path: Path, fill: Callable[[Path], None]) -> None:
    """Fills a temporary directory beside `path` and renames it to `path`, replacing what was there.

    On failure the temporary directory is removed, and what was at `path` is unchanged.

    Args:
        path: the directory to write.
        fill: called with the temporary directory; writes all files into it.

    Raises:
        UserError: the disk is full, or the directory cannot be written.
    """
    temporary = temporary_name(path)
    old = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose another place."
        ) from error
    except (UserError, RunError):
        raise
    except BaseException as error:
        # safetensors and FAISS raise exceptions of their own if the disk is full.
        if type(error).__module__.split(".")[0] in {"safetensors", "safetensors_rust"} or "faiss" in str(error).lower():
            raise UserError(f"{path}: cannot be written ({error}). Free some space or choose another place.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Removes what killed calls of `write_directory` left in `folder`, and puts back what they had moved away."""
    for old in folder.glob(".*.old"):
        path = folder / old.name[1:].rsplit(".", 2)[0]
        if not path.exists():
            old.rename(path)
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        shutil.rmtree(left, ignore_errors=True)


def write_manifest(folder: Path, form: int) -> None:
    """Writes the manifest of all files in `folder`, which have to be complete.

    Args:
        folder: the directory.
        form: version of the directory's layout.
    """
    files = {str(file.relative_to(folder)): file_record(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    write_json(folder / MANIFEST, {"format": form, "files": files})


def check_manifest(folder: Path, form: int, *, kind: str, hint: str = "") -> None:
    """Checks that all files of `folder` are as they were written.

    Args:
        folder: a directory with a manifest.
        form: version of the layout that the caller reads.
        kind: what the directory is called in messages, such as `bundle`.
        hint: what the user should do if the directory has no manifest.

    Raises:
        UserError: there is no manifest, the layout has another version, or a file is missing or changed (which one).
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: not a {kind} (no {MANIFEST}). {hint}".rstrip()) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST}: unreadable; the {kind} is damaged. Copy or train it again.") from error
    if manifest.get("format") != form:
        raise UserError(f"{folder}: {kind} format {manifest.get('format')}, this version reads {form}. Train it again.")
    for name, expected in sorted(files.items()):
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the {kind}. Copy it again from where it was trained.")
        if file.stat().st_size != expected["bytes"] or file_record(file) != expected:
            raise UserError(
                f"{file}: not as it was written (SHA-256 differs). Copy it again from where it was trained."
            )
