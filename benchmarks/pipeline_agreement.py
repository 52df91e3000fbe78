"""How far Hugging Face's pipeline over a bundle gives the entities of the tagger without adaptation.

    python -m benchmarks.pipeline_agreement runs/NAME/bundle es=samples/es/test.conll zh=samples/zh/test.conll

For each language and aggregation strategy: the percentage of the tagger's entities that the pipeline finds with the
same start, end and type, then that of the pipeline's entities which the tagger finds. `--close` moves punctuation marks
up to the word before them (`Quito .` becomes `Quito.`), as in text that was not cut into words. `--own` takes the
pipeline that the bundle brings along (its code runs) instead of transformers' own, and gives it the complete files.
Everything runs in fp32.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import pipeline

from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from metacross.corpora.words import split_sentences
from metacross.model_card import PIPELINE_TASK

STRATEGIES = ("simple", "first", "average", "max")
SPACE_AT_PUNCTUATION = re.compile(r" (?=[.,;:!?)\]])|(?<=[(\[]) ")


class Agreement(NamedTuple):
    """Numbers of entities: the tagger's, the pipeline's, and those that both found."""

    tagger: int
    pipeline: int
    both: int

    def plus(self, other: Agreement) -> Agreement:
        """The sums."""
        return Agreement(self.tagger + other.tagger, self.pipeline + other.pipeline, self.both + other.both)

    def __str__(self) -> str:
        return f"{100 * self.both / max(1, self.tagger):.1f} / {100 * self.both / max(1, self.pipeline):.1f}"


class BothTaggers:
    """A bundle in the tagger and in a pipeline.

    Args:
        bundle: its directory.
        own: whether the pipeline is the bundle's, rather than transformers'.
    """

    def __init__(self, bundle: Path, *, own: bool = False) -> None:
        self._tagger = AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=["train.precision=fp32"])
        task: Any = PIPELINE_TASK if own else "token-classification"  # the type lists transformers' own tasks only
        self._pipeline: Any = pipeline(task, model=str(bundle), device="cpu", trust_remote_code=own)

    def agreement(self, texts: Sequence[str], strategy: str) -> Agreement:
        """Compares the entities of all texts, by one of `STRATEGIES`."""
        counts = Agreement(0, 0, 0)
        for text, entities in zip(texts, self._tagger(list(texts), adapt=False), strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for every piece, about the heuristic that is measured here
                others = self._pipeline(text, aggregation_strategy=strategy)
            own, other = _spans(entities), _spans(others)
            counts = counts.plus(Agreement(len(own), len(other), len(own & other)))
        return counts


def _spans(entities: Iterable[Mapping[str, Any]]) -> set[tuple[int, int, str]]:
    return {(e["start"], e["end"], e["entity_group"]) for e in entities}


def closed(text: str) -> str:
    """The text without the spaces that tokenized corpora have at punctuation marks.

    >>> closed("La cumbre ( de hoy ) es en Quito .")
    'La cumbre (de hoy) es en Quito.'
    """
    return SPACE_AT_PUNCTUATION.sub("", text)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("corpora", nargs="+", metavar="LANGUAGE=FILE")
    parser.add_argument("--close", action="store_true", help="move punctuation marks up to the word before them")
    parser.add_argument("--own", action="store_true", help="the bundle's own pipeline, on complete files")
    arguments = parser.parse_args()
    both = BothTaggers(arguments.bundle, own=arguments.own)
    print(f"| | {' | '.join(STRATEGIES)} |\n|---|{'---|' * len(STRATEGIES)}")
    sums = [Agreement(0, 0, 0)] * len(STRATEGIES)
    for corpus in arguments.corpora:
        language, _, file = corpus.partition("=")
        texts = [s.text for s in read_corpus(Path(file)).sentences]
        texts = [closed(text) for text in texts] if arguments.close else texts
        if arguments.own:
            texts = ["\n".join(texts)]
        else:  # the tagger finds sentences by itself; transformers' pipeline takes a text as one
            texts = [text[start:end] for text in texts for start, end in split_sentences(text)]
        row = [both.agreement(texts, strategy) for strategy in STRATEGIES]
        sums = [total.plus(part) for total, part in zip(sums, row, strict=True)]
        print(f"| {language} | {' | '.join(map(str, row))} |", flush=True)
    print(f"| **all** | {' | '.join(map(str, sums))} |")


if __name__ == "__main__":
    main()
