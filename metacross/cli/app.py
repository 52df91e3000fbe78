"""The command line: `metacross train`, `tune`, `adopt`, `reproduce` and the others that are registered here.

Each command is a module of this package. What it needs is imported when it runs, so that help comes at once. Exit
status: 0 done; 2 the user can fix it; 1 a run failed, or the program has a fault; 130 interrupted.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from metacross.cli import adopt, average, convert, data, doctor, evaluate, index, reproduce, serve, tag, train, tune

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="Train a tagger.")(train.train)
app.command(short_help="Search for good settings.")(tune.tune)
app.command(short_help="Make one tagger of several that differ in their seeds.")(average.average)
app.command(short_help="Adopt languages by a few labelled sentences, or by text.")(adopt.adopt)
app.command(short_help="Compare methods over seeds and languages.")(reproduce.reproduce)
app.command(short_help="Measure a tagger on labelled corpora.")(evaluate.evaluate)
app.command(short_help="Tag text, JSON lines or columns.")(tag.tag)
app.command(short_help="Answer over HTTP, with a page to try it.")(serve.serve)
app.command(short_help="Show what the reader makes of corpora.")(data.data)
app.command(short_help="Write a corpus in another format.")(convert.convert)
app.command(short_help="Encode and index a source once, for many runs.")(index.index)
app.command(short_help="Look at the cluster, or this machine, and say what would go wrong.")(doctor.doctor)


def main() -> None:
    """The program's entry point."""
    # The libraries read these when they are imported. Bars of downloads would run into our own display; notices about
    # forked processes mean nothing to users. A user who sets the variables keeps his own values.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app(prog_name="metacross")


def _show_version(wanted: bool) -> None:
    if wanted:
        from metacross import __version__

        print(f"metacross {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Named entity recognition that adapts itself to every sentence, in languages it has no labels for.

    \b
    metacross data samples/en/train.conll          look at a corpus
    metacross train train.name=en                  train on it; settings come from ray_config.yaml
    metacross evaluate runs/en/bundle --data es=samples/es/test.conll
    echo "Ana Botín vive en Madrid." | metacross tag runs/en/bundle
    metacross serve runs/en/bundle                 answer over HTTP; the page is at http://localhost:8000
    """  # noqa: D301  # \b keeps the lines apart
