"""From source sentences to their windows' vectors, as Parquet files, in parts of bounded size; without Ray.

Corpora are read one file at a time and written in shards of sentences (`write_sentences`). A `WindowEncoder` turns a
table of sentences into one of vectors; it is what an actor of ray_encoding.py holds. `Encoded` reads the vectors back,
a file at a time.

Shapes: M windows, H vector size, S windows gathered.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from metacross.config import Config
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast
from metacross.encoder.embedded import embedded_encoder
from metacross.encoder.loading import load_classifier, load_tokenizer
from metacross.encoder.model import TagModel
from metacross.encoder.rows import trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import PieceEncoder
from metacross.indexing.shards import shards_to_encode
from metacross.storage.files import temporary_name

BATCH = 1024  # sentences encoded together, sorted by length: as many as TrunkCache takes


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
    temporary = temporary_name(vectors / shard.name)
    pq.write_table(pa.concat_tables(parts), temporary)
    temporary.replace(vectors / shard.name)
    return len(table)


def encode_here(encoder: WindowEncoder, sentences: Path, vectors: Path, total: int) -> None:
    """Encodes all shards without vectors in this process."""
    for shard in shards_to_encode(sentences, vectors)[0]:
        encode_shard(encoder, shard, vectors)
