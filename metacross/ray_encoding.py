"""Encoding on Ray Data: sentences stream from Parquet through a pool of encoders to Parquet.

The coat around `window_vectors.WindowEncoder`, which does the work in every actor. Blocks are a shard each, so what is
under way is a few shards per actor, whatever the size of the source.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch

from metacross.config import Config
from metacross.device import pick_device
from metacross.errors import RunError, UserError
from metacross.indexing import Clock, prepare
from metacross.ray_session import cluster_resources, ray_session
from metacross.window_vectors import BATCH, Show, WindowEncoder

OBJECT_STORE_BYTES = 256 << 20  # of a Ray that is started here; a shard's vectors are 6 MiB at a hidden size of 384
BLOCK_BYTES = 32 << 20  # blocks above this are split; a shard is below it
IO_CPUS = 0.25  # that Ray reserves for a task which reads or writes a shard
ACTOR_CPUS = 4  # threads of an encoder on CPUs, where there are that many: more encoders would only take more memory
POLL_SECONDS = 1.0  # between two looks at what is written


@dataclass(frozen=True)
class Pool:
    """Encoders side by side.

    Attributes:
        actors: how many.
        use_gpu: a GPU for each.
        cpus: that Ray reserves for each.
        threads: torch's in each.
    """

    actors: int
    use_gpu: bool
    cpus: float
    threads: int


def pool(use_gpu: bool | str, cluster: dict[str, float], *, actors: int | None = None) -> Pool:
    """An encoder per GPU, or else per four CPUs; something is left for reading and writing.

    Args:
        use_gpu: true, false, or `auto`: where there are any.
        cluster: what Ray has, as `ray.cluster_resources` tells it.
        actors: the caller's choice of how many.

    Raises:
        UserError: more encoders than there is room for.

    >>> pool("auto", {"CPU": 16.0, "GPU": 2.0})
    Pool(actors=2, use_gpu=True, cpus=1, threads=8)
    >>> pool("auto", {"CPU": 2.0})
    Pool(actors=1, use_gpu=False, cpus=1, threads=2)
    """
    cpus, gpus = int(cluster.get("CPU", 1)), 0 if use_gpu is False else int(cluster.get("GPU", 0))
    if use_gpu is True and not gpus:
        raise UserError("train.use_gpu=true but Ray sees no GPU. Set it to auto.")
    room = gpus or cpus
    if actors is not None and actors > room:
        raise UserError(f"--actors {actors}: Ray has {room} {'GPUs' if gpus else 'CPUs'}. Ask for at most {room}.")
    count = actors or gpus or max(1, cpus // ACTOR_CPUS)
    # Whole CPUs or a fraction below one; a reading and a writing task fit in beside them.
    share = (cpus - 2 * IO_CPUS) / count
    reserved = (1 if gpus else int(share)) if share >= 1 else int(share * 100) / 100
    return Pool(count, gpus > 0, reserved, max(1, cpus // count))


def prepare_on_ray(config: Config, out: Path, *, actors: int | None = None, show: Show) -> dict[str, Any]:
    """`indexing.prepare` with the encoding on Ray, on all of the cluster's GPUs or CPUs; see there.

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS, whose nodes must all see `out`; else starts Ray
    on this machine for as long as it takes to encode.
    """

    def encode(sentences: Path, vectors: Path, total: int) -> None:
        encode_on_ray(config, sentences, vectors, total, actors=actors, show=show)

    return prepare(config, out, encode=encode, use_gpu="auto" if config.train.use_gpu else False, show=show)


def encode_on_ray(
    config: Config, sentences: Path, vectors: Path, total: int, *, actors: int | None = None, show: Show
) -> None:
    """Encodes the shards in `sentences` into files in `vectors`; `total` is the number of sentences, for the clock.

    Raises:
        UserError: there is no room for the encoders.
        RunError: an encoder failed.
    """
    with ray_session(object_store_bytes=OBJECT_STORE_BYTES) as ours, _quiet_and_in_order():
        cluster = cluster_resources()
        if ours and config.train.use_gpu == "auto":
            cluster["GPU"] = min(cluster.get("GPU", 0), torch.cuda.device_count())
        found = pool(config.train.use_gpu, cluster, actors=actors)
        show({"event": "note", "text": f"{found.actors} encoders, {'a GPU' if found.use_gpu else 'no GPU'} each"})
        try:
            with _watched(vectors, total, show):
                ray.data.read_parquet(str(sentences.absolute()), num_cpus=IO_CPUS).map_batches(
                    Encoder,
                    fn_constructor_kwargs={"config": config, "use_gpu": found.use_gpu, "threads": found.threads},
                    batch_size=BATCH,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=found.actors),
                    num_cpus=found.cpus,
                    num_gpus=1 if found.use_gpu else 0,
                ).write_parquet(str(vectors.absolute()), ray_remote_args={"num_cpus": IO_CPUS})
        except (ray.exceptions.RayError, RuntimeError, OSError) as error:
            cause = getattr(error, "cause", None) or error
            summary = (str(cause).strip() or "no message").splitlines()[-1]
            raise RunError(f"encoding failed: {type(cause).__name__}: {summary}. Nothing was kept.") from error


class Encoder(WindowEncoder):
    """A `WindowEncoder` in an actor of its own."""

    def __init__(self, config: Config, use_gpu: bool, threads: int) -> None:
        super().__init__(config, device=pick_device(use_gpu), threads=threads)


@contextmanager
def _quiet_and_in_order() -> Iterator[None]:
    """Ray Data's settings for the block: files keep the order of the sentences, and nothing is printed."""
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = BLOCK_BYTES
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


@contextmanager
def _watched(vectors: Path, total: int, show: Show) -> Iterator[None]:
    """Tells, from a thread, how many windows stand in the files that are finished, and once more at the end."""
    clock, over = Clock("encoding source", total, show), threading.Event()
    rows: dict[Path, int] = {}

    def look() -> None:
        before = len(rows)
        for file in set(vectors.glob("*.parquet")) - rows.keys():
            try:
                rows[file] = pq.read_metadata(file).num_rows
            except (OSError, pa.ArrowInvalid):  # still being written
                continue
        if len(rows) > before:
            clock(min(sum(rows.values()), total))

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            look()

    thread = threading.Thread(target=watch, name="encoding-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    look()
