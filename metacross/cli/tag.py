"""`metacross tag`: by a bundle here, or by a service elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import Examples, Processes, add_examples
from metacross.cli.terminal import reporting, say
from metacross.errors import UserError
from metacross.wording import counted

if TYPE_CHECKING:
    from metacross.bulk.items import Item
    from metacross.bulk.lines import Lines, Wanted


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


Bundle = Annotated[
    str | None,
    typer.Argument(
        metavar="BUNDLE", help="What a training run left: its directory, or its address. Not with --server."
    ),
]
File = Annotated[str | None, typer.Argument(metavar="FILE", show_default="-", help="What to tag; - is standard input.")]
Server = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Let the service there tag; METACROSS_TOKEN holds the token, if it needs one."),
]
Form = Annotated[
    InputFormat | None,
    typer.Option("--format", help="What FILE holds. Without it, its name tells: .txt is text, .conll a corpus."),
]
NoAdapt = Annotated[bool, typer.Option("--no-adapt", help="Tag all by the same weights.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Also tell the source sentences adapted to, and what was found before.")
]
OnRay = Annotated[bool, typer.Option("--ray", help="Tag on all of Ray's GPUs or CPUs, into --out.")]
Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="With --ray: a directory, or an address, that gets the parts.")
]
Actors = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="With --ray: taggers, by default one per GPU, or per four CPUs.")
]


@reporting()
def tag(
    bundle: Bundle = None,
    file: File = None,
    server: Server = None,
    form: Form = None,
    no_adapt: NoAdapt = False,
    explain: Explain = False,
    output: Annotated[OutputFormat, typer.Option(help="What to write.")] = OutputFormat.JSONL,
    examples: Examples = None,
    processes: Processes = None,
    on_ray: OnRay = False,
    out: Out = None,
    actors: Actors = None,
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
    metacross tag s3://bucket/runs/en/bundle news.jsonl --ray --out s3://bucket/news   then the same again to go on
    """  # noqa: D301  # \b keeps the lines apart
    _refuse_contradictions(
        explain=explain,
        no_adapt=no_adapt,
        examples=bool(examples),
        server=server is not None,
        on_ray=on_ray,
        out=out is not None,
        processes=processes is not None,
        actors=actors is not None,
    )
    bundle, file = _bundle_and_file(bundle, file, server, examples)
    from metacross.bulk.items import guess_format, in_groups, opened_items
    from metacross.bulk.lines import Wanted

    wanted = Wanted(adapt=not no_adapt, explain=explain, output=output.value)
    with opened_items(file, form.value if form else guess_format(file)) as (source, items):
        if out is not None:
            _tag_on_ray(bundle, items, out, wanted, examples=examples or (), actors=actors)
        else:
            with _tagging(bundle, server, examples or (), wanted, processes) as tagged:
                for lines in tagged(in_groups(items)):
                    _write(lines)
        for oddity in source.oddities.lines():
            say(f"{file}: {oddity}")


def _write(lines: Lines) -> None:
    """Writes what was found in a group of items; UserError where one of them cannot be written."""
    sys.stdout.buffer.write(lines.content)
    sys.stdout.buffer.flush()
    if lines.error:
        raise UserError(lines.error)


def _refuse_contradictions(
    *,
    explain: bool,
    no_adapt: bool,
    examples: bool,
    server: bool,
    on_ray: bool,
    out: bool,
    processes: bool,
    actors: bool,
) -> None:
    """Raises UserError where options do not go together."""
    for wrong, message in (
        (explain and no_adapt, "--explain tells what adaptation did: leave out --no-adapt"),
        (examples and no_adapt, "--examples shape adaptation: leave out --no-adapt"),
        (on_ray and server, "--ray tags with a bundle and --server with a service: leave out one of them"),
        (on_ray and not out, "--ray writes parts into a directory or an address: --out DIR"),
        ((out or actors) and not on_ray, "--out and --actors are for --ray; without it, the output can be redirected"),
        (processes and (on_ray or server), "--processes are this machine's: leave out --ray and --server"),
    ):
        if wrong:
            raise UserError(message)


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
def _tagging(
    bundle: str, server: str | None, examples: Sequence[Path], wanted: Wanted, processes: int | None
) -> Iterator[Callable[[Iterable[list[Item]]], Iterator[Lines]]]:
    """What tags groups of items: the service's client, without torch, or the bundle's tagger."""
    from metacross.bulk.lines import lines_of, tag_lines

    if server is not None:
        from metacross.cli import remote
        from metacross.client import Client

        def ask(items: list[Item]) -> Lines:
            answers = remote.tag_items(client, items, adapt=wanted.adapt, explain=wanted.explain)
            return lines_of(items, answers, wanted)

        with Client(server, token=os.environ.get("METACROSS_TOKEN")) as client:
            yield partial(map, ask)
        return
    from metacross.bulk.processes import Taggers
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(bundle)
    added = add_examples(tagger, examples)
    taggers = Taggers(tagger, bundle, examples=added, processes=processes)
    yield partial(taggers.map, partial(tag_lines, wanted=wanted))


def _tag_on_ray(
    bundle: str, items: Iterator[Item], out: str, wanted: Wanted, *, examples: Sequence[Path], actors: int | None
) -> None:
    from rich.console import Console

    from metacross.bulk.on_ray import Source, tag_on_ray
    from metacross.cli.display import Display
    from metacross.storage.addresses import is_address
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(bundle, device="cpu")  # what is wrong with it or the examples shows here
    added = add_examples(tagger, examples)
    place = bundle if is_address(bundle) else str(Path(bundle).absolute())
    source = Source(place, digest=tagger.bundle.digest, examples=added, wanted=wanted)
    del tagger
    with Display(Console(stderr=True)) as show:
        parts, before = tag_on_ray(items, out, source, actors=actors, show=show)
    say(f"{out}: {counted(parts, 'parts')}{f', {before} of them from an earlier call' if before else ''}")
