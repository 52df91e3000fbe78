"""What is said twice is stored once, what is corrected is replaced, and what is asked for is found."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from metacross.corpora.sentence import Sentence
from serve.annotations import sentence_of, sentence_of_words
from serve.examples import ExampleStore, KeyUsed, RequestKey, Said, SentenceTaken
from serve.examples.filters import ExampleFilter
from serve.examples.texts import MOST_QUEUED, QueueFull
from serve.examples.uses import UseCounter
from tests.serve.test_machine_examples import BERN as BERN_BY_MACHINE
from tests.serve.test_machine_examples import add_labelled

LABELS = {"LOC", "PER"}


def said(text: str, *marked: tuple[int, int, str]) -> Sentence:
    return sentence_of(text, marked, labels=LABELS)


ROME = said("Ana lebt in Rom.", (0, 3, "PER"), (12, 15, "LOC"))
LIMA = said("Lima, São Tomé.", (0, 4, "LOC"))


def outcomes(store: ExampleStore, *sentences: Sentence, language: str = "") -> list[tuple[int, str]]:
    added = store.add(sentences, [language] * len(sentences))
    return [(addition.example.id, addition.outcome) for addition in added]


# --- one example for a sentence --------------------------------------------------------------------------------------


def test_the_same_labels_are_stored_once_and_others_replace_them(store: ExampleStore) -> None:
    assert outcomes(store, ROME, LIMA, ROME, language="de") == [(1, "added"), (2, "added"), (1, "unchanged")]
    words = sentence_of_words(["Ana", "lebt", "in", "Rom", "."], ["B-PER", "O", "O", "B-LOC", "O"], labels=LABELS)
    version = store.version()
    assert outcomes(store, words) == [(1, "unchanged")], "spaces and the borders of words make no difference"
    assert outcomes(store, words, language="it") == [(1, "replaced")], "another language does"
    assert store.changes(version).deleted == [1] and store.changes(version).added == [store.get(1)]
    corrected = said("Ana lebt in Rom.", (12, 15, "LOC"))
    old = store.get(1)
    again = store.add([corrected, ROME, corrected], [""] * 3)
    assert [(a.example.id, a.outcome) for a in again] == [(1, "replaced")] * 3, "what is said last counts"
    assert [a.before for a in again] == [old, *(a.example for a in again[:2])]
    example = store.get(1)
    assert example is not None and example.changed is not None
    assert (example.sentence.tags, example.language) == (("O", "O", "O", "B-LOC", "O"), "it")
    assert store.count() == 2


def test_a_correction_keeps_the_number_and_cannot_take_a_sentence(store: ExampleStore) -> None:
    outcomes(store, ROME, LIMA)
    new = store.correct(1, lambda old: Said(said("Quito", (0, 5, "LOC")), "es"))
    assert new is not None and new == store.get(1)
    assert (new.sentence.text, new.language, new.sentence.place) == ("Quito", "es", "example 1")
    version = store.version()
    assert store.correct(1, lambda old: Said(said("Quito", (0, 5, "LOC")), "es")) == new
    with pytest.raises(SentenceTaken, match="Example 2 has this sentence"):
        store.correct(1, lambda old: Said(LIMA, ""))
    assert store.correct(7, lambda old: Said(LIMA, "")) is None
    assert store.version() == version, "nothing of this changed anything"
    assert outcomes(store, ROME) == [(4, "added")], "its former sentence is free"


def test_people_correct_what_a_machine_labelled(store: ExampleStore) -> None:
    (old,) = add_labelled(store, [BERN_BY_MACHINE], bundle="b1").examples
    new = store.correct(old.id, lambda old: Said(said(old.sentence.text), "de"))
    assert new is not None and (new.labelled_by, new.text_id, new.sentence.machine) == (None, None, None)
    assert add_labelled(store, [BERN_BY_MACHINE], bundle="b2").by_people == 1


# --- requests that come again ----------------------------------------------------------------------------------------


def test_a_request_that_comes_again_is_not_done_again(store: ExampleStore) -> None:
    key = RequestKey("k", "digest")
    first = store.add([ROME, LIMA], ["de", ""], request=key)
    store.delete(1)
    version = store.version()
    assert store.add([ROME, LIMA], ["de", ""], request=key) == first, "not even what was deleted since"
    assert (store.version(), store.count()) == (version, 1)
    with pytest.raises(KeyUsed, match="the key 'k' was that of another request"):
        store.add([LIMA], [""], request=RequestKey("k", "another"))


@pytest.mark.parametrize("key", [None, RequestKey("k", "digest")])
def test_what_comes_at_the_same_time_is_stored_once(url: str, store: ExampleStore, key: RequestKey | None) -> None:
    replicas = [store, ExampleStore(url)]
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(replicas[i % 2].add, [ROME, LIMA], ["de", ""], request=key) for i in range(8)]
        found = [[(a.example.id, a.outcome) for a in future.result()] for future in done]
    assert len({tuple(id for id, _ in each) for each in found}) == 1
    others = "unchanged" if key is None else "added"
    assert sorted(outcome for each in found for _, outcome in each) == sorted(["added"] * 2 + [others] * 14)
    assert store.count() == 2
    replicas[1].close()


# --- what is found ---------------------------------------------------------------------------------------------------


def test_filters(store: ExampleStore) -> None:
    store.add([ROME, LIMA, said("50% in Oslo_", (7, 11, "LOC"))], ["de", "pt-BR", ""])
    add_labelled(store, [BERN_BY_MACHINE], bundle="b1")
    everything = store.page()
    machine = everything[-1]
    assert machine.text_id is not None
    now = datetime.now(UTC)
    for wanted, expected in [
        (ExampleFilter(), [1, 2, 3, machine.id]),
        (ExampleFilter(language="de"), [1, machine.id]),
        (ExampleFilter(language="PT"), [2]),
        (ExampleFilter(language="p"), []),
        (ExampleFilter(language="und"), [3]),
        (ExampleFilter(label="PER"), [1]),
        (ExampleFilter(label="Person"), [1]),
        (ExampleFilter(text="SÃO tomé"), [2]),
        (ExampleFilter(text="%"), [3]),
        (ExampleFilter(text="oslo_"), [3]),
        (ExampleFilter(by="people", label="LOC"), [1, 2, 3]),
        (ExampleFilter(by="machine"), [machine.id]),
        (ExampleFilter(from_text=machine.text_id), [machine.id]),
        (ExampleFilter(added_since=now - timedelta(hours=1)), [1, 2, 3, machine.id]),
        (ExampleFilter(added_before=now - timedelta(hours=1)), []),
    ]:
        assert [example.id for example in store.page(wanted=wanted)] == expected, wanted
        assert store.total(wanted) == len(expected)
    newest = [[e.id for e in store.page(after, 2, newest=True)] for after in (None, 3)]
    assert newest == [[machine.id, 3], [2, 1]]
    assert store.delete_matching(ExampleFilter(language="pt")) == 1
    assert store.delete_ids([1, 2, 99]) == {1}
    assert [example.id for example in store.page()] == [3, machine.id]


def test_uses_are_counted_together_and_lost_with_the_example(url: str, store: ExampleStore) -> None:
    outcomes(store, ROME, LIMA)
    version, counters = store.version(), [UseCounter(store), UseCounter(ExampleStore(url))]
    for counter in counters:
        counter.count([1, 1, 2, 77])
        counter.write()
        counter.write()
    example = store.get(1)
    assert example is not None and example.last_used is not None
    assert (example.uses, datetime.now(UTC) - example.last_used < timedelta(minutes=5)) == (4, True)
    assert store.version() == version, "no tagger has to take anything in"
    store.delete(1)
    counters[0].count([1])
    counters[0].write()
    assert outcomes(store, ROME) == [(4, "added")]
    again = store.get(4)
    assert again is not None and (again.uses, again.last_used) == (0, None)


# --- texts -----------------------------------------------------------------------------------------------------------


def queued(store: ExampleStore, seconds: float = 0, request: RequestKey | None = None) -> tuple[int, bool]:
    return store.texts.queue([BERN_BY_MACHINE.text], found=2, language="de", seconds=seconds, request=request)


def test_a_text_is_labelled_by_one_at_a_time_and_another_one_goes_on(url: str, store: ExampleStore) -> None:
    other = ExampleStore(url)
    (first, _), (second, _) = queued(store), queued(store, seconds=60)
    taken = store.texts.take(60)
    assert taken is not None and (taken.id, taken.sentences) == (first, (BERN_BY_MACHINE.text,))
    assert other.texts.take(60) is None, "the first is taken, the second is labelled by who brought it"
    store.texts.give_back(second)
    lost = other.texts.take(0)
    again = store.texts.take(60)
    assert lost is not None and again is not None and lost.id == again.id == second
    done = store.texts.finish(second, [BERN_BY_MACHINE], bundle="b1")
    assert done is not None and (done.state, done.sentences, done.left_out.repeated) == ("labelled", (), 1)
    assert other.texts.finish(second, [BERN_BY_MACHINE], bundle="b2") == done, "whoever comes second changes nothing"
    store.texts.fail(first, "why")
    assert [(t.state, t.reason) for t in store.texts.page(None, 9)[0]] == [("failed", "why"), ("labelled", None)]
    assert store.texts.page(None, 9, state="labelled", language="de") == ([done], 1)
    assert store.texts.page(None, 1, newest=True)[0] == [done]
    other.close()


def test_a_text_goes_with_its_examples_but_for_those_that_people_corrected(store: ExampleStore) -> None:
    (number, new), key = queued(store, request=(key := RequestKey("k", "d"))), key
    assert new and queued(store, request=key) == (number, False)
    text = store.texts.finish(
        number,
        [
            BERN_BY_MACHINE,
        ],
        bundle="b1",
    )
    assert text is not None
    store.correct(text.examples[0], lambda old: Said(old.sentence, "de"))
    assert store.texts.delete(number, examples=True) and not store.texts.delete(number, examples=True)
    assert store.count() == 1
    assert store.texts.finish(number, [BERN_BY_MACHINE], bundle="b1") is None
    other, _ = queued(store)
    store.delete(text.examples[0])
    assert store.texts.finish(other, [BERN_BY_MACHINE], bundle="b1") is not None
    assert store.texts.delete(other, examples=True)
    assert store.count(labelled=True) == 0


def test_not_more_texts_wait_than_can_be_kept(store: ExampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_QUEUED >= 10
    monkeypatch.setattr("serve.examples.texts.MOST_QUEUED", 1)
    queued(store)
    with pytest.raises(QueueFull):
        queued(store)
