"""Encoding on Ray Data: a pool of actors turns parts of sentences into parts of vectors.

A thin wrapper around `window_encoder.WindowEncoder`, which does the work in every actor. At any time each actor holds
one part, so memory does not depend on the size of the source.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray

from metacross.config import Config
from metacross.encoder.device import pick_device
from metacross.errors import RunError, UserError
from metacross.events import Note, Show
from metacross.indexing.build import Clock, prepare
from metacross.indexing.parts import parts_to_encode
from metacross.indexing.window_encoder import WindowEncoder, encode_part
from metacross.ray_session import cluster_resources, ray_session
from metacross.retrieval.prepared import Facts

ACTOR_CPUS = 4  # threads of an encoder on CPUs, if there are that many; more encoders would only take more memory


@dataclass(frozen=True)
class EncoderPool:
    """How many encoders run side by side, and what each of them gets.

    Attributes:
        actors: number of encoders.
        use_gpu: whether each gets a GPU.
        cpus: CPUs that Ray reserves for each.
        threads: number of torch's threads in each.
    """

    actors: int
    use_gpu: bool
    cpus: float
    threads: int


def pool(use_gpu: bool | str, cluster: dict[str, float], *, actors: int | None = None) -> EncoderPool:
    """Chooses a pool: an encoder per GPU, or without GPUs one per four CPUs.

    Args:
        use_gpu: true, false, or `auto`: if there are any.
        cluster: Ray's resources, as `ray.cluster_resources` returns them.
        actors: number of encoders, if the caller chooses it.

    Raises:
        UserError: there is no room for so many encoders.

    >>> pool("auto", {"CPU": 16.0, "GPU": 2.0})
    EncoderPool(actors=2, use_gpu=True, cpus=1, threads=8)
    >>> pool("auto", {"CPU": 2.0})
    EncoderPool(actors=1, use_gpu=False, cpus=2, threads=2)
    """
    cpus, gpus = int(cluster.get("CPU", 1)), 0 if use_gpu is False else int(cluster.get("GPU", 0))
    if use_gpu is True and not gpus:
        raise UserError("train.use_gpu=true but Ray sees no GPU. Set it to auto.")
    room = gpus or cpus
    if actors is not None and actors > room:
        raise UserError(f"--actors {actors}: Ray has {room} {'GPUs' if gpus else 'CPUs'}. Ask for at most {room}.")
    count = actors or gpus or max(1, cpus // ACTOR_CPUS)
    share = cpus / count  # whole CPUs, or a fraction below one
    reserved = (1 if gpus else int(share)) if share >= 1 else int(share * 100) / 100
    return EncoderPool(count, gpus > 0, reserved, max(1, cpus // count))


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
        cluster = cluster_resources()
        if ours and config.train.use_gpu == "auto":
            # Ray counts GPUs that this build of torch may not be able to use.
            cluster["GPU"] = min(cluster.get("GPU", 0), torch.cuda.device_count())
        encoders = pool(config.train.use_gpu, cluster, actors=actors)
        show(Note(f"{encoders.actors} encoders, {'a GPU' if encoders.use_gpu else 'no GPU'} each"))
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


def first_cause(error: BaseException) -> str:
    """The error that an encoder raised, in one line; Ray passes it on only in the text of its own errors."""
    text = str(error).strip() or type(error).__name__
    raised = re.search(r"^(?!ray\.)[\w.]*(?:Error|Exception)\b.*$", text, re.MULTILINE)
    return raised[0] if raised else f"{type(error).__name__}: {text.splitlines()[0]}"


class Encoder:
    """A `WindowEncoder` in an actor of its own."""

    def __init__(self, config: Config, use_gpu: bool, threads: int, vectors: Path) -> None:
        self._encoder = WindowEncoder(config, device=pick_device(use_gpu), threads=threads)
        self._vectors = vectors

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
        """Encodes parts, given by their paths; returns how many sentences each has."""
        done = [encode_part(self._encoder, Path(part), self._vectors) for part in batch["item"]]
        return {"sentences": np.array(done)}


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Ray Data from printing anything inside the block."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
