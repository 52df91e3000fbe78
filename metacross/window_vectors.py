"""From source sentences to their windows' vectors, as Parquet files, in parts of bounded size; without Ray.

Corpora are read one file at a time and written in shards of sentences (`write_sentences`). A `WindowEncoder` turns a
table of sentences into one of vectors; it is what an actor of ray_encoding.py holds. `Encoded` reads the vectors back,
a file at a time.

Shapes: M windows, H vector size, S windows gathered.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from metacross.config import Config
from metacross.data import Sentence
from metacross.device import autocast
from metacross.embedded import embedded_encoder
from metacross.encoding import LONE_SURROGATES, PieceEncoder
from metacross.errors import RunError
from metacross.learner import load_tokenizer
from metacross.model import SentenceEncoder, TagModel, load_classifier
from metacross.prepared import SourceDigest
from metacross.reading import source_corpora
from metacross.retrieval import Vectors
from metacross.rows import trunk_states

SHARD = 4096  # sentences of one file
BATCH = 1024  # sentences encoded together, sorted by length: as many as TrunkCache takes

Show = Callable[[dict[str, Any]], None]

SENTENCES = pa.schema(
    [
        ("sentence", pa.int64()),
        ("text", pa.string()),
        ("starts", pa.list_(pa.int32())),
        ("ends", pa.list_(pa.int32())),
        ("tags", pa.list_(pa.string())),
        ("place", pa.string()),
        ("owner", pa.int64()),
    ]
)


def write_sentences(config: Config, folder: Path, *, show: Show) -> SourceDigest:
    """Writes the source sentences in shards, one corpus file in memory at a time; returns what they were."""
    digest = SourceDigest()
    waiting: list[Sentence] = []
    shards = 0

    def write(sentences: list[Sentence]) -> None:
        nonlocal shards
        table = sentence_table(sentences, first=digest.count)
        pq.write_table(table, folder / f"part-{shards:06}.parquet", compression="zstd")
        digest.add(sentences)
        shards += 1

    folder.mkdir()
    files = [config.data.source] if isinstance(config.data.source, str) else config.data.source
    for done, corpus in enumerate(source_corpora(config)):
        waiting += corpus.sentences
        while len(waiting) >= SHARD:
            write(waiting[:SHARD])
            del waiting[:SHARD]
        show({"event": "prepare", "what": "reading corpora", "done": done + 1, "total": len(files)})
    if waiting:
        write(waiting)
    return digest


def sentence_table(sentences: Iterable[Sentence], *, first: int) -> pa.Table:
    """Sentences as a table: number, text, words' spans and tags, place, and an owner: the same for equal texts.

    Lone surrogates, which Parquet cannot hold, are written as the stand-in that the piece encoder puts for them.
    """
    rows = [
        {
            "sentence": number,
            "text": s.text.translate(LONE_SURROGATES),
            "starts": [start for start, _ in s.spans],
            "ends": [end for _, end in s.spans],
            "tags": [tag.translate(LONE_SURROGATES) for tag in s.tags or ()],
            "place": s.place.translate(LONE_SURROGATES),
            "owner": _owner(s.text),
        }
        for number, s in enumerate(sentences, first)
    ]
    return pa.Table.from_pylist(rows, schema=SENTENCES)


def _owner(text: str) -> int:
    """64 bits of the text's hash: two of a million different texts share them with a chance of 3e-8."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class WindowEncoder:
    """The pre-trained encoder, turning a table of sentences into one of their windows' unit vectors.

    Args:
        config: names the encoder, the layer and the pooling.
        device: where it runs.
        threads: torch's, in a process of its own; None leaves them alone.

    Raises:
        UserError: encoder and settings do not go together.
    """

    def __init__(self, config: Config, *, device: torch.device, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.config = config
        self.device = device
        path = embedded_encoder() if config.model.encoder == "embedded" else config.model.encoder
        classifier = load_classifier(path, ("O",), seed=0)  # its head is never used
        self.tokenizer = load_tokenizer(path)
        self.model = TagModel(classifier, frozen_layers=config.model.frozen_layers).to(device)
        self.sentence_encoder = SentenceEncoder(
            self.model, layer=config.pooled_layer, pooling=config.retrieval.pooling
        ).to(device)
        self.pieces = PieceEncoder(self.tokenizer, max_pieces=config.model.max_pieces)
        self.size = int(classifier.config.hidden_size)

    def __call__(self, table: pa.Table) -> pa.Table:
        """A row per window: its sentence's number, its own within the sentence, owner, entities or not, vector (H)."""
        sentences = [
            Sentence(
                row["text"],
                tuple(row["text"][start:end] for start, end in zip(row["starts"], row["ends"], strict=True)),
                tuple(zip(row["starts"], row["ends"], strict=True)),
                tuple(row["tags"]),
            )
            for row in table.to_pylist()
        ]
        windows = self.pieces.windows(sentences)
        with autocast(self.config.train.precision, self.device):
            _, vectors_MH = trunk_states(
                self.model,
                windows,
                batch_pieces=self.config.train.batch_pieces,
                sentence_encoder=self.sentence_encoder,
            )
        numbers, owners = table["sentence"].to_numpy(), table["owner"].to_numpy()
        rows = np.array([w.sentence for w in windows], dtype=np.int64)
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # rows ascend
        entities = [any(t != "O" for t in (sentences[w.sentence].tags or ())[slice(*w.scored)]) for w in windows]
        flat = torch.empty(0) if vectors_MH is None else vectors_MH.float().cpu().flatten()
        return pa.table(
            {
                "sentence": pa.array(numbers[rows]),
                "window": pa.array(place.astype(np.int32)),
                "owner": pa.array(owners[rows]),
                "with_entities": pa.array(entities, pa.bool_()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat.numpy()), self.size),
            }
        )


def encode_shard(encoder: WindowEncoder, shard: Path, vectors: Path) -> int:
    """Encodes one shard into a file of the same name in `vectors`, whole or not at all; its sentences."""
    table = pq.read_table(shard)
    parts = [encoder(table.slice(start, BATCH)) for start in range(0, len(table), BATCH)]
    temporary = vectors / f".{shard.name}.{uuid.uuid4().hex[:8]}.tmp"
    pq.write_table(pa.concat_tables(parts), temporary)
    temporary.replace(vectors / shard.name)
    return len(table)


def shards_to_encode(sentences: Path, vectors: Path) -> tuple[list[Path], int]:
    """The shards without vectors yet, and how many sentences the others have."""
    shards = sorted(sentences.glob("*.parquet"))
    done = [shard for shard in shards if (vectors / shard.name).is_file()]
    return sorted({*shards} - {*done}), sum(pq.read_metadata(shard).num_rows for shard in done)


def encode_here(encoder: WindowEncoder, sentences: Path, vectors: Path, total: int) -> None:
    """Encodes all shards without vectors in this process."""
    for shard in shards_to_encode(sentences, vectors)[0]:
        encode_shard(encoder, shard, vectors)


@dataclass(frozen=True)
class Encoded:
    """The written vectors in the order of the sentences; a few numbers of every window are held, its vector is not."""

    files: list[Path]
    rows: list[int]  # of every file
    owner_M: NDArray[np.int64]
    with_entities_M: NDArray[np.bool_]

    @classmethod
    def read(cls, folder: Path, *, sentences: int) -> Encoded:
        """Looks through `folder`.

        Raises:
            RunError: not every one of the `sentences` is there exactly once, in order.
        """
        columns = ["sentence", "window", "owner", "with_entities"]
        parts = {file: pq.read_table(file, columns=columns) for file in sorted(folder.glob("*.parquet"))}
        if not parts:
            raise RunError(f"{folder}: nothing was encoded, of {sentences} sentences")
        table = pa.concat_tables(parts.values())
        number, window = table["sentence"].to_numpy(), table["window"].to_numpy()
        begins = window == 0  # a sentence's first window; the others follow on it
        if not (np.array_equal(number[begins], np.arange(sentences)) and (np.diff(window)[~begins[1:]] == 1).all()):
            raise RunError(
                f"{folder}: the encoded windows are not those of {sentences} sentences in order "
                f"({len(np.unique(number))} sentences in {len(number)} windows)"
            )
        return cls(
            list(parts),
            [len(part) for part in parts.values()],
            table["owner"].to_numpy(),
            table["with_entities"].to_numpy(zero_copy_only=False),
        )

    def batches(self, wanted: NDArray[np.int64] | None = None) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Numbers and vectors of all windows, or of the `wanted` ones (ascending), a file at a time."""
        first = 0
        for file, rows in zip(self.files, self.rows, strict=True):
            numbers = np.arange(first, first + rows)
            if wanted is not None:
                numbers = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + rows)]
            if len(numbers):
                column = pq.read_table(file, columns=["vector"])["vector"].combine_chunks()
                yield numbers, column.flatten().to_numpy().reshape(rows, -1)[numbers - first]
            first += rows

    def gather(self, wanted: NDArray[np.int64]) -> Vectors:
        """The vectors (S, H) of some windows, by ascending number."""
        return np.concatenate([vectors for _, vectors in self.batches(wanted)])
