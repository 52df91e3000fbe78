"""The typed, strict view of ray_config.yaml.

A configuration is put together from three kinds of source, later ones winning: the default file, files given with
``--config`` (which may be partial), and ``key=value`` overrides with dotted names. No value has a default here: what a
run uses stands in the YAML alone, and so do the comments that say what each key means.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from metacross.errors import UserError
from metacross.yaml_nodes import TAG, Locate, compose, compose_file, pairs, plain_value, write_yaml

FILE_NAME = "ray_config.yaml"
COMMAND_LINE = "command line"

# Complete files from before a setting existed mean this value, and not the default file's: a run that goes on ends as
# it would have ended then.
BEFORE: dict[str, Any] = {
    "loss.later_weight": 0.0,
    "data.unlabelled": {},
    "train.average": 0.0,
    "model.layers": "all",
    "inner.layers": "all",
    "train.seeds": 1,
    "adopt.sentences": 0,
    # These shape answers, not runs; an older bundle gets today's.
    "words.neighbours": 32,
    "words.similarity": 0.75,
    "words.scale": 0.06,
    "words.most": 3.0,
}

# Settings of earlier versions, and what there is in their place. Complete files may hold them: there they mean nothing.
GONE: dict[str, str] = {
    "adopt.neighbours": "labels are judged by their probability alone, see adopt.confidence",
    "adopt.quantile": "labels are judged by their probability alone, see adopt.confidence",
}

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


def default_path() -> Path | None:
    """Find the default file: in the current directory, else in the project's root; None where there is neither."""
    places = (Path(FILE_NAME), Path(__file__).parent.parent / FILE_NAME)
    return next((place for place in places if place.is_file()), None)


def load_config(
    paths: Sequence[Path] | None = None,
    overrides: Sequence[str] = (),
    *,
    alone: bool = False,
    base: Config | None = None,
) -> Config:
    """Put a configuration together from files and command-line overrides.

    A list or a mapping such as ``data.tag_map`` is one value: a later one takes the earlier one's place.

    Args:
        paths: YAML files, each possibly partial, merged in this order over the default file (see `default_path`).
        overrides: ``key=value`` with dotted keys, applied last. Values are YAML, but where a key takes nothing else
            than text they are taken as they stand (so that ``train.storage_path=a: b`` is not read as a mapping).
        alone: the files are complete, as a bundle's is. Only settings that are newer than the files, and so missing
            from them, are taken from `BEFORE` or the default file.
        base: a complete configuration to start from in place of the default file.

    Returns:
        The complete configuration.

    Raises:
        UserError: A file cannot be read, a key is unknown, given twice in a file or missing, or a value is not allowed.
    """
    default = None if alone or base else default_path()
    if default is None and not paths and not base:
        raise UserError(f"No {FILE_NAME} in the current directory or the project's root. Name a file with --config.")
    settings = {name: _Setting(value, "base") for name, value in dotted(base).items()} if base else {}
    for path in ([default] if default else []) + list(paths or ()):
        found = _file_settings(path)
        settings |= {name: found[name] for name in found.keys() - GONE.keys()} if alone else _without_gone(found)
    for override in overrides:
        settings |= _without_gone(_override_settings(override))
    return _validate(_newer_settings(settings) | settings if alone else settings)


class _Setting(NamedTuple):
    """A value, and where it was set, for messages."""

    value: Any
    place: str


def _without_gone(settings: dict[str, _Setting]) -> dict[str, _Setting]:
    """The settings as they are, if all of them mean something; raises UserError for one that no longer does."""
    for name in settings.keys() & GONE.keys():
        raise UserError(f"{name} ({settings[name].place}) is no longer a setting: {GONE[name]}. Remove it.")
    return settings


def _newer_settings(settings: Mapping[str, _Setting]) -> dict[str, _Setting]:
    """Values for what is missing: those of `BEFORE`, else the default file's, which is read only if they are needed."""
    missing = _leaves().keys() - settings.keys()
    newer = {name: _Setting(BEFORE[name], "before it was a setting") for name in missing & BEFORE.keys()}
    missing -= newer.keys()
    default = default_path() if missing else None
    return newer | ({} if default is None else {k: v for k, v in _file_settings(default).items() if k in missing})


def _leaves() -> dict[str, FieldInfo]:
    """Every dotted key that holds a value."""
    return {
        f"{section}.{key}": field
        for section, part in Config.model_fields.items()
        for key, field in part.annotation.model_fields.items()  # type: ignore[union-attr]  # every one is a Section
    }


def _file_settings(path: Path) -> dict[str, _Setting]:
    node = compose_file(path)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"The configuration file {path} must hold sections with keys, such as train: {{steps: 100}}.")
    return _collect("", node, lambda at: f"{path}:{at.start_mark.line + 1}")


def _override_settings(override: str) -> dict[str, _Setting]:
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UserError(f"{override!r} on the {COMMAND_LINE} is not key=value, as in train.steps=100.")
    field = _leaves().get(name)
    # A shell hands over train.name="" as train.name=, which YAML would call null.
    if field and (not text.strip() or (field.annotation is str and text[0] not in "'\"")):
        return {name: _Setting(text, COMMAND_LINE)}
    node = compose(text, f"{override!r} on the {COMMAND_LINE}")
    return _collect(name, node or yaml.ScalarNode(TAG + "null", ""), lambda _: COMMAND_LINE)


def _collect(name: str, node: yaml.Node, locate: Locate) -> dict[str, _Setting]:
    """Take the settings under a key out of a YAML node; the name "" is the whole file."""
    settings: dict[str, _Setting] = {}
    try:
        for leaf, setting in _walk(name, node, locate):
            if leaf in settings:
                raise UserError(f"{leaf} is given twice ({settings[leaf].place} and {setting.place}). Remove one.")
            settings[leaf] = setting
    except RecursionError:  # an alias inside of what it stands for
        raise UserError(f"{locate(node)}: nested too deeply for a configuration.") from None
    return settings


def _walk(name: str, node: yaml.Node, locate: Locate) -> Iterator[tuple[str, _Setting]]:
    if name in _leaves() or name in GONE:
        yield name, _Setting(plain_value(node, name, locate), locate(node))
    elif name and name not in Config.model_fields:
        raise UserError(f"Unknown key {name} ({locate(node)}). Did you mean {_nearest(name)}?")
    elif not isinstance(node, yaml.MappingNode):
        raise UserError(f"{name} is a section ({locate(node)}) and needs keys, such as {_example(name)}: ...")
    else:
        for key, value in pairs(node, name, locate):
            yield from _walk(f"{name}.{key}" if name else key, value, locate)


def _nearest(name: str) -> str:
    leaves = list(_leaves())
    same_ending = [leaf for leaf in leaves if leaf.split(".")[-1] == name.split(".")[-1]]
    close = difflib.get_close_matches(name, [*leaves, *Config.model_fields], n=1, cutoff=0)
    return " or ".join(same_ending or close)


def _example(section: str) -> str:
    return next(leaf.split(".")[-1] for leaf in _leaves() if leaf.startswith(section + "."))


def _validate(settings: dict[str, _Setting]) -> Config:
    missing = [name for name in _leaves() if name not in settings]
    if missing:
        raise UserError(f"No value for {', '.join(missing)}. Add what is missing to {FILE_NAME}.")
    tree: dict[str, dict[str, Any]] = {}
    for name, setting in settings.items():
        section, key = name.split(".")
        tree.setdefault(section, {})[key] = setting.value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(_complaints(error, settings))) from None


def _complaints(error: ValidationError, settings: dict[str, _Setting]) -> list[str]:
    """Say for each wrong value where it was set and what is allowed (a union's several errors make one line)."""
    leaves = _leaves()
    lines = {}
    for detail in error.errors():
        name = ".".join(map(str, detail["loc"][:2]))
        value, place = settings[name]
        allowed = leaves[name].description or detail["msg"].removeprefix("Input should be ")
        lines[name] = f"{name} is {json.dumps(value, ensure_ascii=False)} ({place}); it must be {allowed}."
    return list(lines.values())
