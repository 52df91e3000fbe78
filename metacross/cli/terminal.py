"""What a command says, shows, reads and writes, and how it ends when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metacross.errors import RunError, UserError
from metacross.storage.files import write_file

if TYPE_CHECKING:
    from rich.table import Table

ENDING_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})


@contextmanager
def reporting() -> Iterator[None]:
    """Turns what goes wrong in a command into a message and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names and words may hold anything
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    except RunError as error:
        say(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(130) from None
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        raise typer.Exit(141) from None
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _drop_output()
            say(f"error: {error.filename or 'the output'} cannot be written ({error.strerror}). Free some space.")
            raise typer.Exit(2) from None
        traceback.print_exc()
        say(f"error: {type(error).__name__}: {error}. This is a fault of the program; what led to it stands above.")
        raise typer.Exit(1) from None


def _drop_output() -> None:
    """Sends what is still waiting to be written nowhere, or Python would try once more at its end."""
    with suppress(OSError):  # no file behind it: a test's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Tells the user something, beside the output."""
    print(text, file=sys.stderr, flush=True)


def print_table(table: Table) -> None:
    """Writes a table as wide as the terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)


def write_output(path: Path, content: Any) -> None:
    """Writes a file completely or not at all; a device or a pipe is written to directly. UserError where it fails."""
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    try:
        if path.is_file() or not path.exists():
            write_file(path, text)
        else:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None
