"""Whether scores mean what they say: of the entities with a score of 0.8, are 80 % right?

    python -m benchmarks.calibration runs/NAME/bundle --data es=samples/es/test.conll --data zh=samples/zh/test.conll \
      --plot docs/calibration

For each corpus and for all together: the found entities, the share of them that is right, and the expected calibration
error (ECE) of their scores, at temperature 1 and at the bundle's own. The ECE is the mean, over the entities, of the
distance between mean score and share of right ones in the entity's bin (10 bins of equal width). `--plot` draws both
for all corpora together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks.plots import save
from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.tagging.answers import TaggedEntity
from metacross.tagging.decoding import labelled_entities

BINS = 10
WAYS = ("adapted", "plain")


class Bin(NamedTuple):
    """The entities whose scores are in one bin.

    Attributes:
        entities: how many they are.
        score: their mean score.
        right: the share of them that is right.
    """

    entities: int
    score: float
    right: float


class Scored(NamedTuple):
    """A found entity's score, and whether the entity is right."""

    score: float
    right: bool


def bins_of(scored: Sequence[Scored]) -> list[Bin]:
    """The bins that are not empty, from low to high scores."""
    scores_K = np.array([one.score for one in scored])
    right_K = np.array([one.right for one in scored], dtype=bool)
    numbers_K = np.minimum((scores_K * BINS).astype(int), BINS - 1)
    members = [numbers_K == number for number in np.unique(numbers_K)]
    return [Bin(int(own.sum()), float(scores_K[own].mean()), float(right_K[own].mean())) for own in members]


def calibration_error(scored: Sequence[Scored]) -> float:
    """Expected calibration error, 0 to 1.

    >>> round(calibration_error([Scored(0.9, True), Scored(0.9, False), Scored(0.2, False), Scored(0.2, False)]), 3)
    0.3
    """
    return sum(b.entities * abs(b.score - b.right) for b in bins_of(scored)) / max(1, len(scored))


def scored_entities(tagger: AdaptiveTagger, sentences: Sequence[Sentence]) -> dict[str, list[Scored]]:
    """The entities found in labelled sentences, with adaptation and without."""
    found: dict[str, list[Scored]] = {way: [] for way in WAYS}
    for tagged in tagger.tag_sentences(sentences, explain=True):
        gold = {_place(entity) for entity in labelled_entities(tagged.sentence)}
        for way, entities in zip(WAYS, (tagged.entities, tagged.plain or ()), strict=True):
            found[way] += [Scored(entity.score or 0.0, _place(entity) in gold) for entity in entities]
    return found


def _place(entity: TaggedEntity) -> tuple[str, int, int]:
    return entity.label, entity.start, entity.end


def draw(before: Mapping[str, Sequence[Scored]], after: Mapping[str, Sequence[Scored]], path: Path) -> list[Path]:
    """A reliability diagram for each way of tagging: share of right entities by score, before and after."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(WAYS), figsize=(9, 4.4), sharey=True, layout="constrained")
    for axis, way in zip(axes, WAYS, strict=True):
        axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="score = share right")
        for scored, label, colour in ((before, "temperature 1", "#c1666b"), (after, "fitted temperature", "#2a6f97")):
            bins = bins_of(scored[way])
            text = f"{label}: ECE {100 * calibration_error(scored[way]):.1f} %"
            axis.plot([b.score for b in bins], [b.right for b in bins], color=colour, linewidth=1.5, label=text)
            sizes = [8 + 400 * b.entities / len(scored[way]) for b in bins]
            axis.scatter([b.score for b in bins], [b.right for b in bins], s=sizes, color=colour, alpha=0.6)
        axis.set(title=way, xlabel="mean score of a bin", xlim=(0, 1.03), ylim=(0, 1.03))
        axis.legend(loc="lower right", frameon=False, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of its entities that is right")
    return save(figure, path)


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[list[str], typer.Option(help="LANGUAGE=FILE, a labelled corpus")],
    plot: Annotated[Path | None, typer.Option(help="writes the diagram to PLOT.svg and PLOT.png")] = None,
) -> None:
    """Prints a Markdown table, and draws a reliability diagram."""
    try:
        calibrated = AdaptiveTagger.from_pretrained(bundle, device="cpu")
        pairs = [(language, file) for language, _, file in (item.partition("=") for item in data)]
        corpora = {language: read_corpus(file, language=language).sentences for language, file in pairs}
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    raw = AdaptiveTagger(
        replace(calibrated.bundle, score_temperature=1.0), device=calibrated.device, config=calibrated.config
    )
    print(f"temperature {calibrated.bundle.score_temperature:.3f}\n")
    head = [f"{way}: {column}" for way in WAYS for column in ("entities", "right, %", "ECE, %", "ECE calibrated, %")]
    print(f"| | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
    before: dict[str, list[Scored]] = {way: [] for way in WAYS}
    after: dict[str, list[Scored]] = {way: [] for way in WAYS}
    for language, sentences in corpora.items():
        parts = [scored_entities(tagger, sentences) for tagger in (raw, calibrated)]
        print(_row(language, *parts), flush=True)
        for way in WAYS:
            before[way] += parts[0][way]
            after[way] += parts[1][way]
    print(_row("**all**", before, after))
    if plot is not None:
        print(*draw(before, after, plot))


def _row(name: str, before: Mapping[str, Sequence[Scored]], after: Mapping[str, Sequence[Scored]]) -> str:
    cells: list[Any] = [name]
    for way in WAYS:
        right = sum(one.right for one in before[way]) / max(1, len(before[way]))
        errors = (calibration_error(scored[way]) for scored in (before, after))
        cells += [len(before[way]), f"{100 * right:.1f}", *(f"{100 * error:.1f}" for error in errors)]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    typer.run(main)
