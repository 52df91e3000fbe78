"""The result of a training run: a directory from which the tagger is loaded, to be used with or without adaptation.

    model.safetensors, config.json, tokenizer files   loadable by transformers' AutoModelForTokenClassification
    pipeline.py, tag_sequences.py, words.py, ...      a pipeline that transformers loads if the user trusts the bundle
    sentence_encoder.safetensors                      the pre-trained layers above the trunk, for retrieval
    source.jsonl                                      the labelled source sentences, and those of adopted languages
    index.faiss                                       FAISS index over their vectors
    ray_config.yaml                                   the resolved configuration
    metrics.json, README.md                           measurements of the training, and a model card
    adopted.json                                      the adopted languages, if there are any
    words.safetensors                                 vectors and tags of their words, which vote
    manifest.json                                     SHA-256 and size of every other file

No file is a pickle. Loading checks the manifest first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_model, save_model
from transformers import PreTrainedTokenizerBase

from metacross.adopted import AdoptedLanguage, read_adopted, write_adopted
from metacross.config import Config, differences
from metacross.config_loading import load_config
from metacross.corpora.sentence import MachineLabels, Sentence
from metacross.encoder.loading import load_encoder, load_tokenizer
from metacross.encoder.model import TagModel
from metacross.encoder.quiet import quiet_transformers
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.errors import UserError
from metacross.model_card import PIPELINE_TASK, marks_later_pieces, model_card
from metacross.retrieval.index import VectorIndex
from metacross.retrieval.labelled_words import EncodedWords
from metacross.storage.addresses import is_address, local_copy
from metacross.storage.directories import MANIFEST, check_manifest, write_directory, write_manifest
from metacross.storage.files import sha256, write_json

FORMAT = 2  # in format 1 the index was over all windows, without their numbers

WORDS = "words.safetensors"

_PACKAGE = Path(__file__).parent
_PIPELINE_FILE = _PACKAGE / "tagging" / "pipeline.py"
_OWN_IMPORT = re.compile(r"^from metacross\.(corpora|tagging)\.(?=(\w+) import )", re.MULTILINE)

# Settings that may be changed after training; all others are fixed.
FREE_KEYS = frozenset(
    {
        "data.tag_map",
        "data.tag_column",
        "data.max_words",
        "data.unlabelled",
        "episodes.support_size",
        "inner.layers",
        "inner.steps",
        "inner.step",
        "inner.lr",
        "inner.adapt_max_weight",
        "train.precision",
        "train.batch_pieces",
        "train.trunk_cache_mb",
        "words.neighbours",
        "words.similarity",
        "words.scale",
        "words.most",
    }
)


@dataclass
class Bundle:
    """A loaded bundle.

    Attributes:
        path: its directory; of a bundle at an address, the copy in the cache.
        config: the configuration it was trained with.
        tags: the tag set, IOB2, by tag id.
        model: encoder and tag head, as trained (theta).
        sentence_encoder: the pre-trained encoder that retrieval compares sentences with.
        tokenizer: the encoder's.
        sentences: the labelled source sentences; behind them the examples of adopted languages, and behind these the
            machine-labelled ones; empty if loaded without.
        index: over the windows of these sentences that may be support; empty if loaded without.
        metrics: measurements of the training.
        digest: names the bundle: 12 digits of its manifest's SHA-256.
        adopted: the languages that it has adopted.
        words: of the adopted languages' sentences, by this theta, see `retrieval.labelled_words`; None: there are none.
        score_temperature: for the scores of entities, see `metacross.tagging.calibration`; 1 where none was fitted.
    """

    path: Path
    config: Config
    tags: tuple[str, ...]
    model: TagModel
    sentence_encoder: SentenceEncoder
    tokenizer: PreTrainedTokenizerBase
    sentences: list[Sentence]
    index: VectorIndex
    metrics: dict[str, Any]
    digest: str
    adopted: tuple[AdoptedLanguage, ...] = ()
    words: EncodedWords | None = None
    score_temperature: float = 1.0

    def save(self, path: Path) -> None:
        """Writes what it holds as a new bundle; `path` and `digest` of this one stay. Errors are `save_bundle`'s."""
        save_bundle(
            path,
            config=self.config,
            tags=self.tags,
            model=self.model,
            sentence_encoder=self.sentence_encoder,
            tokenizer=self.tokenizer,
            sentences=self.sentences,
            index=self.index,
            metrics=self.metrics,
            adopted=self.adopted,
            words=self.words,
            score_temperature=self.score_temperature,
        )


def save_bundle(
    path: Path,
    *,
    config: Config,
    tags: Sequence[str],
    model: TagModel,
    sentence_encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sentence],
    index: VectorIndex,
    metrics: Mapping[str, Any],
    adopted: Sequence[AdoptedLanguage] = (),
    words: EncodedWords | None = None,
    score_temperature: float = 1.0,
) -> None:
    """Writes a bundle under a temporary name and renames it to `path`, replacing a bundle that was there.

    The arguments are the fields of `Bundle`.

    Raises:
        UserError: the disk is full, or `path` cannot be written; what was at `path` is unchanged.
    """

    def fill(folder: Path) -> None:
        # In fp32, half a gigabyte for the embedded encoder: its values are products of an fp16 scale and a small
        # integer, which fp16 cannot hold.
        model.classifier.config.update(_pipeline_settings(config, score_temperature))
        with quiet_transformers():
            model.classifier.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        _copy_module(_PIPELINE_FILE, folder)
        save_model(sentence_encoder, str(folder / "sentence_encoder.safetensors"))
        index.save(folder / "index.faiss")
        with (folder / "source.jsonl").open("w", encoding="utf-8", errors="surrogatepass") as file:
            for sentence in sentences:
                file.write(json.dumps(_record(sentence), ensure_ascii=False) + "\n")
        (folder / "ray_config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        write_json(folder / "metrics.json", metrics)
        write_adopted(folder, adopted)
        if words is not None:
            _write_words(folder / WORDS, words)
        card = model_card(
            config,
            tags,
            sum(sentence.machine is None and not sentence.example_of for sentence in sentences),
            metrics,
            adopted,
            marks_later_pieces=marks_later_pieces(tokenizer),
            score_temperature=score_temperature,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_manifest(folder, FORMAT)

    write_directory(path, fill)


def _pipeline_settings(config: Config, score_temperature: float) -> dict[str, Any]:
    """What config.json has for the bundle's own pipeline: where transformers finds it, and what it has to know."""
    task = {"impl": "pipeline.WordPipeline", "pt": ["AutoModelForTokenClassification"]}
    return {
        "custom_pipelines": {PIPELINE_TASK: task},
        "max_pieces": config.model.max_pieces,
        "score_temperature": score_temperature,
    }


def _copy_module(source: Path, folder: Path) -> None:
    """Copies a module, and those of metacross that it imports, to stand side by side in `folder`."""
    text = source.read_text(encoding="utf-8")
    (folder / source.name).write_text(_OWN_IMPORT.sub("from .", text), encoding="utf-8")
    for package, name in _OWN_IMPORT.findall(text):
        if not (folder / f"{name}.py").exists():
            _copy_module(_PACKAGE / package / f"{name}.py", folder)


def load_bundle(path: Path | str, *, use_gpu: bool | str = False, source: bool = True) -> Bundle:
    """Loads a bundle after checking every file against the manifest.

    Args:
        path: the bundle's directory, or its address (s3://...), from which it is first copied into the cache.
        use_gpu: where the index goes; see `VectorIndex`.
        source: whether to load the source sentences and their index.

    Raises:
        UserError: there is no bundle, or a file of it is missing or changed (which one).
    """
    path = local_copy(str(path), check_bundle) if is_address(path) else Path(path)
    check_bundle(path)
    config = load_config([path / "ray_config.yaml"], alone=True)
    hugging_face = json.loads((path / "config.json").read_text(encoding="utf-8"))
    tags = tuple(hugging_face["id2label"][str(i)] for i in range(len(hugging_face["id2label"])))
    encoder = load_encoder(config, tags, device=torch.device("cpu"), directory=path)
    # Training has moved the model's upper layers; the sentence encoder's are still those of the pre-trained encoder.
    load_model(encoder.sentence_encoder, str(path / "sentence_encoder.safetensors"))
    empty = np.empty((0, encoder.sentence_encoder.size), dtype=np.float32)
    return Bundle(
        path=path,
        config=config,
        tags=tags,
        model=encoder.model,
        sentence_encoder=encoder.sentence_encoder,
        tokenizer=encoder.tokenizer,
        sentences=_sentences(path) if source else [],
        index=VectorIndex.load(path / "index.faiss", use_gpu=use_gpu) if source else VectorIndex(empty, use_gpu=False),
        metrics=json.loads((path / "metrics.json").read_text(encoding="utf-8")),
        digest=bundle_digest(path),
        adopted=read_adopted(path),
        words=_words(path / WORDS),
        score_temperature=hugging_face.get("score_temperature", 1.0),  # earlier versions wrote none
    )


@dataclass
class BundleSource:
    """What is needed to search a bundle's source sentences; the fields mean the same as in `Bundle`."""

    config: Config
    tokenizer: PreTrainedTokenizerBase
    sentences: list[Sentence]
    index: VectorIndex
    digest: str


def load_source(path: Path | str, *, use_gpu: bool | str = False) -> BundleSource:
    """Loads a bundle's source sentences without its model; arguments and errors are those of `load_bundle`."""
    path = local_copy(str(path), check_bundle) if is_address(path) else Path(path)
    check_bundle(path)
    config = load_config([path / "ray_config.yaml"], alone=True)
    index = VectorIndex.load(path / "index.faiss", use_gpu=use_gpu)
    return BundleSource(config, load_tokenizer(path), _sentences(path), index, bundle_digest(path))


def _record(sentence: Sentence) -> dict[str, Any]:
    """A sentence as source.jsonl holds it."""
    record: dict[str, Any] = {
        "text": sentence.text,
        "tokens": sentence.words,
        "spans": sentence.spans,
        "ner_tags": sentence.tags,
        "place": sentence.place,
    }
    if sentence.machine is not None:
        record["machine"] = asdict(sentence.machine)
    if sentence.example_of:
        record["example_of"] = sentence.example_of
    return record


def _write_words(path: Path, words: EncodedWords) -> None:
    # Half precision moves a similarity by less than 0.001.
    halves_MH, small_M = words.vectors_MH.astype(np.float16), words.tag_ids_M.astype(np.int16)
    columns = {"windows": words.windows_M.astype(np.int64), "machine": words.machine_M}
    save_file({"vectors": halves_MH, "tag_ids": small_M, **columns}, str(path))


def _words(path: Path) -> EncodedWords | None:
    if not path.exists():
        return None
    found = load_file(str(path))
    tag_ids_M = found["tag_ids"].astype(np.int64)
    machine_M = found.get("machine", np.zeros(len(tag_ids_M), dtype=np.bool_))  # before, no words of a machine voted
    return EncodedWords(found["vectors"].astype(np.float32), tag_ids_M, found["windows"], machine_M)


def _sentences(path: Path) -> list[Sentence]:
    sentences = []
    with (path / "source.jsonl").open(encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            r = json.loads(line)
            spans = tuple((start, end) for start, end in r["spans"])
            machine = r.get("machine")
            if machine is not None:
                machine = MachineLabels(machine["language"], machine["confidence"], tuple(machine["uncertain"]))
            sentences.append(
                Sentence(
                    r["text"],
                    tuple(r["tokens"]),
                    spans,
                    tuple(r["ner_tags"]),
                    place=r["place"],
                    machine=machine,
                    example_of=r.get("example_of", ""),
                )
            )
    return sentences


def bundle_digest(path: Path) -> str:
    """Names a bundle: 12 digits of its manifest's SHA-256."""
    return sha256(path / MANIFEST)[:12]


def check_bundle(path: Path) -> None:
    """Checks that `path` is a bundle whose files are complete and unchanged.

    Raises:
        UserError: it is not.
    """
    check_manifest(path, FORMAT, kind="bundle", hint="Give the directory that `metacross train` names at its end.")


def refuse_other_content(out: Path) -> None:
    """Raises UserError where `out` holds something that is no bundle, and that a new bundle should not replace."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        check_bundle(out)
    except UserError as error:
        raise UserError(f"--out {out}: what is there is no bundle and will not be replaced ({error})") from None


def refuse_learned_keys(trained: Config, wanted: Config) -> None:
    """Refuses a configuration that changes a setting which is fixed after training.

    Args:
        trained: the bundle's configuration.
        wanted: the configuration to use it with.

    Raises:
        UserError: a fixed setting differs; the message names it and the settings that may be changed.
    """
    for key, (before, value) in differences(trained, wanted).items():
        if key not in FREE_KEYS and not key.startswith(("adopt.", "serve.")):
            raise UserError(
                f"{key}={value} but this bundle was trained with {before}, which cannot be changed any more. "
                f"Leave it out or train again. What can be changed: adopt.*, serve.*, {', '.join(sorted(FREE_KEYS))}."
            )
