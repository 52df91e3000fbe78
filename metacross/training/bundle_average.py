"""One bundle from several: theta is the mean of those that runs with different seeds have found.

The mean costs an answer nothing, unlike the mean of several taggers' answers (Wortsman et al., ICML 2022, "Model
soups"). It makes sense for runs that start from the same pre-trained encoder and differ in little more than the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from metacross.bundle import Bundle, load_bundle
from metacross.config import differences
from metacross.encoder.device import named_device
from metacross.errors import UserError
from metacross.events import Show, ignore
from metacross.tagging.calibration import fit_temperature
from metacross.tagging.development import read_dev_sentences, tag_dev
from metacross.tagging.scoring import scores
from metacross.tagging.tagger import AdaptiveTagger


@dataclass(frozen=True)
class AveragedBundle:
    """A bundle of averaged weights.

    Attributes:
        bundle: its directory.
        dev_f1: F1 in percent on the development data that chose the bundles' own weights, measured in the same way.
    """

    bundle: Path
    dev_f1: float


def average_bundles(
    bundles: Sequence[str | Path], out: Path, *, device: str = "auto", show: Show = ignore
) -> AveragedBundle:
    """Writes a bundle whose theta is the mean of those of other bundles; the rest of it is the first one's.

    The development data named in the first bundle's configuration is read again: it gives the bundle's F1, and the
    temperature of its scores.

    Args:
        bundles: at least two, trained alike (model, tags, source) with different seeds; paths or addresses.
        out: where the new bundle goes; a bundle that is there is replaced.
        device: auto, cpu, cuda or cuda:N.
        show: gets notes about the development data, and how far the tagging of it has come.

    Raises:
        UserError: fewer than two bundles, bundles that do not go together, or development data that cannot be read.
    """
    if len(bundles) < 2:
        raise UserError(f"{len(bundles)} bundle: an average needs at least two.")
    first = load_bundle(bundles[0])
    dev = read_dev_sentences(first, show)  # before the work, so that a file that is gone costs nothing
    seen = [first.digest, *_take_mean(first, bundles[1:])]
    tagger = AdaptiveTagger(first, device=named_device(device))
    labelled = tag_dev(tagger, dev, adapt=first.config.train.method != "base", show=show)
    dev_f1 = sum(float(scores(gold, chains.best_tags())["f1"]) for chains, gold in labelled) / len(labelled)
    metrics = {"dev_f1": dev_f1, "averaged": seen}
    replace(first, metrics=metrics, score_temperature=fit_temperature(labelled)).save(out)
    return AveragedBundle(out, dev_f1)


def _refuse_stranger(first: Bundle, other: Bundle) -> None:
    """Raises UserError where the mean of two bundles' weights would make no sense."""
    if other.tags != first.tags:
        raise UserError(
            f"{other.path}: its tags are {', '.join(other.tags)}, those of {first.path} {', '.join(first.tags)}. Only "
            "bundles with the same tags can be averaged."
        )
    unlike = {
        key: values
        for key, values in differences(first.config, other.config).items()
        if key.startswith(("model.", "retrieval.")) or key in ("data.source", "train.method")
    }
    for key, (mine, its) in unlike.items():
        raise UserError(
            f"{other.path}: was trained with {key}={its}, but {first.path} with {mine}. Only bundles that were trained "
            "alike can be averaged."
        )
    adapted = {id(p) for p in first.model.theta()}
    for (name, mine), its in zip(first.model.named_parameters(), other.model.parameters(), strict=True):
        if id(mine) not in adapted and not torch.equal(mine, its):
            raise UserError(
                f"{other.path}: its frozen layers ({name}) are not those of {first.path}. Only bundles from the same "
                "pre-trained encoder can be averaged."
            )


@torch.no_grad()
def _take_mean(first: Bundle, others: Sequence[str | Path]) -> list[str]:
    """Gives the first bundle's theta the mean of all bundles' values; returns the others' digests.

    One other bundle is in memory at a time.
    """
    digests = []
    theta = first.model.theta()
    for number, path in enumerate(others, 2):
        other = load_bundle(path, source=False)
        _refuse_stranger(first, other)
        for mean, p in zip(theta, other.model.theta(), strict=True):
            mean.lerp_(p, 1 / number)
        digests.append(other.digest)
    return digests
