"""Cells: the pieces of work that a comparison consists of, each known by a digest of all that decides its result.

A cell's directory is named after its kind and digest. So cells that methods share are computed once, a changed setting
gives only those cells new names that it has an effect on, and one that was computed before is found again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metacross.config import Config

FORMAT = 1  # counts in every digest: to be raised when cells of an older version should not be taken over
DONE_FILE = "done.json"  # written last into a cell's directory


@dataclass(frozen=True)
class Sample:
    """Labelled target sentences that are drawn at random, as they come: see `few_shot.drawn`.

    Attributes:
        language: the target language.
        file: where they are drawn from.
        size: how many of them have an entity.
        draw: number of the sample, from 0.
        part: all of them, or half of them: the first, or the second.
    """

    language: str
    file: str
    size: int
    draw: int
    part: str


@dataclass(frozen=True)
class Training:
    """Trains a bundle.

    Attributes:
        config: with the files to learn from; says nothing about where to write.
        sample: labelled target sentences to learn from too.
        share: of the sentences trained on that the sample makes up by being repeated; 0: it is not repeated.
        start: the cell whose bundle's weights training starts with; "" for the encoder's own.
    """

    config: Config
    sample: Sample | None
    share: float
    start: str


@dataclass(frozen=True)
class Average:
    """Makes one bundle of several, with the mean of their weights.

    Attributes:
        bundles: the cells that have them.
    """

    bundles: tuple[str, ...]


@dataclass(frozen=True)
class Adoption:
    """Lets a bundle adopt unlabelled text, or a few labelled sentences, or both.

    Attributes:
        bundle: the cell that has it.
        teachers: the cells whose bundles label the text together; none: the bundle itself, trained on the sentences.
        texts: file by language.
        distillation: whether theta is trained on a part of the text too.
        settings: of the configuration's section `adopt`, those that matter, by dotted name.
        sample: the labelled sentences.
    """

    bundle: str
    teachers: tuple[str, ...]
    texts: Mapping[str, str]
    distillation: bool
    settings: Mapping[str, Any]
    sample: Sample | None


@dataclass(frozen=True)
class Evaluation:
    """Tags a target language's test file.

    Attributes:
        bundle: the cell that has the bundle.
        language: the target language.
        test: the file.
        sentences: at most so many of it, spread evenly; None: all.
        way: how it is tagged besides plainly: a method's `tagging`, adapted in place of plain.
        neighbours: K.
        inner_lr: alpha.
        word_neighbours: labelled words that vote on a word; None: as many as the bundle's settings say.
        o_bias: what is taken from O's logit.
        seed: of the controls that draw at random.
        sample: labelled target sentences that may be support.
    """

    bundle: str
    language: str
    test: str
    sentences: int | None
    way: str
    neighbours: int
    inner_lr: float
    word_neighbours: int | None
    o_bias: float
    seed: int
    sample: Sample | None


Job = Training | Average | Adoption | Evaluation
KINDS: dict[type[Job], str] = {Training: "train", Average: "average", Adoption: "adopt", Evaluation: "measure"}


@dataclass(frozen=True)
class Cell:
    """A piece of work.

    Attributes:
        label: what it is, for people.
        job: what is to be done.
        inputs: all that decides the result, as JSON: settings, digests of files, names of cells.
    """

    label: str
    job: Job
    inputs: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """`train`, `average`, `adopt` or `measure`."""
        return KINDS[type(self.job)]

    @property
    def name(self) -> str:
        """Of its directory, and in other cells' inputs."""
        text = json.dumps({"format": FORMAT, **self.inputs}, sort_keys=True, ensure_ascii=False)
        return f"{self.kind}-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The cells that have to be done before."""
        match self.job:
            case Training(start=start):
                return (start,) if start else ()
            case Average(bundles=bundles):
                return bundles
            case Adoption(bundle=bundle, teachers=teachers):
                return tuple(dict.fromkeys([bundle, *teachers]))
            case Evaluation(bundle=bundle):
                return (bundle,)


def folder_of(out: Path, name: str) -> Path:
    """The directory of a cell."""
    return out / "cells" / name


def is_done(out: Path, name: str) -> bool:
    """Whether a cell's result is there."""
    return (folder_of(out, name) / DONE_FILE).is_file()


def seconds_of(out: Path, name: str) -> float:
    """How long a cell that is done took."""
    return float(json.loads((folder_of(out, name) / DONE_FILE).read_text(encoding="utf-8"))["seconds"])
