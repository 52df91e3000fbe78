"""What it would bring if the source's own words voted: F1 of plain answers, with these votes, and with a control.

    python -m benchmarks.source_words BUNDLE --data pt=uner/pt_bosque/dev.iob2 --data zh=uner/zh_gsdsimp/dev.iob2 \
      --limit 200 words.similarity=0.89 words.most=1

The words of source sentences vote as those of a text that a machine labelled do (`retrieval.labelled_words`): on words
of which the tagger is not sure, a tenth of the O words for all. No other words vote, and there is no step. The control
takes a constant from O's logit of the same unsure words, since both find more entities there. Beside the gain in F1
stand the words whose tag became right and those whose tag became wrong.

Shapes: W words, C tags.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from torch import Tensor

from metacross import AdaptiveTagger
from metacross.adoption.voting_words import voting_words
from metacross.bundle import Bundle
from metacross.corpora.from_config import read_configured
from metacross.corpora.sentence import MachineLabels, Sentence
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError
from metacross.reproduction.placebos import without_bias
from metacross.retrieval.labelled_words import SURE, EncodedWords
from metacross.sequences import spread
from metacross.tagging.decoding import shared_pieces
from metacross.tagging.scoring import scores
from metacross.tagging.tag_sequences import TagChains, TaggedWords

Tags = Sequence[Sequence[str]]


class Gain(NamedTuple):
    """What a way of tagging changes, over plain answers.

    Attributes:
        f1: in points.
        won: words whose tag became right.
        lost: words whose tag was right.
    """

    f1: float
    won: int
    lost: int


def source_voters(bundle: Bundle, pieces: PieceEncoder) -> EncodedWords | None:
    """The words of a bundle's source sentences, as if a machine had labelled them and were sure of all."""
    source = [sentence for sentence in bundle.sentences if sentence.machine is None and not sentence.example_of]
    marked = [replace(sentence, machine=MachineLabels("source", 1.0)) for sentence in source]
    return voting_words(bundle, 0, marked, pieces, bundle.config)


def biased(probabilities_WC: Tensor, tags: Sequence[str], bias: float) -> Tensor:
    """Probabilities (W, C) after a constant is taken from O's logit of the words of which the tagger is not sure."""
    unsure_W1 = probabilities_WC.amax(1, keepdim=True) < SURE
    return torch.where(unsure_W1, without_bias(probabilities_WC, tags, bias), probabilities_WC)


def gain(sentences: Sequence[Sentence], plain: Tags, tagged: Tags) -> Gain:
    """What was gained, by the sentences' own tags."""
    gold = [sentence.tags or () for sentence in sentences]
    changes = [
        (right, before, after)
        for of_one in zip(gold, plain, tagged, strict=True)
        for right, before, after in zip(*of_one, strict=True)
        if before != after
    ]
    won, lost = sum(r == after for r, _, after in changes), sum(r == before for r, before, _ in changes)
    return Gain(scores(gold, tagged)["f1"] - scores(gold, plain)["f1"], won, lost)


def measure(
    tagger: AdaptiveTagger, pieces: PieceEncoder, sentences: Sequence[Sentence], bias: float
) -> tuple[float, Gain, Gain]:
    """F1 of plain answers, and what the votes and the control gain."""
    shared: list[list[bool]] = [[] for _ in sentences]
    for window in pieces.windows(sentences):
        shared[window.sentence] += shared_pieces(window)

    def decoded(probabilities: Sequence[Tensor]) -> Tags:
        words = [TaggedWords(one_WC.numpy(), flags) for one_WC, flags in zip(probabilities, shared, strict=True)]
        return TagChains(words, tagger.tags).best_tags()

    before = tagger.probabilities(sentences, adapt=False)
    plain = decoded(before)
    voted = decoded(tagger.probabilities(sentences, neighbours=1, inner_lr=0.0))
    control = decoded([biased(one_WC, tagger.tags, bias) for one_WC in before])
    f1 = scores([sentence.tags or () for sentence in sentences], plain)["f1"]
    return f1, gain(sentences, plain, voted), gain(sentences, plain, control)


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    overrides: Annotated[list[str] | None, typer.Argument(help="settings of the votes, such as words.most=1")] = None,
    data: Annotated[list[str] | None, typer.Option(help="LANGUAGE=FILE, a labelled corpus")] = None,
    limit: Annotated[int, typer.Option(min=1, help="sentences of each, spread evenly over it")] = 200,
    bias: Annotated[float, typer.Option(help="of the control")] = 0.5,
) -> None:
    """Prints a Markdown table."""
    try:
        loaded = AdaptiveTagger.from_pretrained(bundle, device="cpu", overrides=overrides or ())
        corpora = _corpora(loaded, data or (), limit)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    pieces = PieceEncoder(loaded.bundle.tokenizer, max_pieces=loaded.config.model.max_pieces)
    with_words = replace(loaded.bundle, words=source_voters(loaded.bundle, pieces))
    tagger = AdaptiveTagger(with_words, device=loaded.device, config=loaded.config)
    print("| | plain | votes | won : lost | control | won : lost |\n|---|---|---|---|---|---|")
    for language, sentences in corpora.items():
        f1, votes, control = measure(tagger, pieces, sentences, bias)
        cells = (f"{one.f1:+.1f} | {one.won} : {one.lost}" for one in (votes, control))
        print(f"| {language} | {f1:.1f} | {' | '.join(cells)} |", flush=True)


def _corpora(tagger: AdaptiveTagger, data: Sequence[str], limit: int) -> Mapping[str, Sequence[Sentence]]:
    out = {}
    for language, _, file in (item.partition("=") for item in data):
        sentences = read_configured(file, tagger.config.data, language=language).sentences
        out[language] = [sentences[i] for i in spread(len(sentences), limit)]
    return out


if __name__ == "__main__":
    typer.run(main)
