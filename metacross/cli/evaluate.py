"""`metacross evaluate`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metacross.cli.options import BundleArgument, Examples, Overrides, Processes, add_examples
from metacross.cli.terminal import print_table, reporting, say, write_output
from metacross.errors import UserError

if TYPE_CHECKING:
    from metacross.bulk.processes import Taggers
    from metacross.corpora.reader import Corpus
    from metacross.tagging.tagger import AdaptiveTagger


@reporting()
def evaluate(
    bundle: BundleArgument,
    overrides: Overrides = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=FILE", help="A labelled corpus, such as es=es.conll; one for each language."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N sentences of each, spread evenly over the file.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write all figures into this file as well.")
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Source sentences that a sentence is adapted to.")
    ] = None,
    inner_lr: Annotated[float | None, typer.Option(metavar="X", help="Inner learning rate of the adaptation.")] = None,
    examples: Examples = None,
    processes: Processes = None,
) -> None:
    """Measure a tagger on labelled corpora: entity F1 in percent, without and with adaptation.

    \b
    metacross evaluate runs/en/bundle --data es=samples/es/test.conll --data nl=samples/nl/test.conll
    metacross evaluate runs/en/bundle --data de=de.conll --neighbours 4 --json de.json 'data.tag_map={OTH: O}'
    metacross evaluate runs/en/bundle --data de=de.conll --examples a_few_labelled_german_sentences.conll
    """  # noqa: D301  # \b keeps the lines apart
    files = _files_by_language(data or ())
    if json_file and not json_file.absolute().parent.is_dir():
        raise UserError(f"--json {json_file}: {json_file.absolute().parent} is no directory")
    from metacross.bulk.processes import Taggers
    from metacross.cli.tables import evaluation_table
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(bundle, overrides=overrides or ())
    added = add_examples(tagger, examples or ())
    taggers = Taggers(tagger, bundle, overrides=overrides or (), examples=added, processes=processes)
    results = _measure(tagger, taggers, files, limit, neighbours, inner_lr)
    print_table(evaluation_table(results))
    for language, result in results.items():
        for oddity in result["oddities"]:
            say(f"{language}: {oddity}")
    if json_file:
        write_output(json_file, results)


def _files_by_language(options: Sequence[str]) -> dict[str, str]:
    """--data es=FILE ... -> language -> file."""
    files: dict[str, str] = {}
    for option in options:
        language, _, file = option.partition("=")
        if not file or not re.fullmatch(r"[A-Za-z][\w-]*", language):
            raise UserError(f"--data {option}: expected a language and a file, such as --data es=es.conll")
        if language in files:
            raise UserError(f"--data {option}: {language} was given before, as {files[language]}; each only once")
        files[language] = file
    if not files:
        raise UserError("nothing to measure on: give corpora, such as --data es=es.conll")
    return files


def _measure(
    tagger: AdaptiveTagger,
    taggers: Taggers,
    files: Mapping[str, str],
    limit: int | None,
    neighbours: int | None,
    inner_lr: float | None,
) -> dict[str, dict[str, Any]]:
    """What `evaluation.evaluate` returns, with a bar for each language while it runs."""
    from rich.console import Console
    from rich.progress import Progress

    from metacross.corpora.from_config import read_configured
    from metacross.tagging import evaluation

    settings = tagger.config.data
    corpora: dict[str, Corpus] = {
        language: read_configured(file, settings, language=language if re.fullmatch("[a-z]{2,3}", language) else None)
        for language, file in files.items()
    }
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {
            language: bars.add_task(language, total=min(limit or len(corpus.sentences), len(corpus.sentences)))
            for language, corpus in corpora.items()
        }
        return evaluation.evaluate(
            tagger,
            corpora,
            limit=limit,
            neighbours=neighbours,
            inner_lr=inner_lr,
            tick=lambda language, done: bars.advance(tasks[language], done),
            mapped=taggers.map,
        )
