"""`metacross data`."""

from __future__ import annotations

from typing import Annotated

import typer

from metacross.cli.options import is_override
from metacross.cli.terminal import print_table, reporting, say
from metacross.errors import UserError


@reporting()
def data(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|KEY=VALUE", help="Corpora, or hf:NAME; settings such as data.max_words=80."),
    ],
) -> None:
    """Show what the reader makes of corpora: format, scheme, figures, and all that is odd in them.

    \b
    metacross data samples/*/*.conll
    metacross data my.conll 'data.tag_map={OTH: O}'
    metacross data nested.tsv data.tag_column=4
    """  # noqa: D301  # \b keeps the lines apart
    from metacross.cli.tables import corpus_table
    from metacross.config_loading import load_config
    from metacross.corpora.from_config import read_configured
    from metacross.corpora.reader import summarise

    overrides = [argument for argument in files if is_override(argument)]
    settings = load_config(None, overrides).data
    unreadable = 0
    for file in files:
        if file in overrides:
            continue
        try:
            corpus = read_configured(file, settings)
        except UserError as error:
            unreadable += 1
            say(f"error: {error}")
        else:
            print_table(corpus_table(file, summarise(corpus)))
    if len(overrides) == len(files):
        raise UserError("no file given, only settings")
    if unreadable:
        raise typer.Exit(2)
