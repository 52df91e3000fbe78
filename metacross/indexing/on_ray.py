"""Encoding on Ray Data: a pool of actors turns parts of sentences into parts of vectors.

A thin wrapper around `window_encoder.WindowEncoder`, which does the work in every actor. At any time each actor holds
one part, so memory does not depend on the size of the source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from metacross.actor_pool import actor_pool, first_cause, quiet
from metacross.config import Config
from metacross.encoder.device import pick_device
from metacross.errors import RunError
from metacross.events import Note, Show
from metacross.indexing.build import Clock, prepare
from metacross.indexing.parts import parts_to_encode
from metacross.indexing.window_encoder import WindowEncoder, encode_part
from metacross.ray_session import ray_session
from metacross.retrieval.prepared import Facts
from metacross.wording import counted


def prepare_on_ray(
    config: Config, out: Path, *, shards: int | None = None, actors: int | None = None, show: Show
) -> Facts:
    """`build.prepare` with the encoding on Ray, on all of the cluster's GPUs or CPUs.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS, whose nodes must all see `out`; else starts Ray
    on this machine for as long as it takes to encode. Arguments, result and errors are those of `build.prepare`, but
    for `actors`: the number of encoders, None for as many as there is room for.
    """

    def encode(sentences: Path, vectors: Path, total: int) -> None:
        encode_on_ray(config, sentences, vectors, total, actors=actors, show=show)

    use_gpu = "auto" if config.train.use_gpu else False
    return prepare(config, out, shards=shards, encode=encode, use_gpu=use_gpu, show=show)


def encode_on_ray(
    config: Config, sentences: Path, vectors: Path, total: int, *, actors: int | None = None, show: Show
) -> None:
    """Encodes the parts in `sentences` into files in `vectors`, except those that are there already.

    Args:
        config: see `build.prepare`.
        sentences: directory of the parts of sentences.
        vectors: directory that the parts of vectors are written to.
        total: the number of sentences, to estimate the time left.
        actors: the number of encoders; None for as many as there is room for.
        show: see `build.prepare`.

    Raises:
        UserError: there is no room for the encoders.
        RunError: an encoder failed.
    """
    parts, done = parts_to_encode(sentences, vectors)
    if not parts:
        return
    with ray_session() as ours, quiet():
        encoders = actor_pool(config.train.use_gpu, ours=ours, actors=actors)
        show(Note(f"{counted(encoders.actors, 'encoders')}, {'with' if encoders.use_gpu else 'without'} GPU"))
        paths = [str(path.absolute()) for path in parts]
        # A block is a part's path. Each part becomes a file of its own, so their order does not matter. (Blocks of
        # rows did not do: Ray Data joined and reordered them in spite of `preserve_order`, and neighbours are counted
        # by their place.)
        encoded = ray.data.from_items(paths, override_num_blocks=len(paths)).map_batches(
            Encoder,
            fn_constructor_kwargs={
                "config": config,
                "use_gpu": encoders.use_gpu,
                "threads": encoders.threads,
                "vectors": vectors.absolute(),
            },
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(encoders.actors, len(paths))),
            num_cpus=encoders.cpus,
            num_gpus=1 if encoders.use_gpu else 0,
        )
        clock = Clock("encoding source", total, show, before=done)
        try:
            for row in encoded.iter_rows():
                done += row["sentences"]
                clock(done)
        except (ray.exceptions.RayError, RuntimeError, OSError) as error:
            raise RunError(
                f"encoding failed: {first_cause(error)}. What is encoded is kept; run the command again."
            ) from error


class Encoder:
    """A `WindowEncoder` in an actor of its own."""

    def __init__(self, config: Config, use_gpu: bool, threads: int, vectors: Path) -> None:
        self._encoder = WindowEncoder(config, device=pick_device(use_gpu), threads=threads)
        self._vectors = vectors

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
        """Encodes parts, given by their paths; returns how many sentences each has."""
        done = [encode_part(self._encoder, Path(part), self._vectors) for part in batch["item"]]
        return {"sentences": np.array(done)}
