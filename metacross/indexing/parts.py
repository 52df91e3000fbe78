"""Parts of sentences and of vectors: Parquet files, written and read in parts of bounded size.

Shapes: M windows, H vector size, S windows gathered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from metacross.config import Config
from metacross.corpora.from_config import source_corpora
from metacross.corpora.sentence import Sentence
from metacross.encoder.windows import LONE_SURROGATES
from metacross.errors import RunError
from metacross.events import Note, Preparation, Show
from metacross.retrieval.index import Vectors
from metacross.retrieval.prepared import SourceDigest
from metacross.wording import counted

PART = 4096  # sentences in one file

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
    """Writes the source sentences in parts and returns their digest. One corpus file is in memory at a time."""
    digest = SourceDigest()
    waiting: list[Sentence] = []
    parts = 0

    def write(sentences: list[Sentence]) -> None:
        nonlocal parts
        table = sentence_table(sentences, first=digest.count)
        pq.write_table(table, folder / f"part-{parts:06}.parquet", compression="zstd")
        digest.add(sentences)
        parts += 1

    folder.mkdir()
    files = [config.data.source] if isinstance(config.data.source, str) else config.data.source
    for done, corpus in enumerate(source_corpora(config, lambda oddity: show(Note(oddity)))):
        waiting += corpus.sentences
        while len(waiting) >= PART:
            write(waiting[:PART])
            del waiting[:PART]
        show(Preparation("reading corpora", done + 1, len(files)))
    if waiting:
        write(waiting)
    return digest


def sentence_table(sentences: Iterable[Sentence], *, first: int) -> pa.Table:
    """Makes a table of SENTENCES.

    The owner is an id that equal texts share. Lone surrogates, which Parquet cannot hold, are replaced as the piece
    encoder replaces them, so the pieces stay the same.

    Args:
        sentences: the sentences.
        first: the number of the first of them.
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
    """64 bits of the text's hash; the chance that two of a million different texts share them is 3e-8."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def parts_to_encode(sentences: Path, vectors: Path) -> tuple[list[Path], int]:
    """The parts that have no vectors yet, and the number of sentences in the others."""
    parts = sorted(sentences.glob("*.parquet"))
    done = [part for part in parts if (vectors / part.name).is_file()]
    return sorted({*parts} - {*done}), sum(pq.read_metadata(part).num_rows for part in done)


@dataclass(frozen=True)
class Encoded:
    """The windows' vectors on disk, in the order of the sentences. In memory are only a few numbers per window.

    Attributes:
        files: the parts of vectors, in order.
        rows: number of windows in each file.
        owner_M: an id per window, the same for windows of one sentence and of sentences with the same text.
        with_entities_M: whether there are entities among a window's scored words.
    """

    files: list[Path]
    rows: list[int]
    owner_M: NDArray[np.int64]
    with_entities_M: NDArray[np.bool_]

    @classmethod
    def read(cls, folder: Path, *, sentences: int) -> Encoded:
        """Opens the parts of vectors in `folder`.

        Args:
            folder: their directory.
            sentences: how many sentences were encoded.

        Raises:
            RunError: the windows are not those of so many sentences, each once and in order.
        """
        columns = ["sentence", "window", "owner", "with_entities"]
        parts = {file: pq.read_table(file, columns=columns) for file in sorted(folder.glob("*.parquet"))}
        if not parts:
            raise RunError(f"{folder}: nothing was encoded, of {counted(sentences, 'sentences')}")
        table = pa.concat_tables(parts.values())
        number, window = table["sentence"].to_numpy(), table["window"].to_numpy()
        begins = window == 0  # the first window of a sentence; its further windows follow, numbered 1, 2, ...
        if not (np.array_equal(number[begins], np.arange(sentences)) and (np.diff(window)[~begins[1:]] == 1).all()):
            raise RunError(
                f"{folder}: the encoded windows are not those of {counted(sentences, 'sentences')} in order "
                f"({counted(len(np.unique(number)), 'sentences')} in {counted(len(number), 'windows')})"
            )
        return cls(
            list(parts),
            [len(part) for part in parts.values()],
            table["owner"].to_numpy(),
            table["with_entities"].to_numpy(zero_copy_only=False),
        )

    def batches(self, wanted: NDArray[np.int64] | None = None) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Yields numbers and vectors of all windows, or of the `wanted` ones (ascending), one file at a time."""
        for file, numbers, rows in self.files_of(wanted):
            column = pq.read_table(file, columns=["vector"])["vector"].combine_chunks()
            yield numbers, column.flatten().to_numpy().reshape(len(column), -1)[rows]

    def files_of(
        self, wanted: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[Path, NDArray[np.int64], NDArray[np.int64]]]:
        """Yields the files that have all windows, or the `wanted` ones, with these windows' numbers and rows."""
        first = 0
        for file, rows in zip(self.files, self.rows, strict=True):
            numbers = np.arange(first, first + rows)
            if wanted is not None:
                numbers = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + rows)]
            if len(numbers):
                yield file, numbers, numbers - first
            first += rows

    def gather(self, wanted: NDArray[np.int64]) -> Vectors:
        """The vectors (S, H) of some windows, which are given by ascending number; at least one."""
        return np.concatenate([vectors for _, vectors in self.batches(wanted)])
