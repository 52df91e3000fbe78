"""What runs on a GPU gives what the CPU gives: a meta-step, plain and adapted answers, examples, an adopted bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.corpora.reader import read_corpus
from metacross.training.learner import Learner
from tests.helpers.tiny_bundle import tiny_config, write_inputs

pytestmark = pytest.mark.gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TEXTS = ["Anna Berg left Oslo.", "Jan Smit lives in Lima. Eva Roth met Tom Hale in New York last week.", "Nothing."]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("devices"))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.method=base",),
        ("inner.second_order=true", "inner.steps=2"),
        ("train.plain_steps=2", "train.average=0.5"),
    ],
)
def test_meta_steps(place: Path, overrides: tuple[str, ...]) -> None:
    config = tiny_config(place, "train.steps=4", "train.precision=fp32", *overrides)
    here, there = (Learner.from_config(config, device=device) for device in (CPU, CUDA))
    for _ in range(3):
        assert there.step().loss == pytest.approx(here.step().loss, rel=1e-4)
    assert there.evaluate().plain == pytest.approx(here.evaluate().plain, abs=5)
    for name, parameter in here.model.state_dict().items():
        assert torch.allclose(there.model.state_dict()[name].cpu(), parameter, atol=1e-4), name


@pytest.mark.parametrize("adapt", [False, True])
def test_answers(tiny_bundle: Path, tiny_folder: Path, adapt: bool) -> None:
    settings = ["train.precision=fp32"]
    here, there = (AdaptiveTagger.from_pretrained(tiny_bundle, device=d, overrides=settings) for d in (CPU, CUDA))
    examples = read_corpus(tiny_folder / "dev.conll").sentences[:3]
    for _ in range(2):  # without examples, then with
        for text in TEXTS:  # alone and together, cold and warm
            _same(here(text, adapt=adapt), there(text, adapt=adapt))
        for one, other in zip(here(TEXTS, adapt=adapt), there(TEXTS, adapt=adapt), strict=True):
            _same(one, other)
        if adapt:
            one, other = ([s.text for s in t.tag_texts(TEXTS, explain=True)[1].support()] for t in (here, there))
            assert one == other
        here.add_examples(examples)
        there.add_examples(examples)


def _same(one: list[dict[str, object]], other: list[dict[str, object]]) -> None:
    assert [{**entity, "score": pytest.approx(entity["score"], abs=1e-3)} for entity in one] == other


def test_in_the_precision_of_the_device(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device=CUDA)
    alone = [tagger(text) for text in TEXTS]
    assert [[e["word"] for e in found] for found in tagger(TEXTS)] == [[e["word"] for e in found] for found in alone]
