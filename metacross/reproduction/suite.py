"""Suites: which methods are compared, on which corpora, with which seeds. A YAML file, read strictly.

    name: mine                            # of the directory that results are written to
    source: {language: en, train: en/train.conll, dev: en/dev.conll}
    targets:
      es: {test: es/test.conll, text: es/raw.txt, shots: es/train.conll}   # text, shots: for methods that need them
    seeds: [95, 495]                      # the paper's five if left out
    sentences: 300                        # at most so many of a test file, spread evenly; all if left out
    settings: {train.steps: 600}          # of all methods, over those of ray_config.yaml
    baseline: base                        # the method that gains are measured from
    main: metacross                       # the method that the comparison is about
    methods:
      base: {training: {train.method: base}, tagging: plain}
      metacross: {tagging: adapted}
    neighbours: [1, 2, 4]                 # the main method's figures with these K too
    inner_lr: [0.01, 0.1]                 # and with these inner learning rates
    shots: {sizes: [1, 10], draws: 10, share: 0.1}
    paper: {Meta-Cross: {es: 76.75}}      # figures to stand beside ours

A method is a mapping of
    training    settings over the suite's; methods with equal ones share their trained bundles
    tagging     plain, adapted, or a control: random_support, shuffled_labels, o_bias; or released_optimizer
    neighbours, inner_lr     in place of the settings', for tagging; with inner_lr: 0 no step is taken
    word_neighbours          labelled words that vote on a word, in place of the setting; 0: none do
    o_bias      what o_bias takes from O's logit
    adoption    the texts of the targets that have one are adopted before tagging. A mapping of
                  distillation   true: theta is trained on a part of the text; false: all of it may be support
                  teachers       own: the bundle labels the text by itself; seeds: the bundles of all seeds together
                  settings       of the section adopt, over the suite's: {adopt.steps: 300}
    average     true: the bundle is the average of those of all seeds; adoption may start from it
    shots       index (drawn sentences become support), adopted (the method's bundle adopts them: theta is trained on
                them for a short time, and they become support), joint (source and drawn sentences are trained on
                together) or half (half of them trained on, half become support)
    start       the method whose bundle's weights training starts with
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metacross.config import Config, differences
from metacross.config_loading import load_config
from metacross.errors import UserError
from metacross.sweeps.space import changed_config
from metacross.training.seeds import PAPER_SEEDS
from metacross.yaml_nodes import read_yaml

SEEDS = list(PAPER_SEEDS)
CONTROLS = frozenset({"random_support", "shuffled_labels", "o_bias"})  # what adaptation has to be better than
# Settings that a suite decides by itself, and the key of a suite that decides them.
DECIDED = {
    "data.source": "source.train",
    "data.source_dev": "source.dev",
    "data.source_language": "source.language",
    "data.target_dev": "nothing: choosing by target languages would not be zero-shot",
    "train.seed": "seeds",
    "train.seeds": "seeds",
    "train.name": "name",
    "train.workers": "nothing: cells run side by side (--parallel)",
}

FileName = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]


class Part(BaseModel):
    """A mapping of a suite: immutable, without unknown keys and implicit conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SourceFiles(Part):
    """What is learned from: a language, its labelled sentences, and labelled sentences to choose the best bundle by."""

    language: Language
    train: FileName | Annotated[list[FileName], Field(min_length=1)]
    dev: FileName


class TargetFiles(Part):
    """A target language's files: labelled sentences to measure on, unlabelled text, labelled sentences to draw from."""

    test: FileName
    text: FileName | None = None
    shots: FileName | None = None


class Shots(Part):
    """The sizes of samples of labelled target sentences, how many samples of each, and their share in training.

    Attributes:
        sizes: sentences of a sample that have an entity; others come along as they are drawn.
        draws: samples of each size.
        share: of the sentences trained on; samples are repeated until they are such a share. 0: not repeated.
    """

    sizes: Annotated[list[Count], Field(min_length=1)]
    draws: Count
    share: Annotated[float, Field(ge=0, lt=1)]


class AdoptionSettings(Part):
    """How the targets' texts are adopted; see the top of this module."""

    distillation: bool
    teachers: Literal["own", "seeds"] = "own"
    settings: dict[str, Any] = {}  # pydantic copies it


class Method(Part):
    """One way to get a tagger and to tag with it; see the top of this module."""

    training: dict[str, Any] = {}  # pydantic copies it
    tagging: Literal["plain", "adapted", "random_support", "shuffled_labels", "o_bias", "released_optimizer"]
    neighbours: Count | None = None
    inner_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    word_neighbours: Annotated[int, Field(ge=0)] | None = None
    o_bias: Annotated[float, Field(allow_inf_nan=False)] | None = None
    adoption: AdoptionSettings | None = None
    average: bool = False
    shots: Literal["index", "adopted", "joint", "half"] | None = None
    start: str | None = None


class Suite(Part):
    """A suite as its file has it; see the top of this module. `load_suite` gives its files absolute names."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    source: SourceFiles
    targets: Annotated[dict[Language, TargetFiles], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = SEEDS
    sentences: Count | None = None
    settings: dict[str, Any] = {}  # pydantic copies it
    baseline: str
    main: str
    methods: Annotated[dict[str, Method], Field(min_length=1)]
    neighbours: list[Count] = []  # pydantic copies it
    inner_lr: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = []  # pydantic copies it
    shots: Shots | None = None
    paper: dict[str, dict[Language, float]] = {}  # pydantic copies it

    @property
    def source_files(self) -> list[str]:
        """The files that are learned from."""
        return [self.source.train] if isinstance(self.source.train, str) else self.source.train

    @property
    def texts(self) -> dict[str, str]:
        """The unlabelled text of each target language that has one."""
        return {language: files.text for language, files in self.targets.items() if files.text is not None}

    @property
    def adopting(self) -> list[str]:
        """The methods that adopt text."""
        return [name for name, method in self.methods.items() if method.adoption is not None]

    @property
    def compared(self) -> list[str]:
        """The methods of the main comparison: those without labelled target sentences."""
        return [name for name, method in self.methods.items() if method.shots is None]


PARTS = (Suite, SourceFiles, TargetFiles, Shots, AdoptionSettings, Method)
KEYS = sorted({key for part in PARTS for key in part.model_fields})


def load_suite(
    path: Path, base: Config, *, overrides: Sequence[str] = (), data: Path | None = None, seeds: int | None = None
) -> Suite:
    """Reads a suite and checks it, with every method's settings and every file.

    Args:
        path: the YAML file.
        base: the configuration that the suite's settings are put over.
        overrides: `key=value` settings over the suite's, but not over its methods'.
        data: the directory that its file names are relative to; the suite's own by default.
        seeds: take only so many of its seeds, the first ones.

    Raises:
        UserError: the file cannot be read or something in it makes no sense; names the file, the key and the fix.
    """
    content = read_yaml(path)
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise UserError("\n".join(_complaints(path, error))) from None
    if seeds is not None and seeds > len(suite.seeds):
        raise UserError(
            f"{path}: seeds: --seeds {seeds}, but there are {len(suite.seeds)}. Add more, or ask for fewer."
        )
    settings = _settings(suite, path, base, overrides)
    suite = suite.model_copy(update={"seeds": suite.seeds[:seeds], "settings": settings})
    for problem in _contradictions(suite):
        raise UserError(f"{path}: {problem}")
    for name in suite.methods:
        adoption_config(suite, name, base, place=str(path))
    return _resolved(suite, path, data or path.parent)


def method_config(suite: Suite, method: str, base: Config, *, place: str = "suite") -> Config:
    """The configuration that a method trains with, but for the files and the seed: base, suite's settings, its own.

    Raises:
        UserError: a key is unknown, or a value is not allowed; begins with `place`.
    """
    common = changed_config(base, suite.settings, place=f"{place}: settings", source="suite")
    own = suite.methods[method].training
    return changed_config(common, own, place=f"{place}: methods.{method}.training", source="suite")


def adoption_config(suite: Suite, method: str, base: Config, *, place: str = "suite") -> Config:
    """The configuration that a method adopts text with: the one that it trains with, and the settings of its adoption.

    Raises:
        UserError: as `method_config`.
    """
    config = method_config(suite, method, base, place=place)
    adoption = suite.methods[method].adoption
    own = adoption.settings if adoption else {}
    return changed_config(config, own, place=f"{place}: methods.{method}.adoption.settings", source="suite")


def _settings(suite: Suite, path: Path, base: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """The suite's settings with overrides over them: those that differ from the base."""
    own = changed_config(base, suite.settings, place=f"{path}: settings", source="suite")
    return {key: value for key, (_, value) in differences(base, load_config(None, overrides, base=own)).items()}


def _complaints(path: Path, error: ValidationError) -> Iterator[str]:
    for detail in error.errors():
        name = ".".join(map(str, detail["loc"])) or "the file"
        key = str(detail["loc"][-1]) if detail["loc"] else ""
        if detail["type"] == "missing":
            yield f"{path}: {name}: is missing. Add it."
        elif detail["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            yield f"{path}: {name}: unknown key. {f'Did you mean {close[0]}?' if close else 'Remove it.'}"
        else:
            found = json.dumps(detail["input"], default=str, ensure_ascii=False)
            yield f"{path}: {name}: {detail['msg'].lower()} (found {found})"


def _contradictions(suite: Suite) -> Iterator[str]:
    """What does not go together, each with its key and the fix."""
    if len(set(suite.seeds)) < len(suite.seeds):
        yield f"seeds: {suite.seeds} has a seed twice. Remove one."
    for key in ("baseline", "main"):
        name = getattr(suite, key)
        if name not in suite.compared:
            yield f"{key}: {name} is no method without shots. Choose one of {', '.join(suite.compared)}."
    if suite.methods[suite.main].tagging == "plain":
        yield f"main: {suite.main} tags plainly. Choose a method that adapts."
    for language in sorted({one for row in suite.paper.values() for one in row} - suite.targets.keys()):
        yield f"paper: {language} is no target. Remove it, or add it to targets."
    for key in suite.settings:
        if key in DECIDED:
            yield f"settings.{key}: a suite decides this by {DECIDED[key]}. Remove it."
    for name, method in suite.methods.items():
        for problem in _method_contradictions(suite, name, method):
            yield f"methods.{name}.{problem}"


def _method_contradictions(suite: Suite, name: str, method: Method) -> Iterator[str]:
    for key in method.training:
        if key in DECIDED:
            yield f"training.{key}: a suite decides this by {DECIDED[key]}. Remove it."
    if (method.tagging == "o_bias") != (method.o_bias is not None):
        yield "o_bias: goes with tagging: o_bias, and with nothing else. Give both or none."
    of_adaptation = (method.neighbours, method.inner_lr, method.word_neighbours)
    if method.tagging in ("plain", "o_bias") and any(value is not None for value in of_adaptation):
        yield f"tagging: {method.tagging} takes no step. Remove neighbours, inner_lr and word_neighbours."
    if method.tagging == "released_optimizer" and method.word_neighbours is not None:
        yield "word_neighbours: no word votes where the released optimizer tags. Remove it."
    if method.tagging == "released_optimizer" and method.inner_lr is None:
        yield "inner_lr: is missing. Its steps have another length than ours; the released code has 1e-5."
    if method.shots and method.tagging not in ("plain", "adapted"):
        yield f"shots: cannot be combined with tagging: {method.tagging}. Choose plain or adapted."
    if method.shots in ("index", "half") and method.tagging == "plain":
        yield f"shots: {method.shots} needs tagging: adapted, or the sentences in the index have no effect."
    if method.shots == "half" and suite.shots and min(suite.shots.sizes) == 1 == max(suite.shots.sizes):
        yield "shots: half of one sentence is none. Add a size of 2 or more to shots.sizes."
    if method.start is not None:
        other = suite.methods.get(method.start)
        if other is None or other.start is not None or other.average or other.shots not in (None, "index"):
            yield f"start: {method.start} is no method that is trained from the encoder without shots. Choose another."
    if method.average and method.start is not None:
        yield "average: weights that began with those of bundles are not averaged. Remove average or start."
    if method.average and method.shots in ("joint", "half"):
        yield "average: a draw is trained on with one seed only. Choose shots: adopted or index, or remove average."
    if method.shots and suite.shots is None:
        yield "shots: needs sizes and draws. Add shots: {sizes: [1, 10], draws: 10, share: 0.1} to the suite."
    for language, files in suite.targets.items():
        if method.shots and files.shots is None:
            yield f"shots: targets.{language}.shots is missing. Add it, or remove the method."
    if method.adoption:
        yield from _adoption_contradictions(suite, method, method.adoption)


def _adoption_contradictions(suite: Suite, method: Method, adoption: AdoptionSettings) -> Iterator[str]:
    if not suite.texts:
        yield "adoption: no target has text. Add it (targets: {es: {test: ..., text: FILE}}), or remove the method."
    if adoption.teachers == "seeds" and method.shots in ("joint", "half"):
        yield "adoption.teachers: a draw is trained on with one seed only. Choose own, or shots: index."
    for key in adoption.settings:
        if not key.startswith("adopt."):
            yield f"adoption.settings.{key}: is no setting of adoption. Take one of adopt.*, or remove it."


def _resolved(suite: Suite, path: Path, folder: Path) -> Suite:
    """The suite with absolute names of its files, all of which have to exist."""
    missing: list[str] = []

    def found(key: str, name: str) -> str:
        file = (folder.expanduser() / name).absolute()
        if not file.exists():
            missing.append(f"{path}: {key}: no such file: {file}")
        return str(file)

    train = [found("source.train", name) for name in suite.source_files]
    source = {"language": suite.source.language, "train": train, "dev": found("source.dev", suite.source.dev)}
    targets = {
        language: {key: found(f"targets.{language}.{key}", name) for key, name in files.model_dump().items() if name}
        for language, files in suite.targets.items()
    }
    if missing:
        raise UserError("\n".join([*missing, "Name the folder of the corpora: --data DIR"]))
    return Suite.model_validate({**suite.model_dump(), "source": source, "targets": targets})
