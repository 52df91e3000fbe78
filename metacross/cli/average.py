"""`metacross average`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metacross.cli.terminal import print_result, reporting, say


@reporting()
def average(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Bundles of runs with different seeds.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the new bundle.")],
) -> None:
    """Average bundles: make one of several that were trained alike with different seeds.

    The weights of the new bundle are the mean of theirs. Its F1 is measured on the development data that chose theirs.

    \b
    metacross train train.name=en train.seeds=3
    metacross average runs/en/seed-95/bundle runs/en/seed-495/bundle runs/en/seed-539/bundle --out runs/en/bundle
    """  # noqa: D301  # \b keeps the lines apart
    from rich.console import Console

    from metacross.bundle import refuse_other_content
    from metacross.cli.display import Display
    from metacross.training.bundle_average import average_bundles

    refuse_other_content(out)
    with Display(Console(stderr=True)) as show:
        averaged = average_bundles(bundles, out, show=show)
    say(f"dev F1 {averaged.dev_f1:.2f}")
    print_result(averaged.bundle)
