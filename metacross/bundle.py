"""What a training run leaves behind: a directory from which the tagger, adapted or not, is loaded again.

    model.safetensors, config.json, tokenizer files   loadable by transformers' AutoModelForTokenClassification
    sentence_encoder.safetensors                      the pre-trained layers above the trunk, for retrieval
    source.jsonl                                      the labelled source sentences
    index.faiss                                       FAISS index over their vectors
    ray_config.yaml                                   the resolved configuration
    metrics.json, README.md                           what was measured, and a model card
    manifest.json                                     SHA-256 and size of every other file

No pickle anywhere. Loading checks the manifest first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_model, save_model
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from metacross.config import Config, load_config
from metacross.data import Sentence
from metacross.errors import RunError, UserError
from metacross.model import SentenceEncoder, TagModel, load_classifier
from metacross.retrieval import SourceIndex

MANIFEST = "manifest.json"
FORMAT = 2  # 1: an index over all windows, without their numbers


@dataclass
class Bundle:
    """A loaded bundle."""

    path: Path
    config: Config
    tags: tuple[str, ...]
    model: TagModel
    sentence_encoder: SentenceEncoder
    tokenizer: PreTrainedTokenizerBase
    sentences: list[Sentence]
    index: SourceIndex
    metrics: dict[str, Any]
    digest: str  # of the manifest: names the checkpoint


def save_bundle(
    path: Path,
    *,
    config: Config,
    tags: Sequence[str],
    model: TagModel,
    sentence_encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sentence],
    index: SourceIndex,
    metrics: Mapping[str, Any],
) -> None:
    """Writes a bundle beside `path`, then puts it there in one rename; a bundle that was there is replaced.

    Raises:
        UserError: the disk is full or the place cannot be written; what was at `path` is still there.
    """

    def fill(folder: Path) -> None:
        model.classifier.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_model(sentence_encoder, str(folder / "sentence_encoder.safetensors"))
        index.save(folder / "index.faiss")
        with (folder / "source.jsonl").open("w", encoding="utf-8", errors="surrogatepass") as file:
            for s in sentences:
                record = {"text": s.text, "tokens": s.words, "spans": s.spans, "ner_tags": s.tags, "place": s.place}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        (folder / "ray_config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        _write_json(folder / "metrics.json", metrics)
        (folder / "README.md").write_text(model_card(config, tags, len(sentences), metrics), encoding="utf-8")
        _write_json(folder / MANIFEST, {"format": FORMAT, "files": _files(folder)})

    write_directory(path, fill)


def load_bundle(path: Path | str, *, use_gpu: bool | str = False) -> Bundle:
    """Loads a bundle after checking every file against the manifest; `use_gpu` is for the index.

    Raises:
        UserError: not a bundle, or a file is missing or changed (which one).
    """
    path = Path(path)
    check_manifest(path)
    config = load_config([path / "ray_config.yaml"], alone=True)
    hugging_face = json.loads((path / "config.json").read_text(encoding="utf-8"))
    tags = tuple(hugging_face["id2label"][str(i)] for i in range(len(hugging_face["id2label"])))
    model = TagModel(load_classifier(path, tags, seed=0), frozen_layers=config.model.frozen_layers)
    sentence_encoder = SentenceEncoder(model, layer=config.retrieval.layer, pooling=config.retrieval.pooling)
    load_model(sentence_encoder, str(path / "sentence_encoder.safetensors"))
    sentences = []
    with (path / "source.jsonl").open(encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            r = json.loads(line)
            spans = tuple((start, end) for start, end in r["spans"])
            sentences.append(Sentence(r["text"], tuple(r["tokens"]), spans, tuple(r["ner_tags"]), place=r["place"]))
    return Bundle(
        path=path,
        config=config,
        tags=tags,
        model=model,
        sentence_encoder=sentence_encoder,
        tokenizer=AutoTokenizer.from_pretrained(path),
        sentences=sentences,
        index=SourceIndex.load(path / "index.faiss", use_gpu=use_gpu),
        metrics=json.loads((path / "metrics.json").read_text(encoding="utf-8")),
        digest=_sha256(path / MANIFEST)[:12],
    )


def check_manifest(path: Path) -> None:
    """Raises UserError unless `path` is a bundle whose files are all there and unchanged."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not a bundle (no {MANIFEST}). Give the directory that `metacross train` names at its end."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / MANIFEST}: unreadable; the bundle is damaged. Copy or train it again.") from error
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path}: bundle format {manifest.get('format')}, this version reads {FORMAT}. Train it again.")
    for name, expected in sorted(files.items()):
        file = path / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the bundle. Copy it again from where it was trained.")
        if file.stat().st_size != expected["bytes"] or _sha256(file) != expected["sha256"]:
            raise UserError(
                f"{file}: not as it was written (SHA-256 differs). Copy it again from where it was trained."
            )


def write_directory(path: Path, fill: Callable[[Path], None]) -> None:
    """Fills a temporary directory beside `path` and renames it there; on failure nothing of it stays.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    old = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose another place."
        ) from error
    except (UserError, RunError):
        raise
    except BaseException as error:
        # safetensors and FAISS have exceptions of their own for a full disk.
        if type(error).__module__.split(".")[0] in {"safetensors", "safetensors_rust"} or "faiss" in str(error).lower():
            raise UserError(f"{path}: cannot be written ({error}). Free some space or choose another place.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Removes from `folder` what a `write_directory` that was killed left there, and puts back what it moved away."""
    for old in folder.glob(".*.old"):
        path = folder / old.name[1:].rsplit(".", 2)[0]
        if not path.exists():
            old.rename(path)
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        shutil.rmtree(left, ignore_errors=True)


def model_card(config: Config, tags: Sequence[str], sentences: int, metrics: Mapping[str, Any]) -> str:
    """The bundle's README.md."""
    types = ", ".join(tag[2:] for tag in tags if tag.startswith("B-"))
    measured = "\n".join(
        f"| {key} | {value} |" for key, value in metrics.items() if isinstance(value, (int, float, str))
    )
    return f"""---
language: {config.data.source_language}
pipeline_tag: token-classification
library_name: metacross
---

# Cross-lingual named-entity tagger

Method `{config.train.method}` over encoder `{config.model.encoder}`, learned from {sentences} labelled
`{config.data.source_language}` sentences. Entity types: {types}.

With adaptation (the nearest labelled sentences shape the weights for every request):

    from metacross import AdaptiveTagger
    tagger = AdaptiveTagger.from_pretrained("this directory")

Without, by transformers alone: `AutoModelForTokenClassification.from_pretrained("this directory")`.

| measured in training | |
|---|---|
{measured}

The source sentences are part of this directory; their licence applies to them. `ray_config.yaml` holds every setting.
"""


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
