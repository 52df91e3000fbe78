"""Commands of the command line, run in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner

from metacross.cli import app as cli

TEXT = "Anna Berg left Oslo. Jan Smit lives in Lima."


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str
    records: list[dict[str, Any]] = field(default_factory=list)


def run(*arguments: object, stdin: bytes | str = b"") -> Outcome:
    """A command in this process, where imports are done."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], input=stdin)
    return Outcome(result.exit_code, result.stdout, result.stderr)


def tagged(*arguments: object, stdin: bytes | str = b"") -> Outcome:
    """`metacross tag`, its JSON lines read."""
    found = run("tag", *arguments, stdin=stdin)
    records = [json.loads(line) for line in found.out.splitlines() if line.startswith("{")]
    return Outcome(found.status, found.out, found.err, records)


def approx(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entities as they are told: with scores of four digits. Other texts in the batch may change the last one."""
    return [{**entity, "score": pytest.approx(entity["score"], abs=6e-5)} for entity in found]
