"""Taggers in processes: results in order, errors in their place, and nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from metacross import AdaptiveTagger
from metacross.bulk import processes
from metacross.bulk.processes import Taggers
from metacross.corpora.reader import read_corpus
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError


def test_results_come_in_order_and_groups_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def groups() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number

    with ThreadPoolExecutor(2) as executor:
        found = processes._in_order(lambda group: executor.submit(slow_first, group), groups(), waiting=4)
        assert next(found) == 0
        assert len(taken) == 4, "no more than wait"
        assert list(found) == list(range(1, 20))


def test_what_came_before_an_error_comes_first() -> None:
    def groups() -> Iterator[int]:
        yield from range(3)
        raise UserError("line 4: not JSON")

    def submit(group: int) -> Future[int]:
        future: Future[int] = Future()
        future.set_result(group)
        return future

    found = processes._in_order(submit, groups(), waiting=10)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="line 4"):
        next(found)


def test_few_groups_need_no_processes(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    monkeypatch.setattr(Taggers, "_in_processes", lambda *_: pytest.fail("there is little to do"))
    taggers = Taggers(tagger, str(tiny_bundle), processes=2)
    assert list(taggers.map(_found, range(processes.ALONE))) == [(os.getpid(), n) for n in range(processes.ALONE)]
    alone = Taggers(tagger, str(tiny_bundle), processes=1)
    assert len(list(alone.map(_found, range(50)))) == 50


@pytest.mark.cluster
def test_processes_answer_as_one_does(tiny_bundle: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ALONE", 1)
    sentences = read_corpus(tiny_folder / "dev.conll").sentences
    groups = [sentences[start : start + 2] for start in range(0, len(sentences), 2)]
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    tagger.add_examples(sentences[:2])
    taggers = Taggers(tagger, str(tiny_bundle), examples=sentences[:2], processes=2)
    found = list(taggers.map(_tags, groups))
    assert [tags for _, tags in found] == [_tags(tagger, group)[1] for group in groups]
    assert found[0][0] == os.getpid()
    assert os.getpid() not in {process for process, _ in found[1:]}

    with pytest.raises(RunError, match="a process that tags died"):
        list(taggers.map(_die_elsewhere, [os.getpid()] * 3))


def _found(tagger: AdaptiveTagger, number: int) -> tuple[int, int]:
    return os.getpid(), number


def _tags(tagger: AdaptiveTagger, group: list[Sentence]) -> tuple[int, list[tuple[str, ...]]]:
    return os.getpid(), [tuple(one.tags) for one in tagger.tag_sentences(group)]


def _die_elsewhere(tagger: AdaptiveTagger, parent: int) -> None:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
