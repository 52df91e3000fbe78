"""`metacross tag`: by a bundle here, or by a service elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import Examples, add_examples
from metacross.cli.terminal import reporting, say
from metacross.errors import UserError

if TYPE_CHECKING:
    from metacross.cli.streams import TaggedItem


class InputFormat(StrEnum):
    """What `metacross tag` reads."""

    TEXT = "text"
    JSONL = "jsonl"
    CONLL = "conll"
    CORPUS = "corpus"


class OutputFormat(StrEnum):
    """What `metacross tag` writes."""

    JSONL = "jsonl"
    CONLL = "conll"


@reporting()
def tag(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE", help="What a training run left: its directory, or its address. Not with --server."
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", show_default="-", help="What to tag; - is standard input.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Let the service there tag; METACROSS_TOKEN holds the token, if it needs one."
        ),
    ] = None,
    form: Annotated[
        InputFormat | None,
        typer.Option("--format", help="What FILE holds. Without it, its name tells: .txt is text, .conll a corpus."),
    ] = None,
    no_adapt: Annotated[bool, typer.Option("--no-adapt", help="Tag all by the same weights.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also tell the source sentences adapted to, and what was found before.")
    ] = False,
    output: Annotated[OutputFormat, typer.Option(help="What to write.")] = OutputFormat.JSONL,
    examples: Examples = None,
) -> None:
    """Tag text, line by line; a file of any length needs little memory.

    \b
    text    a text a line; sentences and words are found in it
    jsonl   an object a line with "text", or with "tokens" or "words"; its other keys are kept
    conll   a word a line, an empty line after each sentence
    corpus  any file that `metacross data` reads, without tags too; or a table with a column "text"
    Offsets count code points.

    \b
    echo "Ana Botín vive en Madrid." | metacross tag runs/en/bundle
    metacross tag runs/en/bundle news.jsonl --explain > tagged.jsonl
    metacross tag runs/en/bundle words.conll --output conll | less
    metacross tag --server http://localhost:8000 news.jsonl > tagged.jsonl
    """  # noqa: D301  # \b keeps the lines apart
    if explain and no_adapt:
        raise UserError("--explain tells what adaptation did: leave out --no-adapt")
    if examples and no_adapt:
        raise UserError("--examples shape adaptation: leave out --no-adapt")
    bundle, file = _bundle_and_file(bundle, file, server, examples)
    from metacross.cli import streams

    write = streams.as_columns if output is OutputFormat.CONLL else streams.as_json
    opened = streams.opened_items(file, form.value if form else streams.guess_format(file))
    with opened as (source, items), _tagging(bundle, server, examples or ()) as tag_items:
        for group in streams.in_groups(items):
            answers = tag_items(group, adapt=not no_adapt, explain=explain)
            for item, answer in zip(group, answers, strict=True):
                sys.stdout.buffer.write(write(item, answer, explain=explain))
            sys.stdout.buffer.flush()
        for oddity in source.oddities.lines():
            say(f"{file}: {oddity}")


def _bundle_and_file(
    bundle: str | None, file: str | None, server: str | None, examples: Sequence[Path] | None
) -> tuple[str, str]:
    """BUNDLE ("" with a server) and FILE. With a server, the first argument is FILE."""
    if server is None:
        if bundle is None:
            raise UserError("nothing to tag with: give BUNDLE, or --server URL; see metacross tag --help")
        return bundle, file or "-"
    if bundle is not None and file is not None:
        raise UserError(f"--server tags with a bundle of its own: leave out --server, or {bundle}")
    if examples:
        raise UserError(
            "--examples with --server: a service keeps its examples itself. Send them there, once "
            "(POST /v1/examples; in Python Client.add_examples), and leave out --examples."
        )
    return "", bundle or "-"


@contextmanager
def _tagging(bundle: str, server: str | None, examples: Sequence[Path]) -> Iterator[Callable[..., list[TaggedItem]]]:
    """What tags a group of items: the service's client, without torch, or the bundle's tagger."""
    if server is not None:
        from metacross.cli import remote
        from metacross.client import Client

        with Client(server, token=os.environ.get("METACROSS_TOKEN")) as client:
            yield partial(remote.tag_items, client)
        return
    from metacross.cli import streams
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(bundle)
    add_examples(tagger, examples)
    yield partial(streams.tag_items, tagger)
