"""Makes a prepared source (prepared.py) without Ray: encoded, indexed, measured, in parts of bounded size.

Shards are encoded by whatever `encode` is handed in (ray_encoding.py: an actor pool; by default: this process). Those
that an interrupted call has encoded wait beside the place that is to be made, and the next call goes on with them. The
index is trained on a sample and filled a file at a time. Held whole are a few numbers per window, and the index.

Shapes: M windows, N of them in the index, K neighbours, H vector size, B windows of a file, Q looked up for the recall.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from metacross.config import Config
from metacross.errors import RunError, UserError
from metacross.events import Note, Preparation, Show
from metacross.indexing.shards import Encoded, write_sentences
from metacross.indexing.window_encoder import WindowEncoder, encode_here
from metacross.retrieval.index import UntrainedIndex, VectorIndex, factory_string
from metacross.retrieval.prepared import FILE, FORMAT, INDEX, NEIGHBOURS, encoder_digest, made_from
from metacross.sequences import spread
from metacross.storage.directories import write_directory
from metacross.storage.files import file_record
from metacross.time_left import TimeLeft

QUERIES = 500  # windows looked up for the recall
RECALL_AT = 10  # neighbours compared for it
ROUNDING = 1e-6  # similarities closer than this are equal

Encode = Callable[[Path, Path, int], None]  # sentences/, vectors/ with the shards of before, how many sentences


def build_index(
    encoded: Encoded, candidates: NDArray[np.int64], untrained: UntrainedIndex, *, use_gpu: bool | str, show: Show
) -> VectorIndex:
    """The index over the `candidates`, trained on a sample of them spread evenly, filled a file at a time."""
    show(Note(f"index: {untrained.factory} over {len(candidates)} windows"))
    wanted = candidates[list(spread(len(candidates), untrained.wanted))] if untrained.wanted else candidates[:1]
    index = VectorIndex.empty(untrained, encoded.gather(wanted), use_gpu=use_gpu)
    for numbers, vectors_NH in encoded.batches(candidates):
        index.add(vectors_NH, numbers)
        show(Preparation("filling the index", len(index), len(candidates)))
    return index


def measure_recall(encoded: Encoded, candidates: NDArray[np.int64], index: VectorIndex, *, k: int) -> float:
    """The share of what the index finds that is as near as the K nearest others by exact search, from 0 to 1.

    Up to QUERIES windows, spread evenly, are looked up; exact search goes over the files, not over the index. Windows
    that are equally near are as good as each other.
    """
    queries = candidates[list(spread(len(candidates), QUERIES))]
    vectors_QH, owner_Q = encoded.gather(queries), encoded.owner_M[queries]
    found_QK = index.neighbours(vectors_QH, k, own_B=owner_Q, owner_M=encoded.owner_M)
    best_QK = np.full((len(queries), k), -np.inf, dtype=np.float32)
    similarity_QK = np.full((len(queries), k), -np.inf, dtype=np.float32)  # of what was found
    for numbers, vectors_NH in encoded.batches(candidates):
        similarity_QN = vectors_QH @ vectors_NH.T
        at_QK = np.searchsorted(numbers, found_QK).clip(max=len(numbers) - 1)
        here_QK = numbers[at_QK] == found_QK
        similarity_QK[here_QK] = np.take_along_axis(similarity_QN, at_QK, 1)[here_QK]
        similarity_QN[owner_Q[:, None] == encoded.owner_M[numbers]] = -np.inf
        best_QK = -np.partition(-np.concatenate([best_QK, similarity_QN], axis=1), k - 1, axis=1)[:, :k]
    return float((similarity_QK >= best_QK.min(axis=1, keepdims=True) - ROUNDING).mean())


def find_neighbours(encoded: Encoded, index: VectorIndex, *, k: int, show: Show) -> NDArray[np.int64]:
    """Each window's K nearest others (M, K), looked up a file at a time."""
    found_MK = np.empty((len(encoded.owner_M), k), dtype=np.int64)
    clock = Clock("looking up neighbours", len(found_MK), show)
    for numbers, vectors_BH in encoded.batches():
        own_B = encoded.owner_M[numbers]
        found_MK[numbers] = index.neighbours(vectors_BH, k, own_B=own_B, owner_M=encoded.owner_M)
        clock(int(numbers[-1]) + 1)
    return found_MK


class Clock:
    """Shows how far something is, and how long the rest will take at the rate so far.

    Args:
        what: is done.
        total: of it.
        show: is told.
        before: done before this began.
    """

    def __init__(self, what: str, total: int, show: Show, *, before: int = 0) -> None:
        self._what, self._total, self._show = what, total, show
        self._time_left = TimeLeft(total, done=before)

    def __call__(self, done: int) -> None:
        """Tell that `done` of the total are done."""
        self._show(Preparation(self._what, done, self._total, left=self._time_left.seconds(done)))


def prepare(
    config: Config,
    out: Path,
    *,
    encode: Encode | None = None,
    use_gpu: bool | str = False,
    show: Show = lambda event: None,
) -> dict[str, Any]:
    """Makes a prepared source at `out`: whole, or not at all; one that was there is replaced.

    Where a call that was interrupted left encoded shards of the same source, by the same encoder and settings, they are
    taken; they stand in `.NAME.encoding` beside `out` until it is whole.

    Args:
        config: data, model and retrieval sections; episodes.support_size neighbours are looked up for every window.
        out: the directory.
        encode: turns sentences/ into vectors/; by default in this process, on the CPU.
        use_gpu: for the index; see SourceIndex.
        show: is called with events as `display.Display` takes them.

    Returns:
        What prepared.json holds: made_from, files, and figures: sentences, windows, indexed, index (FAISS's name),
        recall, recall_at, seconds by part.

    Raises:
        UserError: corpora, encoder, settings or `out` have to be changed first.
        RunError: encoding failed.
    """
    _make_room(out)
    encoder = WindowEncoder(config, device=torch.device("cpu"))
    digest, size = encoder_digest(encoder.model, encoder.tokenizer), encoder.size
    _untrained(config, 1, size)  # a factory string that FAISS does not know is told before hours of encoding
    if encode is None:
        encode = lambda sentences, vectors, total: encode_here(encoder, sentences, vectors, total)  # noqa: E731
    else:
        del encoder  # the actors have their own
    facts: dict[str, Any] = {}
    waiting = out.absolute().parent / f".{out.name}.encoding"

    def fill(folder: Path) -> None:
        began = [time.monotonic()]
        source = write_sentences(config, folder / "sentences", show=show)
        made = made_from(config, source=source, encoder=digest)
        began.append(time.monotonic())
        vectors = _begun(waiting, {**made, "train.precision": config.train.precision}, show)
        encode(folder / "sentences", vectors, source.count)
        try:
            encoded = Encoded.read(vectors, sentences=source.count)
        except (RunError, pa.ArrowException) as error:
            shutil.rmtree(waiting)  # or the next call would meet it again
            raise RunError(
                f"what was encoded is not whole ({error}), and is removed. Run the command again."
            ) from error
        began.append(time.monotonic())
        candidates = np.arange(len(encoded.owner_M))
        if config.retrieval.candidates == "with_entities":
            candidates = np.flatnonzero(encoded.with_entities_M)
        untrained = _untrained(config, len(candidates), size)
        index = build_index(encoded, candidates, untrained, use_gpu=use_gpu, show=show)
        index.save(folder / INDEX)
        began.append(time.monotonic())
        neighbours_MK = find_neighbours(encoded, index, k=config.episodes.support_size, show=show)
        np.save(folder / NEIGHBOURS, neighbours_MK)
        began.append(time.monotonic())
        at = min(RECALL_AT, len(np.unique(encoded.owner_M[candidates])) - 1)
        recall = measure_recall(encoded, candidates, index, k=at)
        parts = ("reading", "encoding", "index", "neighbours")
        facts.update(
            format=FORMAT,
            made_from=made,
            sentences=source.count,
            windows=len(encoded.owner_M),
            indexed=len(candidates),
            index=untrained.factory,
            recall=recall,
            recall_at=at,
            seconds={name: round(b - a, 1) for name, (a, b) in zip(parts, itertools.pairwise(began), strict=True)},
            files={name: file_record(folder / name) for name in (INDEX, NEIGHBOURS)},
        )
        (folder / FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        vectors.rename(folder / "vectors")

    write_directory(out, fill)
    shutil.rmtree(waiting, ignore_errors=True)
    return facts


def _begun(waiting: Path, made: dict[str, Any], show: Show) -> Path:
    """The directory of vectors, with the shards that are encoded already if they were `made` of the same."""
    vectors, key = waiting / "vectors", waiting / "made_from.json"
    text = json.dumps(made, ensure_ascii=False)
    if key.is_file() and key.read_text(encoding="utf-8") == text:
        show(Note(f"{len(list(vectors.glob('*.parquet')))} shards of before are encoded already"))
        return vectors
    shutil.rmtree(waiting, ignore_errors=True)
    vectors.mkdir(parents=True)
    key.write_text(text, encoding="utf-8")
    return vectors


def _untrained(config: Config, count: int, size: int) -> UntrainedIndex:
    retrieval = config.retrieval
    factory = factory_string(retrieval.index, count, size)
    return UntrainedIndex(size, factory=factory, lists_searched=retrieval.lists_searched)


def _make_room(out: Path) -> None:
    """Refuses a place that holds something else, and clears what runs that were killed left beside it."""
    if out.exists() and not (out / FILE).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is no prepared source. Choose another place: --out DIR")
    for left in out.absolute().parent.glob(f".{out.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
