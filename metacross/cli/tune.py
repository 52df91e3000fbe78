"""`metacross tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import AutoResume, ConfigFiles, Overrides
from metacross.cli.terminal import print_result, print_table, reporting, say
from metacross.errors import RunError, UserError

if TYPE_CHECKING:
    from metacross.sweeps.trials import Sweep


@reporting()
def tune(
    overrides: Overrides = None,
    space: Annotated[Path | None, typer.Option(metavar="FILE", help="The search space; see tune_spaces/.")] = None,
    config: ConfigFiles = None,
    trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="In place of the space's number.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the sweep, a directory below train.storage_path.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run the trials that are left of the sweep in this directory.")
    ] = None,
    auto_resume: AutoResume = False,
) -> None:
    """Search for good settings: every trial is a training run; bad ones are stopped early.

    The best settings are chosen on development data and left as best.yaml, for `metacross train --config`; beside it
    are results.csv, plots and report.html. Ctrl-C keeps what is finished.

    \b
    metacross tune --space tune_spaces/smoke.yaml
    metacross tune --space tune_spaces/paper.yaml --trials 30 data.source=my/train.conll data.source_dev=my/dev.conll
    metacross tune --resume runs/sweep-20260101-120000
    metacross train --config runs/sweep-20260101-120000/best.yaml
    """  # noqa: D301  # \b keeps the lines apart
    if (space is None) == (resume is None):
        raise UserError("give a search space (--space FILE), or a sweep to go on with (--resume DIR)")
    if resume and (config or overrides or trials or name or auto_resume):
        raise UserError("a resumed sweep has its own settings: leave out everything but --resume")
    from rich.console import Console

    from metacross.cli.display import Display
    from metacross.config_loading import load_config
    from metacross.ray_session import submission_id
    from metacross.sweeps import driver

    settings = load_config(config, overrides or ())
    if auto_resume and not (name or submission_id()):
        raise UserError("--auto-resume needs the sweep's name: give --name NAME")
    with Display(Console(stderr=True)) as show:
        sweep = driver.tune(
            settings,
            space,
            directory=resume or driver.sweep_directory(settings, name),
            resume=resume is not None,
            auto_resume=auto_resume or bool(submission_id() and not (resume or name)),
            trials=trials,
            show=show,
        )
    _report(sweep)


def _report(sweep: Sweep) -> None:
    """Writes the sweep's table, plots and page, and says how it ended."""
    from metacross.cli.tables import trials_table
    from metacross.sweeps.report import summary, write_report

    files = write_report(sweep)
    print_table(trials_table(sweep))
    say(summary(sweep))
    for trial in sweep.trials:
        if trial.error:
            say(f"trial {trial.id} failed: {trial.error}")
    if sweep.interrupted:
        say(f"interrupted; go on with: metacross tune --resume {sweep.directory}")
        raise typer.Exit(130)
    if all(trial.state == "failed" for trial in sweep.trials):
        raise RunError(f"every trial failed; what happened stands in {sweep.directory / 'trials'}/ID/error.log")
    for path in files:
        print_result(path)
