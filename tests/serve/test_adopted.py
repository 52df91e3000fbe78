"""A service of a bundle that has adopted a language tells which labels a machine gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from metacross import AdaptiveTagger
from metacross.bulk.items import Item
from metacross.bundle import load_bundle
from metacross.cli.remote import answer
from metacross.client.contract import Adopted
from serve.engine import Engine
from serve.jobs import Job, Refusal


@pytest.fixture(scope="module")
def engine(adopted_bundle: Path) -> Engine:
    engine = Engine(None, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu"))
    engine.load(str(adopted_bundle))
    return engine


def test_the_model_says_what_it_has_adopted(engine: Engine, adopted_bundle: Path) -> None:
    (record,) = load_bundle(adopted_bundle).adopted
    assert engine.model().adopted == (Adopted("de", "de.txt", 10, record.kept, 5, record.teachers),)
    assert engine.model().dev_f1 is None


def test_support_says_that_a_machine_labelled_it(engine: Engine, adopted_bundle: Path) -> None:
    bundle = load_bundle(adopted_bundle)
    labelled = {s.text: s for s in bundle.sentences if s.machine}
    text = next(iter(labelled))
    (answered,) = engine.answer([[Job(text, explain=True, neighbours=engine.model().source_sentences)]])
    assert not isinstance(answered, Refusal)
    (result,) = answered.results
    told = [support for support in result.support or () if support.confidence is not None]
    assert {support.text for support in told} == labelled.keys(), "each of them has a certain entity"
    for support in told:
        machine = labelled[support.text].machine
        assert machine is not None
        assert (support.language, support.confidence) == (machine.language, machine.confidence)
        places = [labelled[support.text].spans[word] for word in machine.uncertain]
        assert [(stretch.start, stretch.end) for stretch in support.uncertain or ()] == places
    for support in result.support or ():
        assert (support.confidence is None) == (support.language is None) == (support.uncertain is None)
    read = answer(Item(text), result)
    assert {s.text for s in read.support if s.confidence is not None} == labelled.keys()
    assert {s.language for s in read.support} == {"", "de"}
