"""A prepared source: what `metacross index` leaves, so that no run has to encode its source sentences again.

    sentences/*.parquet   the labelled sentences, in their order
    vectors/*.parquet     their windows' unit vectors, in the same order
    index.faiss           FAISS index over the windows that may be support
    neighbours.npy        every window's nearest others, best first, (M, K)
    prepared.json         what all this was made from, and figures; written last

A run takes the last three. It says itself what it would make them from, and is refused where that differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from metacross.config import Config, dotted
from metacross.corpora.sentence import Sentence
from metacross.encoder.model import TagModel
from metacross.errors import UserError
from metacross.retrieval.index import VectorIndex
from metacross.storage.files import file_record

FORMAT = 1
FILE = "prepared.json"
INDEX = "index.faiss"
NEIGHBOURS = "neighbours.npy"
# Settings that vectors and index depend on directly; the corpora and the encoder count by their content.
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
    "source sentences": ("data.source", "data.tag_map", "data.max_words", "data.source_language"),
    "encoder": ("model.encoder",),
}


class SourceDigest:
    """Number and SHA-256 of sentences, in their order: texts, words and tags, whatever files they stood in."""

    def __init__(self, sentences: Iterable[Sentence] = ()) -> None:
        self._hash = hashlib.sha256()
        self.count = 0
        self.add(sentences)

    def add(self, sentences: Iterable[Sentence]) -> None:
        """Takes in further sentences."""
        for s in sentences:
            self._hash.update(f"{s.text}\0{s.spans}\0{s.tags}\n".encode(errors="surrogatepass"))
            self.count += 1

    def __str__(self) -> str:
        return f"{self.count}:{self._hash.hexdigest()}"


def encoder_digest(model: TagModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of a pre-trained encoder's weights and its tokenizer; where they came from does not count."""
    found = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode())
    for name, tensor in model.encoder.state_dict().items():
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().float().contiguous().numpy())
    return found.hexdigest()


def made_from(config: Config, *, source: SourceDigest, encoder: str) -> dict[str, Any]:
    """All that decides what a prepared source holds, and the settings that explain it."""
    values = {**dotted(config), "retrieval.layer": config.pooled_layer}
    names = (*SETTINGS, *BEHIND["source sentences"], *BEHIND["encoder"])
    return {"source sentences": str(source), "encoder": encoder, **{name: values[name] for name in names}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two results of `made_from`, one clause each.

    >>> differences({"encoder": "x", "model.encoder": "a"}, {"encoder": "y", "model.encoder": "b"})
    ["encoder (model.encoder was 'a', is 'b')"]
    """
    found = []
    for name in ("source sentences", "encoder", *SETTINGS):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name in BEHIND:
            why = [f"{s} was {before.get(s)!r}, is {now.get(s)!r}" for s in BEHIND[name] if before.get(s) != now.get(s)]
            if name == "source sentences" and (count := [str(x).partition(":")[0] for x in (old, new)])[0] != count[1]:
                why.insert(0, f"{count[0]} then, {count[1]} now")
            found.append(f"{name} ({', '.join(why) or 'the files changed'})")
        else:
            found.append(f"{name} (was {old!r}, is {new!r})")
    return found


@dataclass(frozen=True)
class Prepared:
    """A prepared source that is whole and fits.

    Attributes:
        path: its directory.
        facts: what prepared.json holds.
    """

    path: Path
    facts: dict[str, Any]

    def index(self, *, use_gpu: bool | str) -> VectorIndex:
        """The index over the windows that may be support."""
        return VectorIndex.load(self.path / INDEX, use_gpu=use_gpu)

    def neighbours(self, k: int) -> NDArray[np.int64]:
        """Each window's K nearest others (M, K), as `source.neighbours_of_itself` finds them.

        Raises:
            UserError: it was prepared for fewer.
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
        UserError: none is there, it is not whole, or it was made from something else (what).
    """
    facts = read_facts(path)
    again = f"metacross index --out {path}, with this run's settings"
    found = differences(facts["made_from"], expected)
    if found:
        raise UserError(
            f"retrieval.prepared={path} was made from something else: {'; '.join(found)}. Make it again ({again}), or "
            'go without: retrieval.prepared=""'
        )
    for name, written in facts["files"].items():
        if not (path / name).is_file() or file_record(path / name) != written:
            raise UserError(f"{path / name}: missing, or not as it was written. Make it again: {again}")
    return Prepared(path, facts)


def read_facts(path: Path) -> dict[str, Any]:
    """What prepared.json of a prepared source holds.

    Raises:
        UserError: no directory, no such file in it, or one that cannot be read.
    """
    make = f"Make one: metacross index --out {path}"
    if not path.is_dir():
        raise UserError(f"retrieval.prepared={path}: no such directory here ({Path.cwd()}). {make}")
    try:
        facts: dict[str, Any] = json.loads((path / FILE).read_text(encoding="utf-8"))
        complete = {"format", "made_from", "files"} <= facts.keys()
    except FileNotFoundError:
        raise UserError(f"{path}: no prepared source ({FILE} is missing). {make}") from None
    except (ValueError, AttributeError, OSError) as error:
        raise UserError(f"{path / FILE}: cannot be read ({error}). {make}") from error
    if not complete or facts["format"] != FORMAT:
        raise UserError(f"{path / FILE}: not of format {FORMAT}, which this version reads. {make}")
    return facts
