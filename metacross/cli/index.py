"""`metacross index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metacross.cli.options import ConfigFiles, Overrides
from metacross.cli.terminal import print_result, reporting, say
from metacross.wording import counted


@reporting()
def index(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; what an earlier call left is replaced.")],
    overrides: Overrides = None,
    config: ConfigFiles = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Encoders side by side: by default one per GPU, or per four CPUs."),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Make an index in N shards for a service, in place of one for runs."),
    ] = None,
) -> None:
    """Encode the source sentences and index them, on all of Ray's GPUs or CPUs, once for many runs or for a service.

    Memory stays bounded whatever the size of the source, if it comes in files of a bounded size.

    \b
    metacross index --out prepared data.source=my/train.conll
    metacross train data.source=my/train.conll retrieval.prepared=prepared
    \b
    metacross index --shards 4 --out shards data.source=all/of/it.conll
    metacross serve runs/first/bundle serve.index_shards=shards
    """  # noqa: D301  # \b keeps the lines apart
    from rich.console import Console

    from metacross.cli.display import Display
    from metacross.config_loading import load_config
    from metacross.indexing.on_ray import prepare_on_ray
    from metacross.retrieval.index_shard import read_shards

    settings = load_config(config, overrides or ())
    with Display(Console(stderr=True)) as show:
        facts = prepare_on_ray(settings, out, shards=shards, actors=actors, show=show)
    parts = ", ".join(f"{name} {seconds} s" for name, seconds in facts["seconds"].items())
    say(f"{counted(facts['sentences'], 'sentences')}, {counted(facts['windows'], 'windows')}; {parts}")
    say(
        f"index {facts['index']} over {counted(facts['indexed'], 'windows')}: recall@{facts['recall_at']} against "
        f"exact search {facts['recall']:.3f}"
    )
    if shards is not None and (whole := read_shards(out))["quantized"]:
        say(f"with the best {whole['reranked']} re-ranked by their vectors: {whole['recall_reranked']:.3f}")
    print_result(out)
