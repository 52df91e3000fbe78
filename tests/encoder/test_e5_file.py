"""Reading the embedded encoder's file: values against a scalar loop, and every kind of damage."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.encoder import e5_file
from metacross.encoder.e5_file import dequantize, read_encoder
from metacross.errors import UserError
from tests.helpers.e5_files import q4_value, tiny_file

TINY = tiny_file()


@given(st.lists(st.tuples(st.floats(width=16, allow_nan=False), st.binary(min_size=16, max_size=16)), max_size=5))
def test_dequantize_is_the_scalar_loop(parts: list[tuple[float, bytes]]) -> None:
    blocks = [struct.pack("<e", scale) + halves for scale, halves in parts if math.isfinite(scale)]
    values = dequantize(np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, 18))
    assert values.shape == (len(blocks), 32)
    assert values.tolist() == [[q4_value(block, j) for j in range(32)] for block in blocks]


def test_the_tiny_file_is_read() -> None:
    encoder = read_encoder(TINY)
    assert (encoder.hidden, encoder.layers, encoder.heads, encoder.feed_forward) == (32, 1, 2, 64)
    assert (encoder.vocabulary, encoder.positions, encoder.token_types, encoder.eps) == (9, 4, 2, 1e-12)
    assert encoder.pieces[4] == ("▁a", -4.0) and len(encoder.pieces) == 7
    assert encoder.tensors["encoder.layer.0.output.dense.weight"].shape == (32, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"GGUF"}, "starts with b'GGUF'"),
        ({"version": 2}, "version 2"),
        ({"block": 64}, "blocks of 64"),
        ({"sizes": (32, 1, 5, 64, 9, 4, 2)}, "do not fit"),
        ({"sizes": (32, 0, 2, 64, 9, 4, 2)}, "do not fit"),
        ({"sizes": (32, 2**30, 2, 64, 9, 4, 2)}, "do not fit"),
        ({"sizes": (32, 1, 2, 64, 6, 4, 2)}, "7 pieces for 6 embeddings"),
        ({"sizes": (32, 2, 2, 64, 9, 4, 2)}, "it lacks 16 tensors, 'l1.aln.b' first"),
        ({"sizes": (32, 1, 2, 64, 9, 5, 2)}, "'emb.pos'"),
        ({"eps": math.nan}, "epsilon"),
        ({"special": (0, 2, 1, 7)}, "not among the 7"),
        ({"pieces": (b"<s>", b"<pad>", b"</s>", b"<unk>", b"\xff\xfe", b"b", b"<mask>")}, "not UTF-8"),
        ({"starts": (0, 3, 8, 12, 17, 16, 22, 28)}, "offsets"),
        ({"entries": lambda entries: [("l9.q.w", *entries[0][1:]), *entries[1:]]}, "'l9.q.w' is not one"),
        ({"entries": lambda entries: entries[1:]}, "'emb.word' first"),
        ({"entries": lambda entries: [(*entries[0][:3], entries[0][3][:-1]), *entries[1:]]}, "161 bytes"),
        ({"entries": lambda entries: [("emb.word", 2, *entries[0][2:]), *entries[1:]]}, "type 2"),
    ],
)
def test_a_broken_file_is_told_apart(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_encoder(tiny_file(**changes))


def test_a_file_cut_short_anywhere_is_a_user_error() -> None:
    for length in range(len(TINY)):
        with pytest.raises(UserError):
            read_encoder(TINY[:length])


@given(st.integers(0, 1200), st.integers(0, 255))
def test_a_changed_byte_never_leads_out_of_the_file(at: int, value: int) -> None:
    changed = bytearray(TINY)
    changed[at] = value
    try:
        encoder = read_encoder(bytes(changed))
    except UserError:
        return
    for tensor in encoder.tensors.values():
        assert len(tensor.data) == math.prod(tensor.shape) * (18 / 32 if tensor.quantized else 4)


def test_missing_package_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e5_file, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(UserError, match=r"no_such_package_anywhere is not installed.*pip install .*==0\.3\.0"):
        e5_file.find_source()
    monkeypatch.setattr(e5_file, "PACKAGE", "json")
    with pytest.raises(UserError, match=r"json has no e5-small-q4\.bin"):
        e5_file.find_source()
