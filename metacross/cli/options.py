"""Arguments and options that several commands share, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.terminal import say
from metacross.wording import counted

if TYPE_CHECKING:
    from metacross.corpora.sentence import Sentence
    from metacross.tagging.tagger import AdaptiveTagger

BundleArgument = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="What a training run left: its directory, or its address (s3://...).")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings in place of the file's, such as train.lr=2e-4."),
]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", metavar="FILE", help="Settings over those of ray_config.yaml; may be given again."),
]
AutoResume = Annotated[
    bool,
    typer.Option("--auto-resume", help="Go on if there is one of this name and these settings, else start it."),
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Processes that tag beyond 8,192 sentences: by default one per core, 8 at most."
    ),
]
Examples = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Labelled sentences, in any language, that may shape answers too."),
]


def is_override(argument: str) -> bool:
    """Whether an argument is a setting such as data.max_words=80, and not the name of an existing file."""
    return re.match(r"\w+\.\w+\s*=", argument) is not None and not Path(argument).exists()


def add_examples(tagger: AdaptiveTagger, files: Sequence[Path]) -> list[Sentence]:
    """Adds the labelled sentences of --examples files to a tagger, says how many of them count, and returns them.

    Raises:
        UserError: a file cannot be read, has no entities, or has types that the tagger does not know.
    """
    from metacross.corpora.from_config import read_configured
    from metacross.corpora.refusals import refuse_unknown_types, require_entities

    settings = tagger.config.data
    examples: list[Sentence] = []
    for file in files:
        corpus = read_configured(str(file), settings)
        require_entities(corpus)
        refuse_unknown_types(corpus, tagger.tags, tag_map=settings.tag_map)
        examples += corpus.sentences
        added = sum(map(bool, tagger.add_examples(corpus.sentences)))
        for oddity in corpus.oddities:
            say(f"{file}: {oddity}")
        say(f"{file}: {added} of {counted(len(corpus.sentences), 'sentences')} may shape answers")
    return examples
