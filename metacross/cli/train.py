"""`metacross train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import AutoResume, ConfigFiles, Overrides
from metacross.cli.terminal import print_result, reporting, say
from metacross.errors import UserError

if TYPE_CHECKING:
    from metacross.cli.display import Display
    from metacross.config import Config


@reporting()
def train(
    overrides: Overrides = None,
    config: ConfigFiles = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Go on with the run in this directory (or at this address), from its last checkpoint."
        ),
    ] = None,
    auto_resume: AutoResume = False,
) -> None:
    """Train a tagger. A run is a directory; the last line names the bundle in it, which the other commands take.

    The first Ctrl-C stops after the step under way and leaves a checkpoint and a bundle; the second stops at once.
    With data.unlabelled the run then adopts these texts (see metacross adopt), and the last line names that bundle.
    A run that is resumed with more steps ends as a new run of so many steps would, or is refused.
    With train.seeds=N there are N runs in it, of a seed each. The last lines name their bundles, and at the end the
    average of them, `bundle`.

    \b
    metacross train train.name=en
    metacross train data.source=my/train.conll data.source_dev=my/dev.conll train.steps=1000
    metacross train --config quick.yaml model.encoder=/models/xlm-roberta-base
    metacross train --resume runs/en
    metacross train --resume runs/en train.steps=6000
    metacross train train.name=en train.seeds=3
    metacross train --auto-resume train.name=en train.storage_path=/shared/runs
    """  # noqa: D301  # \b keeps the lines apart
    if resume and config:
        raise UserError("a resumed run has its own configuration: leave out --config, or --resume")
    if auto_resume and resume:
        raise UserError("--auto-resume finds its run by its name, --resume by its directory: leave out one")
    from metacross.adoption.after_training import refuse_texts
    from metacross.config_loading import load_config
    from metacross.ray_session import submission_id
    from metacross.ray_training import driver

    settings = driver.resume_config(resume, overrides or ()) if resume else load_config(config, overrides or ())
    if auto_resume and not (settings.train.name or submission_id()):
        raise UserError("--auto-resume needs the run's name: give train.name=NAME")
    refuse_texts(settings, resume or settings.train.storage_path)
    try:
        train_it = _train_once if settings.train.seeds == 1 else _train_with_seeds
        for bundle in train_it(settings, resume, auto_resume):
            print_result(bundle)
    except KeyboardInterrupt:
        place = resume or f"DIR (the run's directory, below {settings.train.storage_path})"
        say(f"interrupted; if a checkpoint had been written, go on with: metacross train --resume {place}")
        raise typer.Exit(130) from None


def _train_once(config: Config, resume: str | None, auto_resume: bool) -> list[Path | str]:
    """One run, and the adoption after it; returns the bundles that they leave."""
    from metacross.adoption.after_training import adopt_after_training
    from metacross.ray_training import driver

    with _display() as show:
        result = driver.train(config, run_dir=resume, resume=resume is not None, auto_resume=auto_resume, show=show)
        adopted = None if result.stopped else adopt_after_training(config, Path(str(result.bundle)), show)
    if result.stopped:
        raise _stopped(result.step, result.run_dir)
    return [bundle for bundle in (result.bundle, adopted) if bundle]


def _train_with_seeds(config: Config, resume: str | None, auto_resume: bool) -> list[Path | str]:
    """A run for each seed; returns the bundles that they leave, and shows what they are good for together."""
    from metacross.ray_training.seed_runs import train_seeds

    with _display() as show:
        runs = train_seeds(config, run_dir=resume, resume=resume is not None, auto_resume=auto_resume, show=show)
    if runs.stopped:
        raise _stopped(runs.results[-1].step, runs.run_dir)
    say(runs.summary())
    return [bundle for bundle in (*(result.bundle for result in runs.results), runs.averaged) if bundle]


def _display() -> Display:
    from rich.console import Console

    from metacross.cli.display import Display

    return Display(Console(stderr=True))


def _stopped(step: int, run_dir: Path | str) -> typer.Exit:
    say(f"stopped at step {step}; go on with: metacross train --resume {run_dir}")
    return typer.Exit(130)
