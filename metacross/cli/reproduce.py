"""`metacross reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import Overrides
from metacross.cli.terminal import print_result, print_table, reporting, say
from metacross.errors import RunError, UserError

if TYPE_CHECKING:
    from metacross.reproduction.plan import Comparison


@reporting()
def reproduce(
    overrides: Overrides = None,
    suite: Annotated[Path | None, typer.Option(metavar="FILE", help="What is compared; see suites/.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N of the suite's seeds.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write: train.storage_path/NAME of the suite by default."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the suite's corpora are; beside the suite by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the suite that --out began with.")] = False,
    parallel: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cells side by side: by default one per GPU, or per 4 CPUs.")
    ] = None,
) -> None:
    """Compare methods over seeds and languages, with error bars: train, tag, report.

    The same command goes on after an interruption, and computes nothing twice. A changed setting makes those parts anew
    that it has an effect on. Settings on the command line are over the suite's, but not over its methods'.

    \b
    metacross reproduce --suite suites/samples.yaml --data samples
    metacross reproduce --suite suites/paper.yaml --data my/conll --out runs/paper --seeds 2
    metacross reproduce --suite suites/paper.yaml --data my/conll model.encoder=bert-base-multilingual-cased
    metacross reproduce --resume --out runs/paper
    """  # noqa: D301  # \b keeps the lines apart
    if resume == (suite is not None):
        raise UserError("give a suite (--suite FILE), or --resume and --out DIR to go on with a comparison's own")
    if resume and (out is None or overrides or seeds or data):
        raise UserError("--resume goes on with the comparison's own settings: give --out DIR, and leave out the others")
    from rich.console import Console

    from metacross.cli.display import Display
    from metacross.config_loading import load_config
    from metacross.reproduction import driver
    from metacross.reproduction.suite import load_suite

    if suite is None:
        chosen, base = driver.saved_suite(out or Path())
    else:
        base = load_config()
        chosen = load_suite(suite, base, overrides=overrides or (), data=data, seeds=seeds)
    place = out or driver.comparison_directory(chosen, base)
    with Display(Console(stderr=True)) as show:
        comparison = driver.reproduce(chosen, base, place, parallel=parallel, show=show)
    _report(comparison)


def _report(comparison: Comparison) -> None:
    """Writes the report of what was measured, and says how the comparison ended."""
    from metacross.cli.tables import comparison_table
    from metacross.reproduction.report import write_report

    files = write_report(comparison)
    print_table(comparison_table(comparison.out))
    if comparison.interrupted:
        say(f"interrupted; go on with the same command, or: metacross reproduce --resume --out {comparison.out}")
        raise typer.Exit(130)
    if comparison.failed:
        raise RunError(
            "not everything could be measured: "
            + "; ".join(f"{label}: {error}" for label, error in comparison.failed.items())
        )
    for path in files:
        print_result(path)
