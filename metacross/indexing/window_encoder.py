"""Encoding parts of sentences into parts of their windows' vectors, without Ray.

A `WindowEncoder` turns a table of sentences into a table of vectors; `on_ray` holds one in each of its actors.

Shapes: M windows, H vector size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from metacross.config import Config
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast
from metacross.encoder.loading import load_encoder
from metacross.encoder.rows import trunk_states
from metacross.indexing.parts import parts_to_encode
from metacross.retrieval.pools import may_be_support
from metacross.storage.files import temporary_name

BATCH = 1024  # sentences that are encoded together, sorted by length; the same number as in TrunkCache


class WindowEncoder:
    """The pre-trained encoder, turning a table of sentences into a table of their windows' unit vectors.

    Args:
        config: names the encoder, the layer and the pooling.
        device: where the encoder runs.
        threads: the number of torch's threads; to be given only by a process that does nothing else. None leaves it.

    Attributes:
        loaded: the encoder.

    Raises:
        UserError: encoder and settings do not go together.
    """

    def __init__(self, config: Config, *, device: torch.device, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._train, self._device = config.train, device
        self.loaded = load_encoder(config, ("O",), device=device)  # its tag head is never used

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encodes the sentences of a table of `parts.SENTENCES`.

        Returns:
            A row for each window: the number of its sentence, its own number within the sentence, the sentence's owner,
            whether there are entities among its scored words, its unit vector (H), and the other fields of `Window`.
        """
        sentences = [_sentence(row) for row in table.to_pylist()]
        windows = self.loaded.pieces.windows(sentences)
        with autocast(self._train.precision, self._device):
            _, vectors_MH = trunk_states(
                self.loaded.model,
                windows,
                batch_pieces=self._train.batch_pieces,
                sentence_encoder=self.loaded.sentence_encoder,
            )
        flat = torch.empty(0) if vectors_MH is None else vectors_MH.float().cpu().flatten()
        size = self.loaded.sentence_encoder.size
        row_M = np.array([w.sentence for w in windows], dtype=np.int64)
        # Windows come in the order of their sentences, so a sentence's first window is where its row begins.
        within_M = np.arange(len(row_M)) - np.searchsorted(row_M, row_M)
        with_entities = [may_be_support(w, sentences[w.sentence], "with_entities") for w in windows]
        return pa.table(
            {
                "sentence": pa.array(table["sentence"].to_numpy()[row_M]),
                "window": pa.array(within_M.astype(np.int32)),
                "owner": pa.array(table["owner"].to_numpy()[row_M]),
                "with_entities": pa.array(with_entities, pa.bool_()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat.numpy()), size),
                "piece_ids": pa.array([w.piece_ids for w in windows], pa.list_(pa.int32())),
                "first_pieces": pa.array([w.first_pieces for w in windows], pa.list_(pa.int32())),
                "start": pa.array([w.start for w in windows], pa.int32()),
                "scored_start": pa.array([w.scored[0] for w in windows], pa.int32()),
                "scored_end": pa.array([w.scored[1] for w in windows], pa.int32()),
            }
        )


def _sentence(row: dict[str, Any]) -> Sentence:
    """The sentence in a row of a part."""
    spans = tuple(zip(row["starts"], row["ends"], strict=True))
    words = tuple(row["text"][start:end] for start, end in spans)
    return Sentence(row["text"], words, spans, tuple(row["tags"]))


def encode_part(encoder: WindowEncoder, part: Path, vectors: Path) -> int:
    """Encodes one part into a file of the same name in `vectors`; returns how many sentences it has.

    The file is written under another name and renamed, so an interrupted call leaves none that is incomplete.
    """
    table = pq.read_table(part)
    parts = [encoder(table.slice(start, BATCH)) for start in range(0, len(table), BATCH)]
    temporary = temporary_name(vectors / part.name)
    pq.write_table(pa.concat_tables(parts), temporary)
    temporary.replace(vectors / part.name)
    return len(table)


def encode_here(encoder: WindowEncoder, sentences: Path, vectors: Path, total: int) -> None:
    """Encodes in this process all parts that have no vectors yet; arguments as for `build.Encode`."""
    for part in parts_to_encode(sentences, vectors)[0]:
        encode_part(encoder, part, vectors)
