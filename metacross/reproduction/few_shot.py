"""A few labelled target sentences: drawn at random, and written to be learned from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metacross.config import DataConfig
from metacross.corpora.from_config import read_configured
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.reproduction.cells import Sample
from metacross.storage.files import write_file
from metacross.wording import counted


def drawn(sentences: Sequence[Sentence], sample: Sample) -> list[Sentence]:
    """The sentences of a sample, or of its part.

    Sentences are drawn, whether they have an entity or not, until as many with one are there as the sample's size. So
    the language's own share of sentences without is among them, and from a sample of one something can be learnt. A
    draw's smaller samples are the beginnings of its larger ones.

    Raises:
        UserError: there are too few.
    """
    order = np.random.default_rng([sample.draw]).permutation(len(sentences)).tolist()
    ends = [i for i, number in enumerate(order, 1) if any(tag != "O" for tag in sentences[number].tags or ())]
    if len(ends) < sample.size:
        raise UserError(
            f"{sample.file}: shots.sizes has {sample.size}, but there are only "
            f"{counted(len(ends), 'sentences')} with an entity. Lower it."
        )
    chosen = [sentences[number] for number in order[: ends[sample.size - 1]]]
    if sample.part == "all":
        return chosen
    middle = ends[sample.size // 2 - 1]
    return chosen[:middle] if sample.part == "first" else chosen[middle:]


def read_sample(sample: Sample, data: DataConfig) -> list[Sentence]:
    """A sample's sentences, read with the settings of a configuration and drawn."""
    return drawn(read_configured(sample.file, data, language=sample.language).sentences, sample)


def write_sample(path: Path, sentences: Sequence[Sentence], *, others: int = 0, share: float = 0.0) -> None:
    """Writes sentences as JSON lines, repeated until they are a share of what is trained on.

    Args:
        path: the file.
        sentences: to be written.
        others: number of the other sentences that are trained on.
        share: see above; each sentence is written at least once.
    """
    times = max(1, round(share / (1 - share) * others / len(sentences)))
    lines = [json.dumps({"tokens": s.words, "ner_tags": s.tags}, ensure_ascii=False) + "\n" for s in sentences]
    write_file(path, "".join(lines * times))
