"""What a replica does with requests a few windows at a time: the same answers, whatever happens meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metacross import AdaptiveTagger
from metacross.adoption.by_confidence import label_by_confidence
from metacross.client.contract import EntitiesAnswer, Result
from metacross.corpora.sentence import sentence_from_text, sentence_from_words
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import Neighbour, SourcePool
from serve.batcher import Parts
from serve.engine import Engine, Labelling, Tagging
from serve.examples import ExampleStore, Said
from serve.jobs import Job, Refusal
from serve.work_parts import ANSWERED, AnswerPart, WindowPart
from tests.helpers.adoption import TEXT, other_theta

LONG = " ".join(f"Anna Berg met Otto Klein in place number {number} of Oslo and left" for number in range(12)) + "."
JOBS = [Job(TEXT), Job(LONG, explain=True, neighbours=3), Job(("Eva", "left"), adapt=False), Job("", labels=("PER",))]


@pytest.fixture
def engine(tiny_bundle: Path, tmp_path: Path) -> Engine:
    store = ExampleStore(str(tmp_path / "examples.db"))
    engine = Engine(store, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu"))
    engine.load(str(tiny_bundle))
    return engine


def slices(work: Tagging | Labelling, size: int) -> list[Parts[Any]]:
    ends = [*range(0, len(work.costs), size), len(work.costs)]
    return [Parts(work, start, end) for start, end in itertools.pairwise(ends)]


def of_windows(work: Tagging | Labelling) -> list[WindowPart]:
    return [part for part in work.parts if isinstance(part, WindowPart)]


def done(engine: Engine, *batch: Parts[Any]) -> None:
    """Does a batch as a queue does."""
    engine.do(batch)
    for parts in batch:
        parts.work.put_together(parts.start, parts.end)


def same(found: Sequence[Result], expected: Sequence[Result]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert [(e.start, e.end, e.label) for e in one.entities] == [(e.start, e.end, e.label) for e in other.entities]
        assert [e.score for e in one.entities] == pytest.approx([e.score for e in other.entities], abs=1e-5)
        assert (one.text, one.windows, one.adapted) == (other.text, other.windows, other.adapted)
        assert [(s.text, s.start) for s in one.support or ()] == [(s.text, s.start) for s in other.support or ()]
        assert (one.plain is None) == (other.plain is None)


def test_windows_of_like_length_are_tagged_together(engine: Engine) -> None:
    works = (engine.begin(JOBS), engine.begin_labels([sentence_from_text(text) for text in (LONG, TEXT)], "en"))
    for work in works:
        windows = [tagged for part in of_windows(work) if part.tags for tagged in part.windows]
        lengths = [(tagged.settings.adapt, len(tagged.window)) for tagged in windows]
        assert lengths == sorted(lengths) and len(set(lengths)) > 1
        assert sorted(map(id, windows)) == sorted(map(id, work.texts.windows))


@pytest.mark.parametrize("size", [1, 3])
def test_slices_change_no_answer(engine: Engine, size: int) -> None:
    (expected,) = engine.answer([JOBS])
    work, other = engine.begin(JOBS), engine.begin([Job("Jan Smit left Lima. " * 40)])
    assert len(work.costs) > 12 and min(work.costs) > 0
    for one, beside in zip(slices(work, size), slices(other, 1), strict=False):
        done(engine, one, beside)
    found = work.result()
    assert isinstance(expected, EntitiesAnswer) and isinstance(found, EntitiesAnswer)
    assert expected.results[1].windows > 3, "one sentence in several windows"
    same(found.results, expected.results)


def test_a_long_answer_is_put_together_in_parts(engine: Engine) -> None:
    """They end anywhere in a text; a text without sentences has no part, and an answer."""
    texts = [TEXT, "Jan Smit left Lima. " * (2 * ANSWERED), " \n", "Eva stayed."]
    work = engine.begin([Job(text, explain=True) for text in texts])
    answered = [(part.first, part.end) for part in work.parts if isinstance(part, AnswerPart)]
    assert len(answered) == 3 and answered[0] == (0, ANSWERED) and answered[-1][1] == len(work.texts.sentences)
    for part in slices(work, 1):
        done(engine, part)
    found = work.result()
    assert isinstance(found, EntitiesAnswer)
    assert [result.text for result in found.results] == texts
    alone = [engine.answer([[Job(text, explain=True)]])[0] for text in (TEXT, " \n", "Eva stayed.")]
    for number, one in zip((0, 2, 3), alone, strict=True):
        assert isinstance(one, EntitiesAnswer)
        same([found.results[number]], one.results)
    long = found.results[1]
    assert long.windows == 2 * ANSWERED and long.adapted
    starts = [support.start for support in long.support or ()]
    assert starts == sorted(starts) and set(starts) >= {20 * number for number in range(2 * ANSWERED)}
    assert long.plain is not None
    assert all(long.text[e.start : e.end] == e.text for e in (*long.entities, *long.plain))


def test_slices_change_no_label(engine: Engine, tiny_bundle: Path) -> None:
    sentences = [sentence_from_text(text) for text in [*TEXT.split("\n"), LONG]]
    work = engine.begin_labels(sentences, "de")
    for part in slices(work, 2):
        done(engine, part)
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    bound = tagger.config.serve.label_confidence
    expected = label_by_confidence(tagger, sentences, language="de", bound=bound)
    labelled = work.result()
    assert labelled.bundle == tagger.bundle.digest
    assert [(s.text, s.tags, s.uncertain) for s in labelled.sentences] == [
        (s.text, s.tags, s.uncertain) for s in expected
    ]


def test_a_request_ends_by_the_bundle_that_it_began_with(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    (expected,) = engine.answer([JOBS])
    work = engine.begin(JOBS)
    first, *others = slices(work, 3)
    done(engine, first)
    engine.load(str(other_theta(tiny_bundle, tmp_path / "other")))
    later = engine.begin(JOBS)
    for part, newer in zip(others, slices(later, 3), strict=False):
        done(engine, part, newer)
    found = work.result()
    assert isinstance(expected, EntitiesAnswer) and isinstance(found, EntitiesAnswer)
    assert found.model == expected.model != later.loaded.name
    same(found.results, expected.results)


def test_neighbours_that_were_deleted_meanwhile_refuse_their_request_alone(engine: Engine) -> None:
    assert engine.store is not None
    (added,) = engine.store.add([sentence_from_words(["Eva", "left"], ["B-PER", "O"])], [""])
    all_of_them = engine.model().source_sentences + 1
    work, other = engine.begin([Job(TEXT, neighbours=all_of_them)]), engine.begin([Job(TEXT)])
    first, *others = slices(work, 1)
    done(engine, first)
    engine.store.delete(added.example.id)
    for part, beside in zip(others, slices(other, 1), strict=False):
        done(engine, part, beside)
    refusal = work.result()
    assert isinstance(refusal, Refusal) and f"neighbours={all_of_them}" in refusal.detail


def test_neighbours_that_were_looked_up_ahead_are_those_of_the_moment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came meanwhile counts and what was deleted does not; without either nothing is searched again."""
    assert engine.store is not None
    searched: list[int] = []
    search = SourcePool.search

    def counted(pool: SourcePool, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        searched.append(len(vectors_BH))
        return search(pool, vectors_BH, k)

    monkeypatch.setattr(SourcePool, "search", counted)
    all_of_them = engine.model().source_sentences + 1
    (old,) = engine.store.add([sentence_from_words(["Eva", "left"], ["B-PER", "O"])], [""])
    texts = [f"Zoe Quist left place {number}." for number in range(6)]
    work = engine.begin([Job(text, explain=True, neighbours=all_of_them) for text in texts])
    assert [part.tags for part in of_windows(work)] == [False, *[True] * 6]
    first, second = Parts(work, 0, 3), slices(work, 1)[3:]
    done(engine, first)
    assert searched == [6]
    engine.store.delete(old.example.id)
    (new,) = engine.store.add([sentence_from_words(["Jan", "stayed"], ["B-PER", "O"])], [""])
    for part in second:
        done(engine, part)
    assert searched == [6, *[1] * 4]
    answer = work.result()
    assert isinstance(answer, EntitiesAnswer)
    examples = [{s.example for s in one.support or () if not s.voted} for one in answer.results]
    assert examples == [{None}, {None}, *[{None, new.example.id}] * 4], "the first two had the one that is gone"


def test_what_a_service_does_not_allow_a_tagger_does_not_do(tiny_bundle: Path) -> None:
    overrides = ["serve.max_neighbours=3"]
    engine = Engine(None, lambda path: AdaptiveTagger.from_pretrained(path, device="cpu", overrides=overrides))
    engine.load(str(tiny_bundle))
    (refusal,) = engine.answer([[Job(TEXT, neighbours=4)]])
    assert refusal == Refusal("neighbours", "neighbours=4, at most 3.")


def test_it_is_counted_which_examples_shaped_an_answer_and_corrections_are_taken_in(engine: Engine) -> None:
    store, uses = engine.store, engine.uses
    assert store is not None and uses is not None
    sentences = [sentence_from_text(text) for text in ("Zoe Quist left Xanten.", "Nobody stayed.")]
    tags = [("B-PER", "I-PER", "O", "B-LOC", "O"), ("O", "O", "O")]
    store.add([replace(s, tags=t) for s, t in zip(sentences, tags, strict=True)], ["de", "de"])
    text = sentences[0].text
    for job in (Job(text), Job(text, explain=True), Job(text, adapt=False)):
        engine.answer([[job, job]])
    engine.label(sentences, "de")
    assert [example.uses for example in store.page()] == [0, 0], "not before it is written down"
    uses.write()
    assert [example.uses for example in store.page()] == [4, 0], "answers without adaptation are shaped by none"
    store.correct(1, lambda old: Said(replace(old.sentence, tags=("O",) * 5), "de"))
    (answer,) = engine.answer([[Job(text, explain=True)]])
    assert isinstance(answer, EntitiesAnswer)
    shown = [(s.example, s.entities) for s in answer.results[0].support or () if s.example is not None]
    assert shown and all(entities == () for _, entities in shown)
