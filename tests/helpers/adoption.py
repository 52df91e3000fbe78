"""Bundles and texts for the tests of adoption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from metacross.adoption.adopt import adopt
from metacross.bundle import load_bundle, save_bundle

TEXT = """Anna Berg lives in Oslo. In Bergen, Otto Klein met Eva Roth. Paul Weber left Lima for Madrid last week.
Nothing happened in Leiden. Ines Vidal and Tom Hale spoke. Maria Lopez lives in Paris. In Oslo, Jan Smit met Anna Berg.
Tom Hale left Bergen for Oslo last week. Nothing happened in Lima. Eva Roth and Jan Smit spoke.
"""

SETTINGS = ("adopt.steps=3", "adopt.confidence=0.3")


def write_text(folder: Path) -> Path:
    """Raw text of ten sentences, which passes for German."""
    path = folder / "de.txt"
    path.write_text(TEXT)
    return path


def adopt_text(bundle: Path, folder: Path) -> Path:
    """The bundle when it has adopted that text."""
    out = folder / "adopted"
    adopt(bundle, {"de": str(write_text(folder))}, out=out, overrides=SETTINGS, device="cpu")
    return out


def other_theta(bundle: Path, path: Path, *, tags: Sequence[str] | None = None) -> Path:
    """A bundle with another theta and, if wanted, other names of tags."""
    loaded = load_bundle(bundle)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.model.theta():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    names = tuple(tags or loaded.tags)
    loaded.model.classifier.config.id2label = dict(enumerate(names))
    loaded.model.classifier.config.label2id = {tag: i for i, tag in enumerate(names)}
    save_bundle(
        path,
        config=loaded.config,
        tags=names,
        model=loaded.model,
        sentence_encoder=loaded.sentence_encoder,
        tokenizer=loaded.tokenizer,
        sentences=loaded.sentences,
        index=loaded.index,
        metrics=loaded.metrics,
    )
    return path
