"""The command line: train, tune, evaluate, tag, data, index.

What a command needs is imported when it runs, so that help comes at once. Exit status: 0 done; 2 the user can mend it;
1 a run failed, or a fault of the program; 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metacross.cli.terminal import open_input, print_table, reporting, say, write_output
from metacross.errors import RunError, UserError

if TYPE_CHECKING:
    from metacross.cli.streams import TaggedItem
    from metacross.corpora.reader import Corpus
    from metacross.tagging.tagger import AdaptiveTagger

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BundleArgument = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="What a training run left: its directory, or its address (s3://...).")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings in place of the file's, such as train.lr=2e-4."),
]


AutoResume = Annotated[
    bool,
    typer.Option("--auto-resume", help="Go on if there is one of this name and these settings, else start it."),
]


Examples = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Labelled sentences, in any language, that may shape answers too."),
]


class InputFormat(StrEnum):
    """What `metacross tag` reads."""

    TEXT = "text"
    JSONL = "jsonl"
    CONLL = "conll"


class OutputFormat(StrEnum):
    """What `metacross tag` writes."""

    JSONL = "jsonl"
    CONLL = "conll"


def main() -> None:
    """The program's entry point."""
    # Read by the libraries when they are imported: no bars and notices but our own. Whoever sets them is heard.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
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
    """  # noqa: D301  # \b keeps the lines apart


@app.command(short_help="Train a tagger.")
def train(
    overrides: Overrides = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Settings over those of ray_config.yaml; may be given again."),
    ] = None,
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

    \b
    metacross train train.name=en
    metacross train data.source=my/train.conll data.source_dev=my/dev.conll train.steps=1000
    metacross train --config quick.yaml model.encoder=/models/xlm-roberta-base
    metacross train --resume runs/en
    metacross train --auto-resume train.name=en train.storage_path=/shared/runs
    """  # noqa: D301  # \b keeps the lines apart
    with reporting():
        if resume and config:
            raise UserError("a resumed run has its own configuration: leave out --config, or --resume")
        if auto_resume and resume:
            raise UserError("--auto-resume finds its run by its name, --resume by its directory: leave out one")
        from rich.console import Console

        from metacross.cli.display import Display
        from metacross.config import load_config
        from metacross.ray_session import submission_id
        from metacross.ray_training.driver import resume_config
        from metacross.ray_training.driver import train as run

        settings = resume_config(resume, overrides or ()) if resume else load_config(config, overrides or ())
        if auto_resume and not (settings.train.name or submission_id()):
            raise UserError("--auto-resume needs the run's name: give train.name=NAME")
        try:
            with Display(Console(stderr=True)) as show:
                result = run(settings, run_dir=resume, resume=resume is not None, auto_resume=auto_resume, show=show)
        except KeyboardInterrupt:
            place = resume or f"DIR (the run's directory, below {settings.train.storage_path})"
            say(f"interrupted; if a checkpoint had been written, go on with: metacross train --resume {place}")
            raise typer.Exit(130) from None
        if result.stopped:
            say(f"stopped at step {result.step}; go on with: metacross train --resume {result.run_dir}")
            raise typer.Exit(130)
        print(result.bundle)


@app.command(short_help="Search for good settings.")
def tune(
    overrides: Overrides = None,
    space: Annotated[Path | None, typer.Option(metavar="FILE", help="The search space; see tune_spaces/.")] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Settings over those of ray_config.yaml; may be given again."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="In place of the space's number.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Of the sweep, below train.storage_path.")] = None,
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
    with reporting():
        if (space is None) == (resume is None):
            raise UserError("give a search space (--space FILE), or a sweep to go on with (--resume DIR)")
        if resume and (config or overrides or trials or name or auto_resume):
            raise UserError("a resumed sweep has its own settings: leave out everything but --resume")
        from rich.console import Console

        from metacross.cli.display import Display
        from metacross.cli.tables import trials_table
        from metacross.config import load_config
        from metacross.ray_session import submission_id
        from metacross.sweeps.driver import sweep_directory
        from metacross.sweeps.driver import tune as run
        from metacross.sweeps.report import summary, write_report

        settings = load_config(config, overrides or ())
        if auto_resume and not (name or submission_id()):
            raise UserError("--auto-resume needs the sweep's name: give --name NAME")
        directory = resume or sweep_directory(settings, name)
        with Display(Console(stderr=True)) as show:
            sweep = run(
                settings,
                space,
                directory=directory,
                resume=resume is not None,
                auto_resume=auto_resume or bool(submission_id() and not (resume or name)),
                trials=trials,
                show=show,
            )
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
            print(path)


@app.command(short_help="Measure a tagger on labelled corpora.")
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
) -> None:
    """Measure a tagger on labelled corpora: entity F1 in percent, without and with adaptation.

    \b
    metacross evaluate runs/en/bundle --data es=samples/es/test.conll --data nl=samples/nl/test.conll
    metacross evaluate runs/en/bundle --data de=de.conll --neighbours 4 --json de.json 'data.tag_map={OTH: O}'
    metacross evaluate runs/en/bundle --data de=de.conll --examples a_few_labelled_german_sentences.conll
    """  # noqa: D301  # \b keeps the lines apart
    with reporting():
        files = _data_options(data or ())
        if json_file and not json_file.absolute().parent.is_dir():
            raise UserError(f"--json {json_file}: {json_file.absolute().parent} is no directory")
        from metacross.cli.tables import evaluation_table
        from metacross.tagging.tagger import AdaptiveTagger

        tagger = AdaptiveTagger.from_pretrained(bundle, overrides=overrides or ())
        _add_examples(tagger, examples or ())
        results = _evaluate(tagger, files, limit, neighbours, inner_lr)
        print_table(evaluation_table(results))
        for language, result in results.items():
            for oddity in result["oddities"]:
                say(f"{language}: {oddity}")
        if json_file:
            write_output(json_file, results)


@app.command(short_help="Tag text, JSON lines or columns.")
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
        typer.Option("--format", help="What FILE holds. Without it, its name tells: .jsonl, .conll, else text."),
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
    conll   a word a line in the first column, an empty line after each sentence
    Offsets count code points.

    \b
    echo "Ana Botín vive en Madrid." | metacross tag runs/en/bundle
    metacross tag runs/en/bundle news.jsonl --explain > tagged.jsonl
    metacross tag runs/en/bundle words.conll --output conll | less
    metacross tag --server http://localhost:8000 news.jsonl > tagged.jsonl
    """  # noqa: D301  # \b keeps the lines apart
    with reporting():
        if explain and no_adapt:
            raise UserError("--explain tells what adaptation did: leave out --no-adapt")
        if examples and no_adapt:
            raise UserError("--examples shape adaptation: leave out --no-adapt")
        bundle, file = _tag_arguments(bundle, file, server, examples)
        with open_input(file) as stream, _tagging(bundle, server, examples or ()) as tag_items:
            from metacross.cli import streams

            write = streams.as_columns if output is OutputFormat.CONLL else streams.as_json
            items = streams.read_items(stream, file, form.value if form else streams.guess_format(file))
            for group in streams.in_groups(items):
                found = tag_items(group, adapt=not no_adapt, explain=explain)
                for item, answer in zip(group, found, strict=True):
                    sys.stdout.buffer.write(write(item, answer, explain=explain))
                sys.stdout.buffer.flush()


@app.command(short_help="Show what the reader makes of corpora.")
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
    """  # noqa: D301  # \b keeps the lines apart
    with reporting():
        from metacross.cli.tables import corpus_table
        from metacross.config import load_config
        from metacross.corpora.reader import read_corpus, summarise

        overrides = [file for file in files if _is_override(file)]
        settings = load_config(None, overrides).data
        unreadable = 0
        for file in files:
            if file in overrides:
                continue
            try:
                corpus = read_corpus(file, tag_map=settings.tag_map, max_words=settings.max_words)
            except UserError as error:
                unreadable += 1
                say(f"error: {error}")
            else:
                print_table(corpus_table(file, summarise(corpus)))
        if len(overrides) == len(files):
            raise UserError("no file given, only settings")
        if unreadable:
            raise typer.Exit(2)


@app.command(short_help="Encode and index a source once, for many runs.")
def index(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; what an earlier call left is replaced.")],
    overrides: Overrides = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Settings over those of ray_config.yaml; may be given again."),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Encoders side by side: by default one per GPU, or per four CPUs."),
    ] = None,
) -> None:
    """Encode the source sentences and index them, on all of Ray's GPUs or CPUs, once for many runs.

    Memory stays bounded whatever the size of the source, if it comes in files of a bounded size.

    \b
    metacross index --out prepared data.source=my/train.conll
    metacross train data.source=my/train.conll retrieval.prepared=prepared
    """  # noqa: D301  # \b keeps the lines apart
    with reporting():
        from rich.console import Console

        from metacross.cli.display import Display
        from metacross.config import load_config
        from metacross.indexing.ray_pool import prepare_on_ray

        settings = load_config(config, overrides or ())
        with Display(Console(stderr=True)) as show:
            facts = prepare_on_ray(settings, out, actors=actors, show=show)
        parts = ", ".join(f"{name} {seconds} s" for name, seconds in facts["seconds"].items())
        say(f"{facts['sentences']} sentences, {facts['windows']} windows; {parts}")
        say(
            f"index {facts['index']} over {facts['indexed']} windows: recall@{facts['recall_at']} against exact search "
            f"{facts['recall']:.3f}"
        )
        print(out)


def _tag_arguments(
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
        from metacross.client.client import Client

        with Client(server, token=os.environ.get("METACROSS_TOKEN")) as client:
            yield partial(remote.tag_items, client)
        return
    from metacross.cli import streams
    from metacross.tagging.tagger import AdaptiveTagger

    tagger = AdaptiveTagger.from_pretrained(bundle)
    _add_examples(tagger, examples)
    yield partial(streams.tag_items, tagger)


def _add_examples(tagger: AdaptiveTagger, files: Sequence[Path]) -> None:
    from metacross.corpora.reader import read_corpus, refuse_unknown_types, require_entities

    settings = tagger.config.data
    for file in files:
        corpus = read_corpus(file, tag_map=settings.tag_map, max_words=settings.max_words)
        require_entities(corpus)
        refuse_unknown_types(corpus, tagger.tags, tag_map=settings.tag_map)
        added = sum(map(bool, tagger.add_examples(corpus.sentences)))
        say(f"{file}: {added} of {len(corpus.sentences)} sentences may shape answers")


def _data_options(options: Sequence[str]) -> dict[str, str]:
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


def _evaluate(
    tagger: AdaptiveTagger,
    files: Mapping[str, str],
    limit: int | None,
    neighbours: int | None,
    inner_lr: float | None,
) -> dict[str, dict[str, Any]]:
    from rich.console import Console
    from rich.progress import Progress

    from metacross.corpora.reader import read_corpus
    from metacross.tagging.evaluation import evaluate

    settings = tagger.config.data
    corpora: dict[str, Corpus] = {
        language: read_corpus(
            file,
            tag_map=settings.tag_map,
            language=language if re.fullmatch("[a-z]{2,3}", language) else None,
            max_words=settings.max_words,
        )
        for language, file in files.items()
    }
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {
            language: bars.add_task(language, total=min(limit or len(corpus.sentences), len(corpus.sentences)))
            for language, corpus in corpora.items()
        }
        return evaluate(
            tagger,
            corpora,
            limit=limit,
            neighbours=neighbours,
            inner_lr=inner_lr,
            tick=lambda language, done: bars.advance(tasks[language], done),
        )


# --- data ------------------------------------------------------------------------------------------------------------


def _is_override(argument: str) -> bool:
    return re.match(r"\w+\.\w+\s*=", argument) is not None and not Path(argument).exists()


if __name__ == "__main__":
    main()
