"""Machine-labelled examples in the store: labels by people win, then those of the newer bundle; old tables go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from sqlalchemy import create_engine, inspect

from metacross.client.contract import Example
from metacross.corpora.sentence import MachineLabels, Sentence
from metacross.errors import UserError
from serve.annotations import sentence_of, sentence_of_words
from serve.examples import ExampleStore, StoredExample
from serve.examples.filters import ExampleFilter
from serve.examples.tables import key_of

LABELS = {"LOC", "PER"}


@dataclass(frozen=True)
class Added:
    """What became of sentences that a tagger labelled."""

    examples: list[StoredExample]
    by_people: int
    stored: int
    replaced: int


def add_labelled(store: ExampleStore, sentences: list[Sentence], *, bundle: str) -> Added:
    number, _ = store.texts.queue([s.text for s in sentences], found=len(sentences), language="de", seconds=60)
    text = store.texts.finish(number, sentences, bundle=bundle)
    assert text is not None
    examples = [example for id in text.examples if (example := store.get(id))]
    return Added(examples, text.left_out.by_people, text.left_out.stored, text.replaced)


def by_people(text: str, *marked: tuple[int, int, str]) -> Sentence:
    return sentence_of(text, marked, labels=LABELS)


def by_machine(text: str, *marked: tuple[int, int, str], uncertain: tuple[int, ...] = ()) -> Sentence:
    return replace(by_people(text, *marked), machine=MachineLabels("de", 0.9321, uncertain))


ROME = by_machine("Ana lebt in Rom.", (0, 3, "PER"), (12, 15, "LOC"), uncertain=(0, 3))
BERN = by_machine("Bern schläft.", (0, 4, "LOC"))


def test_labels_come_back_as_they_were(url: str, store: ExampleStore) -> None:
    added = add_labelled(store, [ROME, BERN], bundle="b1")
    assert (added.by_people, added.stored, added.replaced) == (0, 0, 0)
    first = added.examples[0]
    assert (first.sentence, first.language, first.labelled_by) == (replace(ROME, place="example 2"), "de", "b1")
    assert first.text_id == 1
    other = ExampleStore(url)
    assert other.page() == other.changes(0).added == [other.get(2), other.get(3)] == added.examples
    assert (other.count(), other.count(labelled=True)) == (0, 2)
    other.close()


def test_what_is_told_of_them(store: ExampleStore) -> None:
    (example,) = add_labelled(store, [ROME], bundle="b1").examples
    told = TypeAdapter(Example).dump_python(example.as_answer(), mode="json")
    assert (told["language"], told["confidence"], told["labelled_by"]) == ("de", 0.9321, "b1")
    assert told["uncertain"] == [{"start": 0, "end": 3}, {"start": 12, "end": 15}]
    assert [entity["text"] for entity in told["entities"]] == ["Ana", "Rom"]


def test_people_who_came_first_win(store: ExampleStore) -> None:
    words = sentence_of_words(["Ana", "lebt", "in", "Rom", "."], ["O", "O", "O", "B-LOC", "O"], labels=LABELS)
    assert words.text == "Ana lebt in Rom ."
    store.add([words], ["de"])
    added = add_labelled(store, [ROME, BERN], bundle="b1")
    assert ([example.sentence.text for example in added.examples], added.by_people) == (["Bern schläft."], 1)
    assert (store.count(), store.count(labelled=True)) == (1, 1)


def test_people_who_come_later_win(store: ExampleStore) -> None:
    labelled = add_labelled(store, [ROME, BERN], bundle="b1").examples
    before = store.version()
    (addition,) = store.add([by_people(ROME.text)], ["de"])
    example, changes = addition.example, store.changes(before)
    assert (addition.outcome, example.id, example.labelled_by) == ("replaced", labelled[0].id, None)
    assert (changes.added, changes.deleted) == ([example], [example.id]), "so a tagger forgets the labels before"
    assert store.page() == [example, labelled[1]]
    assert store.delete(example.id)
    assert add_labelled(store, [ROME], bundle="b1").examples, "nobody has labelled it any more"


def test_the_same_bundle_stores_nothing_twice_and_another_one_takes_its_place(store: ExampleStore) -> None:
    (old,) = add_labelled(store, [ROME], bundle="b1").examples
    again = add_labelled(store, [ROME], bundle="b1")
    assert (again.examples, again.stored, store.page()) == ([], 1, [old])
    other = replace(ROME, machine=MachineLabels("de", 0.5))
    newer = add_labelled(store, [BERN, other], bundle="b2")
    assert (len(newer.examples), newer.stored, newer.replaced) == (2, 0, 1)
    assert store.changes(old.id).deleted == [old.id]
    assert [example.labelled_by for example in store.page()] == ["b2", "b2"]


def test_numbers_stay_ascending_where_some_are_left_out(store: ExampleStore) -> None:
    store.add([by_people(BERN.text)], [""])
    added = add_labelled(store, [BERN, ROME], bundle="b1")
    later = store.add([by_people("Quito.")], [""])
    assert 1 < added.examples[0].id < later[0].example.id == store.version()
    assert store.changes(1).added == [*added.examples, later[0].example]


def test_nothing_labelled_is_no_change(store: ExampleStore) -> None:
    assert add_labelled(store, [], bundle="b1").examples == []
    assert store.changes(0).added == []


def test_what_a_deleted_example_held_is_gone(tmp_path: Path) -> None:
    store = ExampleStore(str(tmp_path / "examples.db"))
    add_labelled(store, [ROME], bundle="b1")
    store.delete(2)
    store.close()
    with sqlite3.connect(tmp_path / "examples.db") as connection:
        found = connection.execute(
            "SELECT text, folded, language, confidence, uncertain, labelled_by, sentence_key FROM metacross_examples"
        ).fetchall()
    connection.close()
    assert found == [("", None, "", None, None, None, None)]


# --- tables of an earlier version ------------------------------------------------------------------------------------

EARLIER = [
    "CREATE TABLE metacross_counter (version BIGINT NOT NULL)",
    """CREATE TABLE metacross_examples (
        id {integer} NOT NULL PRIMARY KEY, version BIGINT NOT NULL, language VARCHAR NOT NULL,
        created TIMESTAMP NOT NULL, text TEXT NOT NULL, spans JSON NOT NULL, tags JSON NOT NULL,
        presplit BOOLEAN NOT NULL)""",
    "CREATE INDEX ix_metacross_examples_version ON metacross_examples (version)",
    "INSERT INTO metacross_counter VALUES (3)",
    """INSERT INTO metacross_examples VALUES (1, 1, 'de', '2026-11-24 12:00:00.5', 'Ana lebt in Rom.',
        '[[0, 3], [4, 8], [9, 11], [12, 15], [15, 16]]', '["B-PER", "O", "O", "B-LOC", "O"]', {false})""",
    "INSERT INTO metacross_examples VALUES (2, 3, '', '2026-11-24 12:00:00', '', '[]', '[]', {false})",  # deleted
]


def make_earlier(url: str, statements: Sequence[str] = EARLIER) -> None:
    server = create_engine(url)
    lite = server.dialect.name == "sqlite"
    with server.begin() as connection:
        for statement in statements:
            values = {"{integer}": "INTEGER" if lite else "BIGINT", "{false}": "0" if lite else "FALSE"}
            for name, value in values.items():
                statement = statement.replace(name, value)
            connection.exec_driver_sql(statement)
    server.dispose()


def test_a_store_of_an_earlier_version_is_upgraded_in_place(url: str) -> None:
    make_earlier(url)
    stores = [ExampleStore(url), ExampleStore(url)]  # the second finds it done
    for store in stores:
        (example,) = store.page()
        assert (example.id, example.sentence.text, example.labelled_by) == (1, "Ana lebt in Rom.", None)
        assert example.sentence.tags == ("B-PER", "O", "O", "B-LOC", "O") and example.sentence.machine is None
        assert (store.count(), store.version()) == (1, 3)
    added = add_labelled(stores[0], [ROME, BERN], bundle="b1")
    assert (len(added.examples), added.by_people) == (1, 1), "people labelled it before the upgrade"
    server = create_engine(url)
    (index,) = [i for i in inspect(server).get_indexes("metacross_examples") if i["column_names"] == ["sentence_key"]]
    assert index["unique"]
    server.dispose()
    for store in stores:
        store.close()


# The second version: it had machine labels, and let people add a sentence twice.
SECOND = [
    *EARLIER[:2],
    "ALTER TABLE metacross_examples ADD COLUMN confidence FLOAT",
    "ALTER TABLE metacross_examples ADD COLUMN uncertain JSON",
    "ALTER TABLE metacross_examples ADD COLUMN labelled_by VARCHAR",
    "ALTER TABLE metacross_examples ADD COLUMN sentence_key VARCHAR",
    "CREATE INDEX ix_metacross_examples_sentence_key ON metacross_examples (sentence_key)",
    "INSERT INTO metacross_counter VALUES (7)",
    *(
        f"""INSERT INTO metacross_examples VALUES ({id}, {id}, 'de', '2026-11-24 12:00:00', '{text}', '{spans}',
            '["{tag}"]', {{false}}, {confidence}, {uncertain}, {labelled_by}, '{key_of([text])}')"""
        for id, text, spans, tag, (confidence, uncertain, labelled_by) in [
            (1, "Rom", "[[0, 3]]", "O", ("NULL", "NULL", "NULL")),
            (2, "Bern", "[[0, 4]]", "B-LOC", ("0.9", "'[]'", "'b1'")),
            (4, "Rom", "[[0, 3]]", "B-LOC", ("NULL", "NULL", "NULL")),
            (5, "ÖL", "[[0, 2]]", "O", ("NULL", "NULL", "NULL")),
        ]
    ),
    f"""INSERT INTO metacross_examples VALUES (6, 7, '', '2026-11-24 12:00:00', '', '[]', '[]', {{false}}, NULL, NULL,
        NULL, '{key_of(["Rom"])}')""",  # deleted by the first version, which knew no keys
]


def test_of_sentences_that_the_second_version_stored_twice_the_last_labels_are_kept(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_earlier(url, SECOND)
    store = ExampleStore(url)
    assert [(e.id, e.sentence.tags, e.labelled_by) for e in store.page()] == [
        (2, ("B-LOC",), "b1"),
        (4, ("B-LOC",), None),
        (5, ("O",), None),
    ]
    assert "deleted 1 example whose sentence a later example has, too: 1" in caplog.text
    assert (store.version(), store.changes(7).deleted) == (8, [1]), "so taggers that run forget it"
    assert [e.id for e in store.page(wanted=ExampleFilter(text="öl"))] == [5], "it can be searched"
    (addition,) = store.add([by_people("Rom", (0, 3, "LOC"))], [""])
    assert (addition.example.id, addition.outcome) == (4, "unchanged")
    store.close()
    caplog.clear()
    ExampleStore(url).close()
    assert not caplog.text, "nothing is left to be done"


def test_an_earlier_version_that_still_runs_may_add_examples(url: str) -> None:
    make_earlier(url)
    store = ExampleStore(url)
    server = create_engine(url)
    false = "0" if server.dialect.name == "sqlite" else "FALSE"
    with server.begin() as connection:
        connection.exec_driver_sql("UPDATE metacross_counter SET version = 4")
        connection.exec_driver_sql(
            "INSERT INTO metacross_examples (id, version, language, created, text, spans, tags, presplit) VALUES "
            f"(4, 4, '', '2026-11-24 12:00:00', 'Bern', '[[0, 4]]', '[\"B-LOC\"]', {false})"
        )
    server.dispose()
    assert [example.id for example in store.changes(3).added] == [4]
    store.close()
    reopened = ExampleStore(url)
    assert add_labelled(reopened, [by_machine("Bern", (0, 4, "LOC"))], bundle="b1").by_people == 1
    reopened.close()


def test_a_table_that_cannot_be_upgraded_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE metacross_counter (version)")
        connection.execute("CREATE TABLE metacross_examples (id, version)")
        before = connection.execute("SELECT sql FROM sqlite_master").fetchall()
    with pytest.raises(UserError, match="cannot be opened as a store of examples"):
        ExampleStore(str(path))
    assert connection.execute("SELECT sql FROM sqlite_master").fetchall() == before
    connection.close()
