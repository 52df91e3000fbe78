"""`metacross train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metacross.cli.options import AutoResume, ConfigFiles, Overrides
from metacross.cli.terminal import reporting, say
from metacross.errors import UserError


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

    \b
    metacross train train.name=en
    metacross train data.source=my/train.conll data.source_dev=my/dev.conll train.steps=1000
    metacross train --config quick.yaml model.encoder=/models/xlm-roberta-base
    metacross train --resume runs/en
    metacross train --resume runs/en train.steps=6000
    metacross train --auto-resume train.name=en train.storage_path=/shared/runs
    """  # noqa: D301  # \b keeps the lines apart
    if resume and config:
        raise UserError("a resumed run has its own configuration: leave out --config, or --resume")
    if auto_resume and resume:
        raise UserError("--auto-resume finds its run by its name, --resume by its directory: leave out one")
    from rich.console import Console

    from metacross.adoption.after_training import adopt_after_training, refuse_texts
    from metacross.cli.display import Display
    from metacross.config import load_config
    from metacross.ray_session import submission_id
    from metacross.ray_training import driver

    settings = driver.resume_config(resume, overrides or ()) if resume else load_config(config, overrides or ())
    if auto_resume and not (settings.train.name or submission_id()):
        raise UserError("--auto-resume needs the run's name: give train.name=NAME")
    refuse_texts(settings, resume or settings.train.storage_path)
    try:
        with Display(Console(stderr=True)) as show:
            result = driver.train(
                settings, run_dir=resume, resume=resume is not None, auto_resume=auto_resume, show=show
            )
            adopted = None if result.stopped else adopt_after_training(settings, Path(str(result.bundle)), show)
    except KeyboardInterrupt:
        place = resume or f"DIR (the run's directory, below {settings.train.storage_path})"
        say(f"interrupted; if a checkpoint had been written, go on with: metacross train --resume {place}")
        raise typer.Exit(130) from None
    if result.stopped:
        say(f"stopped at step {result.step}; go on with: metacross train --resume {result.run_dir}")
        raise typer.Exit(130)
    print(result.bundle)
    if adopted:
        print(adopted)
