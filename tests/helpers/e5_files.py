"""The embedded encoder's file for tests: a tiny one of the same format, and a second reader."""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Oracle:
    """A second reader of the wheel's file, slow and literal."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        count, *self.special, text_bytes = struct.unpack_from("<5iQ", self.data, 44)
        at = 72 + 4 * (count + 1) + 4 * count
        text = self.data[at : at + text_bytes]
        starts = struct.unpack_from(f"<{count + 1}I", self.data, 72)
        scores = struct.unpack_from(f"<{count}f", self.data, 72 + 4 * (count + 1))
        self.pieces = [text[starts[i] : starts[i + 1]].decode() for i in range(count)]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        self.scores = scores
        at += text_bytes
        entries, _ = struct.unpack_from("<iI", self.data, at)
        at += 8
        self.replacements: dict[str, str] = {}
        for _ in range(entries):
            point, length = struct.unpack_from("<IB", self.data, at)
            self.replacements[chr(point)] = "".join(map(chr, struct.unpack_from(f"<{length}I", self.data, at + 5)))
            at += 5 + 4 * length
        (tensors,) = struct.unpack_from("<i", self.data, at)
        at += 4
        self.places: dict[str, tuple[int, int, int, int]] = {}
        for _ in range(tensors):
            (length,) = struct.unpack_from("<H", self.data, at)
            name = self.data[at + 2 : at + 2 + length].decode()
            self.places[name] = struct.unpack_from("<BIQQ", self.data, at + 2 + length)
            at += 2 + length + 21

    def value(self, name: str, index: int) -> float:
        """One value of a tensor, by the format's words."""
        kind, _, offset, _ = self.places[name]
        if kind == 0:
            return float(struct.unpack_from("<f", self.data, offset + 4 * index)[0])
        start = offset + index // 32 * 18
        return q4_value(self.data[start : start + 18], index % 32)

    def matrix(self, name: str, width: int, rows: list[int] | None = None) -> Array:
        """A tensor, or some of its rows, as (rows, width)."""
        kind, count, offset, size = self.places[name]
        raw = np.frombuffer(self.data, np.uint8, size, offset).reshape(count // width, -1)
        raw = raw if rows is None else raw[rows]
        if kind == 0:
            return np.ascontiguousarray(raw).view("<f4")
        blocks = raw.reshape(len(raw), width // 32, 18)
        bits = np.concatenate([blocks[..., 2:] % 16, blocks[..., 2:] // 16], axis=-1).astype(np.float32) - 8
        scale = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
        return np.asarray(bits * scale).reshape(len(raw), width)


def q4_value(block: bytes, j: int) -> float:
    (scale,) = struct.unpack_from("<e", block, 0)
    byte = block[2 + j % 16]
    return float(scale * ((byte & 15 if j < 16 else byte >> 4) - 8))


@functools.cache
def tiny_file(**changes: Any) -> bytes:
    """A file of the same format with a 32-wide one-layer encoder; `changes` break it in one place."""
    change = changes.get
    pieces = change("pieces", (b"<s>", b"<pad>", b"</s>", b"<unk>", "▁a".encode(), b"b", b"<mask>"))
    starts = change("starts", tuple(sum(map(len, pieces[:i])) for i in range(len(pieces) + 1)))
    header = struct.pack("<4sI", change("magic", b"E5S1"), change("version", 1))
    header += struct.pack("<7ifi", *change("sizes", (32, 1, 2, 64, 9, 4, 2)), change("eps", 1e-12), change("block", 32))
    text = b"".join(pieces)
    header += struct.pack("<5iQ", len(pieces), *change("special", (0, 2, 1, 3)), len(text))
    header += struct.pack(f"<{len(starts)}I", *starts) + struct.pack(f"<{len(pieces)}f", *(-1.0 * i for i in range(7)))
    header += text + struct.pack("<iI", 1, 9) + struct.pack("<IBI", 9, 1, 32)
    weights = {"emb.word": 288, "l0.q.w": 1024, "l0.k.w": 1024, "l0.v.w": 1024, "l0.ao.w": 1024}
    weights |= {"l0.fi.w": 2048, "l0.fo.w": 2048}
    floats = {"emb.pos": 128, "emb.type": 64, "emb.ln.w": 32, "emb.ln.b": 32, "l0.fi.b": 64}
    floats |= {f"l0.{name}.b": 32 for name in ("q", "k", "v", "ao", "fo", "aln", "oln")}
    floats |= {f"l0.{name}.w": 32 for name in ("aln", "oln")}
    entries = [(name, 1, count, bytes(range(18)) * (count // 32)) for name, count in weights.items()]
    entries += [(name, 0, count, struct.pack("<f", 0.5) * count) for name, count in floats.items()]
    entries = change("entries", lambda all_: all_)(entries)
    offset = len(header) + 4 + sum(2 + len(name) + 21 for name, *_ in entries)
    directory = struct.pack("<i", len(entries))
    for name, kind, count, data in entries:
        directory += struct.pack(f"<H{len(name)}sBIQQ", len(name), name.encode(), kind, count, offset, len(data))
        offset += len(data)
    return header + directory + b"".join(data for *_, data in entries)
