"""`metacross adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metacross.cli.options import BundleArgument, Overrides
from metacross.cli.terminal import print_result, reporting, say
from metacross.errors import UserError

ExampleFiles = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LANGUAGE=FILE",
        help="A few labelled sentences, such as es=es.conll; one file for each language. Give sentences as they come, "
        "those without an entity too.",
    ),
]
TextFiles = Annotated[
    list[str] | None,
    typer.Option(metavar="LANGUAGE=FILE", help="Text without labels, such as es=es.txt; one for each language."),
]
TeacherBundles = Annotated[
    list[str] | None,
    typer.Option(metavar="BUNDLE", help="A tagger that labels the text; several label it together."),
]
Distil = Annotated[
    bool, typer.Option(help="Train the weights on a part of the text; otherwise all of it may shape answers.")
]
OutDirectory = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where to write; by default `adopted` beside BUNDLE.")
]


@reporting()
def adopt(
    bundle: BundleArgument,
    overrides: Overrides = None,
    examples: ExampleFiles = None,
    text: TextFiles = None,
    teacher: TeacherBundles = None,
    distil: Distil = True,
    out: OutDirectory = None,
) -> None:
    """Adopt languages: make a new bundle that has learnt from a few labelled sentences, or from unlabelled text.

    Examples are labelled sentences, in any format that `metacross data` reads. The weights are trained on them and on
    source sentences for a short time, and they may shape answers beside the source sentences. Examples that the bundle
    has stay when others are added.

    Taggers label the text (by default the bundle itself, once trained on the examples). The weights are trained on one
    part of it. Of the other part, sentences whose labels can be trusted may shape answers too. Text is raw text, or any
    file that `metacross data` reads, whose tags are ignored. If the command is interrupted, the same command goes on.

    \b
    metacross adopt runs/en/bundle --examples es=es.conll
    metacross adopt runs/en/bundle --examples es=es.conll --text es=es.txt --text de=de.jsonl
    metacross adopt runs/en/bundle --text es=es.txt --teacher runs/a/bundle --teacher runs/b/bundle adopt.steps=100
    metacross adopt runs/en/bundle --text es=es.txt --no-distil --out runs/en/with-spanish
    """  # noqa: D301  # \b keeps the lines apart
    if not (examples or text):
        raise UserError(
            "nothing to adopt: give labelled sentences, such as --examples es=es.conll, or text, such as "
            "--text es=es.txt"
        )
    if teacher and not text:
        raise UserError("--teacher: there is nothing to label. Give text, such as --text es=es.txt, or leave it out.")
    from rich.console import Console

    from metacross.adoption.adopt import adopt as adopt_languages
    from metacross.adoption.adopt import default_out
    from metacross.adoption.text import files_by_language
    from metacross.cli.display import Display

    target = out or default_out(bundle)
    try:
        with Display(Console(stderr=True)) as show:
            adopt_languages(
                bundle,
                files_by_language(text or (), "--text"),
                examples=files_by_language(examples or (), "--examples"),
                out=target,
                teachers=teacher or (),
                distilled=distil,
                overrides=overrides or (),
                show=show,
            )
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from where it was")
        raise typer.Exit(130) from None
    print_result(target)
