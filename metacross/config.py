"""What a configuration holds: the sections of ray_config.yaml, their settings, and the values that each may have.

No value has a default here: what a run uses stands in the YAML alone, and so do the comments that say what each key
means. config_loading.py puts configurations together from files and overrides.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from metacross.yaml_nodes import write_yaml

# The descriptions are what an error message says is allowed.
Count = Annotated[int, Field(ge=1, description="a whole number, 1 or more")]
CountOrZero = Annotated[int, Field(ge=0, description="a whole number, 0 or more")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number greater than 0")]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number, 0 or greater")]
Ratio = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]
Switch = Annotated[bool, Field(description="true or false")]
FilledText = Annotated[str, Field(min_length=1, description="text that is not empty")]
FileNames = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
FilesByLanguage = Annotated[
    dict[Annotated[str, Field(pattern="^[a-z]{2,3}$")], Annotated[str, Field(min_length=1)]],
    Field(description="a mapping from language code to file name, such as {es: es.conll}"),
]


def _rising(pair: list[int]) -> list[int]:
    if pair[0] > pair[1]:
        raise ValueError("the first is greater than the second")
    return pair


class Section(BaseModel):
    """A part of the configuration: complete, immutable, and without implicit conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class DataConfig(Section):
    """Corpora to learn from and how they are read."""

    source: Annotated[
        Annotated[str, Field(min_length=1)] | FileNames, Field(description="a file name or a list of file names")
    ]
    source_dev: FilledText
    target_dev: FilesByLanguage
    unlabelled: FilesByLanguage
    source_language: Annotated[str, Field(pattern="^[a-z]{2,3}$", description="a language code, such as en")]
    tag_map: Annotated[
        dict[str, str],
        Field(
            description="a mapping from type to type, such as {OTH: O}; a type that looks like a number needs quotes"
        ),
    ]
    tag_column: Annotated[
        Literal["auto"] | Count | FilledText,
        Field(description="auto, the number of a column, counted from 1, or the name of a column or key"),
    ]
    max_words: Count


class ModelConfig(Section):
    """The encoder and what of it is adapted."""

    encoder: FilledText
    layers: Annotated[Count | Literal["auto", "all"], Field(description="auto, all, or a number of layers")]
    frozen_layers: CountOrZero
    max_pieces: Annotated[int, Field(ge=8, description="a whole number, 8 or more")]  # windows need room to overlap


class RetrievalConfig(Section):
    """How sentence vectors are made, and which sentences may be support."""

    pooling: Literal["mean", "cls"]
    layer: Annotated[CountOrZero | Literal["trunk"], Field(description="trunk, or a layer's number")]
    candidates: Literal["all", "with_entities"]
    index: FilledText
    lists_searched: Count
    prepared: Annotated[str, Field(description='"", or a directory that `metacross index` made')]


class WordsConfig(Section):
    """How labelled words of examples vote on the tags of similar words, see `retrieval.labelled_words`."""

    neighbours: CountOrZero
    similarity: Annotated[float, Field(ge=-1, le=1, description="a number from -1 to 1")]
    scale: Positive
    most: Positive


class EpisodesConfig(Section):
    """The sizes of episodes and meta-batches."""

    support_size: Count
    meta_batch_size: Count


class InnerConfig(Section):
    """The inner loop, in meta-training and at adaptation."""

    steps: Count
    layers: Annotated[Count | Literal["all"], Field(description="all, or a number of layers")]
    step: Literal["normalized", "sgd"]
    lr: Positive
    second_order: Switch
    adapt_max_weight: NonNegative


class LossConfig(Section):
    """Masking, the maximum term, and the term for the pieces after a word's first one."""

    mask_ratio: Ratio
    max_weight: NonNegative
    later_weight: NonNegative


class TrainConfig(Section):
    """The outer loop and where it runs."""

    method: Literal["metacross", "base"]
    steps: Count
    plain_steps: CountOrZero
    lr: Positive
    warmup: Annotated[
        Ratio | Annotated[int, Field(gt=1)],
        Field(description="a number from 0 to 1 (a share of the steps), or a whole number above 1 (steps)"),
    ]
    decay: Ratio
    average: Ratio
    weight_decay: NonNegative
    clip_norm: Positive
    seed: Annotated[int, Field(ge=0, lt=2**32, description="a whole number from 0 to 4294967295")]  # numpy's range
    seeds: Count
    precision: Literal["auto", "fp32", "bf16"]
    batch_pieces: Count
    trunk_cache_mb: CountOrZero
    eval_every: Count
    eval_sentences: Count
    checkpoint_every: Count
    storage_path: FilledText
    # A run is a directory below storage_path, so its name must not lead anywhere else.
    name: Annotated[
        str,
        Field(
            pattern="^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
            description='"", or letters, digits, dots, dashes and underscores, starting with a letter or a digit',
        ),
    ]
    workers: Annotated[
        Count | Annotated[list[Count], Field(min_length=2, max_length=2), AfterValidator(_rising)],
        Field(description="a whole number, 1 or more, or the fewest and the most, such as [2, 8]"),
    ]
    max_failures: CountOrZero
    use_gpu: Annotated[bool | Literal["auto"], Field(description="true, false or auto")]
    profile: Switch
    # Configurations are passed on with bundles: no passwords in them.
    mlflow_uri: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z][A-Za-z0-9+.-]*:[^@\s]+)?$",
            description='"", or an MLflow tracking URI such as http://host:5000 or sqlite:///mlflow.db, without name '
            "and password (MLflow reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)",
        ),
    ]

    def worker_range(self) -> tuple[int, int]:
        """The fewest and the most workers."""
        return (self.workers, self.workers) if isinstance(self.workers, int) else (self.workers[0], self.workers[1])


class AdoptConfig(Section):
    """`metacross adopt`: what becomes of a few labelled sentences, and of text that nobody labelled."""

    example_steps: Count
    sentences: CountOrZero
    share_distilled: Ratio
    steps: Count
    average: Ratio
    lr: Positive
    source_share: Ratio
    confidence: Ratio


class ServeConfig(Section):
    """The service: what it answers with, and what it refuses."""

    device: FilledText
    factor_cache_mb: CountOrZero
    replicas: Count
    index_replicas: Count
    index_shards: Annotated[str, Field(description='"", or a directory that `metacross index --shards N` made')]
    shard_replicas: Count
    rerank: CountOrZero
    partial_answers: Switch
    tagger_gpus: NonNegative
    index_gpus: NonNegative
    batch_requests: Count
    slice_ms: Positive
    batch_wait_ms: NonNegative
    queue: Count
    timeout_s: Positive
    drain_s: NonNegative
    max_texts: Count
    max_characters: Count
    max_neighbours: Count
    max_work: Count
    max_body_mb: Count
    requests_per_s: NonNegative
    characters_per_s: NonNegative
    concurrent_requests: CountOrZero
    label_confidence: Ratio
    examples: Annotated[str, Field(description='"", a file name, or the URL of a database')]
    auth: Annotated[str, Field(description='"", none, environment, or a file of tokens')]
    hosts: Annotated[
        list[Annotated[str, Field(pattern=r"^[^\s/@:]+$")]],
        Field(description="a list of names without scheme and port, such as [ner.example.org]"),
    ]
    cors: Annotated[
        list[Annotated[str, Field(pattern=r"^https?://[^\s/@*A-Z]+$")]],
        Field(description="a list of origins as browsers write them, such as [https://app.example.org]"),
    ]


class Config(Section):
    """A complete configuration, one section per part of the program."""

    data: DataConfig
    model: ModelConfig
    retrieval: RetrievalConfig
    words: WordsConfig
    episodes: EpisodesConfig
    inner: InnerConfig
    loss: LossConfig
    train: TrainConfig
    adopt: AdoptConfig
    serve: ServeConfig

    @property
    def pooled_layer(self) -> int:
        """The number of the layer whose states make sentence vectors."""
        return self.model.frozen_layers if self.retrieval.layer == "trunk" else self.retrieval.layer

    def to_yaml(self) -> str:
        """Write this configuration as YAML that `load_config` reads back as an equal one."""
        return write_yaml(self.model_dump())


def dotted(config: Config) -> dict[str, Any]:
    """List every value under its dotted name, in the file's order: ``{"data.source": ..., "train.lr": 1e-4, ...}``."""
    return {f"{section}.{key}": value for section, keys in config.model_dump().items() for key, value in keys.items()}


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configurations differ: dotted name -> (value before, value now)."""
    old = dotted(before)
    return {name: (old[name], value) for name, value in dotted(now).items() if value != old[name]}
