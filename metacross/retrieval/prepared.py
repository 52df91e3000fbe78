"""A prepared source: what `metacross index` writes, so that no run has to encode its source sentences again.

    sentences/*.parquet   the labelled sentences, in their order
    vectors/*.parquet     their windows' unit vectors, in the same order
    index.faiss           FAISS index over the windows that may be support
    neighbours.npy        every window's nearest others, best first, (M, K)
    prepared.json         what all this was made from, and figures; written last

A run uses the last three files; with every window's neighbours it needs no vectors to make its episodes. It compares
what they were made from with what it would make them from itself, and is refused if the two differ. Corpora and encoder
are compared by SHA-256 of their content, so a renamed file fits and a changed one does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from metacross.config import Config, dotted
from metacross.corpora.sentence import Sentence
from metacross.encoder.depth import with_dropped
from metacross.encoder.loading import LoadedEncoder
from metacross.errors import UserError
from metacross.retrieval.index import VectorIndex
from metacross.storage.files import file_record

FORMAT = 1
FILE = "prepared.json"
INDEX = "index.faiss"
NEIGHBOURS = "neighbours.npy"
# Settings that vectors and index depend on directly. Corpora and encoder are compared by their content instead.
SETTINGS = (
    "model.max_pieces",
    "retrieval.pooling",
    "retrieval.layer",
    "retrieval.candidates",
    "retrieval.index",
    "retrieval.lists_searched",
    "train.precision",
)
# Settings that explain a difference of content.
BEHIND = {
    "source sentences": ("data.source", "data.tag_map", "data.tag_column", "data.max_words", "data.source_language"),
    "encoder": ("model.encoder",),
}


class Facts(TypedDict):
    """What prepared.json holds.

    Attributes:
        format: version of the directory's layout.
        made_from: see `made_from`.
        sentences: number of source sentences.
        windows: number of their windows, M.
        indexed: number of windows in the index.
        index: FAISS's name of the kind of index.
        recall: of the index, against exact search; 0 to 1.
        recall_at: neighbours that were compared for it.
        seconds: that each step took, by its name.
        files: sizes and SHA-256 of index and neighbours, by file name.
    """

    format: int
    made_from: dict[str, Any]
    sentences: int
    windows: int
    indexed: int
    index: str
    recall: float
    recall_at: int
    seconds: dict[str, float]
    files: dict[str, dict[str, Any]]


class SourceDigest:
    """Number and SHA-256 of sentences in their order: of texts, words and tags, not of the files they come from."""

    def __init__(self, sentences: Iterable[Sentence] = ()) -> None:
        self._hash = hashlib.sha256()
        self.count = 0
        self.add(sentences)

    def add(self, sentences: Iterable[Sentence]) -> None:
        """Adds further sentences."""
        for s in sentences:
            self._hash.update(f"{s.text}\0{s.spans}\0{s.tags}\n".encode(errors="surrogatepass"))
            self.count += 1

    def __str__(self) -> str:
        return f"{self.count}:{self._hash.hexdigest()}"


def encoder_digest(loaded: LoadedEncoder) -> str:
    """SHA-256 of a pre-trained encoder's weights and tokenizer.

    Where they were loaded from does not count, nor how many of the layers theta has.
    """
    digest = hashlib.sha256(loaded.tokenizer.backend_tokenizer.to_str().encode())
    with with_dropped(loaded.model.layers, loaded.dropped):
        weights = loaded.model.encoder.state_dict()
    for name, tensor in weights.items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()


def made_from(config: Config, *, source: SourceDigest, encoder: str) -> dict[str, Any]:
    """All that a prepared source's content depends on, and the settings that explain a difference of content."""
    values = {**dotted(config), "retrieval.layer": config.pooled_layer}
    names = (*SETTINGS, *BEHIND["source sentences"], *BEHIND["encoder"])
    return {"source sentences": str(source), "encoder": encoder, **{name: values[name] for name in names}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describes how two results of `made_from` differ, one clause per difference.

    >>> differences({"encoder": "x", "model.encoder": "a"}, {"encoder": "y", "model.encoder": "b"})
    ["encoder (model.encoder was 'a', is 'b')"]
    """
    clauses = []
    for name in ("source sentences", "encoder", *SETTINGS):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name in BEHIND:
            why = [f"{s} was {before.get(s)!r}, is {now.get(s)!r}" for s in BEHIND[name] if before.get(s) != now.get(s)]
            if name == "source sentences" and (count := [str(x).partition(":")[0] for x in (old, new)])[0] != count[1]:
                why.insert(0, f"{count[0]} then, {count[1]} now")
            clauses.append(f"{name} ({', '.join(why) or 'the files changed'})")
        else:
            clauses.append(f"{name} (was {old!r}, is {new!r})")
    return clauses


@dataclass(frozen=True)
class Prepared:
    """A prepared source that is complete and fits the run.

    Attributes:
        path: its directory.
        facts: what its prepared.json holds.
    """

    path: Path
    facts: Facts

    def index(self, *, use_gpu: bool | str) -> VectorIndex:
        """The index over the windows that may be support."""
        return VectorIndex.load(self.path / INDEX, use_gpu=use_gpu)

    def neighbours(self, k: int) -> NDArray[np.int64]:
        """Each window's K nearest others (M, K), the same that `source.neighbours_of_itself` finds.

        Raises:
            UserError: it was prepared with fewer neighbours.
        """
        neighbours_MK: NDArray[np.int64] = np.load(self.path / NEIGHBOURS, allow_pickle=False)
        if k > neighbours_MK.shape[1]:
            raise UserError(
                f"episodes.support_size={k}, but {self.path} was prepared with episodes.support_size="
                f"{neighbours_MK.shape[1]}. Lower it, or make it again: metacross index --out {self.path} "
                f"episodes.support_size={k}"
            )
        return np.ascontiguousarray(neighbours_MK[:, :k])


def open_prepared(path: Path, expected: Mapping[str, Any]) -> Prepared:
    """Opens a prepared source for a run that would make it from `expected`, a result of `made_from`.

    Raises:
        UserError: there is none, it is incomplete, or it was made from something else (the message says what).
    """
    facts = read_facts(path)
    again = f"metacross index --out {path}, with this run's settings"
    if differing := differences(facts["made_from"], expected):
        raise UserError(
            f"retrieval.prepared={path} was made from something else: {'; '.join(differing)}. Make it again "
            f'({again}), or go without: retrieval.prepared=""'
        )
    for name, written in facts["files"].items():
        if not (path / name).is_file() or file_record(path / name) != written:
            raise UserError(f"{path / name}: missing, or not as it was written. Make it again: {again}")
    return Prepared(path, facts)


def read_facts(path: Path) -> Facts:
    """Reads prepared.json of a prepared source.

    Raises:
        UserError: there is no such directory, no such file in it, or the file cannot be read.
    """
    make = f"Make one: metacross index --out {path}"
    if not path.is_dir():
        raise UserError(f"retrieval.prepared={path}: no such directory here ({Path.cwd()}). {make}")
    try:
        facts: Facts = json.loads((path / FILE).read_text(encoding="utf-8"))
        complete = {"format", "made_from", "files"} <= facts.keys()
    except FileNotFoundError:
        raise UserError(
            f"{path}: no prepared source ({FILE} is missing). {make} (without --shards: only a service searches an "
            "index in shards)"
        ) from None
    except (ValueError, AttributeError, OSError) as error:
        raise UserError(f"{path / FILE}: cannot be read ({error}). {make}") from error
    if not complete or facts["format"] != FORMAT:
        raise UserError(f"{path / FILE}: not of format {FORMAT}, which this version reads. {make}")
    return facts
