"""What a command says, shows, reads and writes, and how it ends when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metacross import json_logs
from metacross.errors import RunError, UserError
from metacross.signals import sigterm_interrupts
from metacross.storage.files import write_file

if TYPE_CHECKING:
    from rich.table import Table


@contextmanager
def reporting() -> Iterator[None]:
    """Turns what goes wrong in a command into a message and an exit status; SIGTERM does what Ctrl-C does."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names and words may hold anything
    try:
        json_logs.set_up()
        with sigterm_interrupts():
            yield
        sys.stdout.flush()
    except UserError as error:
        _say_error(str(error))
        raise typer.Exit(2) from None
    except RunError as error:
        _say_error(str(error))
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
            _say_error(f"{error.filename or 'the output'} cannot be written ({error.strerror}). Free some space.")
            raise typer.Exit(2) from None
        _say_fault(error)
        raise typer.Exit(1) from None


def _say_error(text: str) -> None:
    say(f"error: {text}", level="ERROR")


def _say_fault(error: Exception) -> None:
    text = f"error: {type(error).__name__}: {error}. This is a fault of the program; what led to it stands "
    if json_logs.wanted():
        say(f"{text}in exc_text.", level="ERROR", exc_text=traceback.format_exc())
    else:
        traceback.print_exc()
        say(f"{text}above.")


def _drop_output() -> None:
    """Sends what is still waiting to be written nowhere, or Python would try once more at its end."""
    with suppress(OSError):  # no file behind it: a test's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, *, level: str = "INFO", **fields: Any) -> None:
    """Tells the user something, beside the output.

    Args:
        text: what.
        level: for logs that are JSON, as the next ones.
        **fields: the same for programs.
    """
    print(json_logs.line(text, level=level, **fields) if json_logs.wanted() else text, file=sys.stderr, flush=True)


def print_result(text: object) -> None:
    """Writes what a command is for to its output, such as the place of a bundle: a line of its own."""
    print(json_logs.line(str(text), result=str(text)) if json_logs.wanted() else text, flush=True)


def print_table(table: Table) -> None:
    """Writes a table as wide as the terminal; a line for each row where logs are JSON."""
    if json_logs.wanted():
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            row = {str(column.header): str(cell) for column, cell in zip(table.columns, cells, strict=True)}
            print(json_logs.line(str(table.title or "table"), row=row))
        return
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
