"""Random files for the corpus reader: files of every format, damaged, in every encoding and compression.

A case is made from a number and nothing else, so that a failure can be repeated.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from metacross.bulk.items import Format
from metacross.corpora.formats.writing import FolderFormat, WordFormat, formats
from metacross.corpora.raw import Document, Marked, Oddities
from metacross.corpora.sentence import sentence_from_words
from tests.helpers import mutations
from tests.helpers.corpora import CORPORA

SENTENCES = [
    sentence_from_words(words.split(), tags.split(), place=f"seed:{number}")
    for number, (words, tags) in enumerate(
        [
            ("Anna Berg moved to Buenos Aires .", "B-PER I-PER O O B-LOC I-LOC O"),
            ('1 # comment , 3-4 ist "kein" Wort', "O O O O O O O O"),
            ("王 明 在 北 京 工 作 。", "B-PER I-PER O B-LOC I-LOC O O O"),
            ("می\u200cروم تهران 🌍 e\u0301t ' Rey", "O B-LOC O O O B-PER"),
            ("Rome", "B-LOC"),
        ],
        1,
    )
]
DOCUMENTS = [
    Document("Anna Berg moved to Oslo. She likes it.\n", (Marked(0, 9, "PER"), Marked(19, 23, "LOC"))),
    Document("🌍 O’Neill’s in Köln\r\nund  Bonn", (Marked(2, 11, "ORG"), Marked(15, 19, "LOC"))),
    Document("nothing here", ()),
    Document("王明在北京。", (Marked(0, 2, "PER"), Marked(3, 5, "LOC"), Marked(3, 4, "GPE"))),
]


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought, and come in small pieces."""

    def __init__(self, data: bytes, piece: int = 100) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[: self._piece])


Files = dict[str, bytes]
"""A corpus: one file under its name, or the files of a folder by their names in it."""


@dataclass(frozen=True)
class Seed:
    """A sound corpus.

    Attributes:
        name: what it is.
        files: its files; texts are in UTF-8.
        is_text: whether they are text.
    """

    name: str
    files: Files
    is_text: bool = True

    @property
    def is_folder(self) -> bool:
        return self.name.startswith("brat")

    @property
    def text(self) -> str:
        (data,) = self.files.values()
        return data.decode()


@dataclass
class Case:
    """A corpus to be read, and what its user says about it.

    Attributes:
        files: its files.
        history: how it was made, for messages.
        content: the file's bytes before it was compressed; None where they are not known, or there are several files.
        tag_column, tag_map, max_words: as of `read_corpus`.
        form: as of `opened_items`.
    """

    files: Files
    history: list[str] = field(default_factory=list)
    content: bytes | None = None
    tag_column: int | str | None = None
    tag_map: Mapping[str, str] = field(default_factory=dict)
    max_words: int = 120
    form: Format = "corpus"

    def text(self, encoding: str) -> str | None:
        """The text of the only file; None where its bytes are not known."""
        return self.content.decode(encoding) if self.content is not None and encoding else None

    def stream(self) -> IO[bytes] | None:
        """The only file as standard input gives it; None if there are several."""
        return io.BufferedReader(Pipe(self.files["corpus"])) if "corpus" in self.files else None

    def write(self, folder: Path) -> Path:
        """Writes the files; returns the path that names the corpus."""
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder / next(iter(self.files)) if len(self.files) == 1 else folder


@cache
def seeds() -> Sequence[Seed]:
    """A corpus of every format: those of tests/files/corpora, and what every writer writes."""
    found = []
    for path in sorted(CORPORA.iterdir()):
        if path.name == "README.md":
            continue
        if path.is_dir():
            files = {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*.*"))}
            found.append(Seed("brat of a tool", files))
        else:
            data = path.read_bytes()
            found.append(
                Seed(path.name, {"corpus": data.decode("latin-1").encode() if b"Besan\xe7on" in data else data})
            )
    for name, form in formats().items():
        file = io.BytesIO()
        if isinstance(form, FolderFormat):
            files = {}
            for number, document in enumerate(DOCUMENTS[:3], 1):
                annotations = "".join(
                    f"T{n}\t{kind} {start} {end}\t{document.text[start:end]}\n"
                    for n, (start, end, kind) in enumerate(document.marked or (), 1)
                )
                files |= {f"{number}.txt": document.text.encode(), f"{number}.ann": annotations.encode()}
            found.append(Seed("brat", files))
            continue
        if isinstance(form, WordFormat):
            form.write(SENTENCES, file, Oddities())
        else:
            form.write(DOCUMENTS, file, Oddities())
        found.append(Seed(name, {"corpus": file.getvalue()}, form.is_text))
    return found


# --- compression and encoding ----------------------------------------------------------------------------------------


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", data)
    return file.getvalue()


def zstandard(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard,
    "zip": zipped,
}
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1")


# --- damage ----------------------------------------------------------------------------------------------------------


def case(seed: int, number: int) -> Case:
    """The case of this number in the run of this seed."""
    rng = Random(f"{seed}/{number}")
    start = rng.choice(seeds())
    if start.is_folder:
        made = _damaged_folder(rng, start)
    elif start.name in ("parquet", "arrow") and rng.random() < 0.6:
        made = _odd_table(rng, start.name)
    else:
        made = _damaged_file(rng, start)
    made.form = rng.choice(["text", "jsonl", "conll", "corpus"])
    if rng.random() < 0.1:
        made.tag_column = rng.choice([1, 2, 3, 4, 10, "ner_tags", "tags", "Tag", "label", "name", "", "\ud800"])
        made.tag_map = rng.choice([{}, {"PER": "O", "LOC": "PLACE"}, {"O": "A"}])
        made.max_words = rng.choice([1, 2, 5, 120])
        made.history.append(f"{made.tag_column!r} {made.tag_map} {made.max_words}")
    return made


def _damaged_file(rng: Random, start: Seed) -> Case:
    (data,) = start.files.values()
    made = Case({}, [start.name])
    if start.is_text:
        text = start.text
        if rng.random() < 0.05:
            other = rng.choice([one for one in seeds() if one.is_text and not one.is_folder])
            text += rng.choice(["", "\n", "\n\n"]) + other.text
            made.history.append(f"and {other.name}")
        data = _encoded(rng, _damaged_text(rng, text, made.history), made.history)
    if start.name == "docbin" and rng.random() < 0.7:  # what is compressed is damaged
        data = zlib.compress(_damaged_bytes(rng, zlib.decompress(data), made.history))
    elif rng.random() < (0.2 if start.is_text else 0.95):
        data = _damaged_bytes(rng, data, made.history)
    made.content = data
    if rng.random() < 0.15:
        name = rng.choice(list(COMPRESSIONS))
        made.history.append(name)
        data = COMPRESSIONS[name](data)
        if rng.random() < 0.3:
            data, made.content = _damaged_bytes(rng, data, made.history), None
    made.files = {"corpus": data}
    return made


def _damaged_text(rng: Random, text: str, history: list[str]) -> str:
    is_json = text.lstrip().startswith(("{", "["))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3])):
        pool = mutations.JSON if is_json and rng.random() < 0.6 else mutations.TEXT
        mutation = rng.choice(pool)
        history.append(mutation.__name__)
        text = mutation(rng, text)
    if rng.random() < 0.003:
        history.append("swell")
        text = mutations.swell(rng, text)
    return text


def _encoded(rng: Random, text: str, history: list[str]) -> bytes:
    if rng.random() < 0.8:
        return text.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")
    encoding = rng.choice(ENCODINGS)
    history.append(encoding)
    return text.encode(encoding, "replace")


def _damaged_bytes(rng: Random, data: bytes, history: list[str]) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 3])):
        mutation = rng.choice(mutations.BYTES)
        history.append(mutation.__name__)
        data = mutation(rng, data)
    return data


def _damaged_folder(rng: Random, start: Seed) -> Case:
    made = Case(dict(start.files), [start.name])
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(list(made.files))
        if rng.random() < 0.1 and len(made.files) > 2:
            made.history.append(f"without {name}")
            del made.files[name]
            continue
        text = made.files[name].decode("utf-8", "replace")
        made.history.append(name)
        data = _encoded(rng, _damaged_text(rng, text, made.history), made.history)
        made.files[name] = _damaged_bytes(rng, data, made.history) if rng.random() < 0.2 else data
    return made


def _odd_table(rng: Random, form: str) -> Case:
    """A table of damaged records, as far as Arrow can hold them."""
    name = rng.choice(["jsonl", "jsonl-spans", "prodigy", "rows.jsonl"])
    text = next(start.text for start in seeds() if start.name == name)
    records: list[Any] = [json.loads(line) for line in text.splitlines() if line.strip()]
    history = [form, "of records"]
    for _ in range(rng.choice([1, 1, 2, 3])):
        records = mutations.edit_value(rng, records)
        history.append("edit_value")
        if not isinstance(records, list):
            records = [records]
    try:
        table = pa.Table.from_pylist([record for record in records if isinstance(record, dict)])
        file = io.BytesIO()
        if form == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return Case({"corpus": b"\0"}, [*history, "not to be written"])
    return Case({"corpus": file.getvalue()}, history)
