"""The store of examples: durable, in order for every reader, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import create_engine, make_url

from metacross.client.contract import Example
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError
from serve.annotations import sentence_of, sentence_of_words
from serve.examples import ExampleStore, Said, StoredExample

LABELS = {"LOC", "PER"}
ROME = sentence_of("Ana lebt in Rom.", [(0, 3, "PER"), (12, 15, "LOC")], labels=LABELS)
BERN = sentence_of("Bern schläft.", [(0, 4, "LOC")], labels=LABELS)

# Adds sentences one by one and tells each number after `add` returned; argv: address, prefix, how many.
WRITER = """
import sys
from serve.examples import ExampleStore
from serve.annotations import sentence_of
url, prefix, count = sys.argv[1:]
store = ExampleStore(url)
for i in range(int(count)):
    added = store.add([sentence_of(f"{prefix} {i} {part}", [], labels=()) for part in ("a", "b")], ["", ""])
    print(*(addition.example.id for addition in added), flush=True)
sys.stdin.read()
"""


def writer(root: Path, url: str, prefix: str, count: int) -> subprocess.Popen[str]:
    """A process that writes, and then waits until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, prefix, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def failed(futures: list[Future[list[int]]]) -> bool:
    return any(future.done() and future.exception() for future in futures)


def add(store: ExampleStore, sentences: list[Sentence], languages: list[str]) -> list[StoredExample]:
    return [addition.example for addition in store.add(sentences, languages)]


def ids(examples: list[StoredExample]) -> list[int]:
    return [example.id for example in examples]


def numbered(*texts: str) -> list[Sentence]:
    return [sentence_of(text, [], labels=LABELS) for text in texts]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_sentences_come_back_as_they_were(url: str, store: ExampleStore) -> None:
    given = [
        ROME,
        sentence_of("  他住在北京 。\n", [(5, 7, "LOC")], labels=LABELS),
        sentence_of("หมายเหตุ: กรุงเทพฯ", [(10, 18, "LOC")], labels=LABELS),
        sentence_of("Jose\u0301 👩‍👩‍👧 𝒜𝓃𝒶 grüßt", [(0, 5, "PER")], labels=LABELS),
        sentence_of("قالت مريم \u200fإنها في بيروت", [(5, 9, "PER")], labels=LABELS),
        sentence_of_words(["अनु", "दिल्ली", "New York"], ["B-PER", "B-LOC", "B-LOC"], labels=LABELS, language="hi"),
    ]
    languages = ["de", "zh", "th", "", "ar", "hi"]
    before = datetime.now(UTC)
    added = add(store, given, languages)
    other = ExampleStore(url)
    for found in (added, other.page(), other.changes(0).added, [other.get(id) for id in ids(added)]):
        assert found == added
    other.close()
    for example, sentence, language in zip(added, given, languages, strict=True):
        kept = example.sentence
        assert (kept.text, kept.words, kept.spans) == (sentence.text, sentence.words, sentence.spans)
        assert (kept.tags, kept.presplit, example.language) == (sentence.tags, sentence.presplit, language)
        assert kept.place == f"example {example.id}"
        assert before <= example.created <= before + timedelta(minutes=5)


def test_what_is_told_of_an_example(store: ExampleStore) -> None:
    example = add(store, [ROME], ["de"])[0]
    told = TypeAdapter(Example).dump_python(example.as_answer(), mode="json")
    assert datetime.strptime(told.pop("created"), "%Y-%m-%dT%H:%M:%S%z") == example.created.replace(microsecond=0)
    assert told == {
        "id": 1,
        "text": "Ana lebt in Rom.",
        "entities": [
            {"start": 0, "end": 3, "text": "Ana", "label": "PER"},
            {"start": 12, "end": 15, "text": "Rom", "label": "LOC"},
        ],
        "language": "de",
        "uses": 0,
    }


@pytest.mark.parametrize(
    ("sentence", "language", "message"),
    [
        (Sentence("a\ud800", ("a\ud800",), ((0, 2),), ("O",)), "", "example 2 holds U+D800 (half of a surrogate pair)"),
        (Sentence("a\0", ("a\0",), ((0, 2),), ("O",)), "", "example 2 holds U+0000 (NUL) at 1"),
        (ROME, "Deutsch!", "example 2: language 'Deutsch!' is no code"),
        (ROME, "p\ud800", "example 2: language"),
    ],
)
def test_all_or_none(store: ExampleStore, sentence: Sentence, language: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        add(store, [ROME, sentence, ROME], ["", language, ""])
    assert message in str(caught.value)
    assert (store.count(), store.version(), store.page()) == (0, 0, [])


def test_what_fails_within_the_transaction_leaves_nothing(store: ExampleStore) -> None:
    untagged = Sentence("Rom", ("Rom",), ((0, 3),))
    with pytest.raises(ValueError, match="has no tags"):
        add(store, [ROME, untagged], ["", ""])
    assert (store.count(), store.version()) == (0, 0)
    assert ids(add(store, [ROME], [""])) == [1]


def test_nothing_added_is_no_change(store: ExampleStore) -> None:
    assert add(store, [], []) == []
    assert store.version() == 0


def test_pages_and_what_is_not_there(store: ExampleStore) -> None:
    add(store, numbered("a", "b", "c", "d"), [""] * 4)
    assert store.delete(2)
    assert not store.delete(2)
    assert store.count() == 3
    assert [ids(store.page(0, 2)), ids(store.page(3, 2)), ids(store.page(4, 2))] == [[1, 3], [4], []]
    for id in (2, 5, 0, -1, 10**30, -(10**30)):  # 5: the version of the deletion
        assert store.get(id) is None
        assert not store.delete(id)
    assert store.page(10**30) == []
    assert store.version() == 5, "a deletion that finds nothing is no change"
    assert ids(add(store, [ROME], [""])) == [6], "numbers are never used again"


def test_deleted_texts_are_gone(tmp_path: Path) -> None:
    store = ExampleStore(str(tmp_path / "examples.db"))
    add(store, [ROME], ["de"])
    store.delete(1)
    store.close()
    connection = sqlite3.connect(tmp_path / "examples.db")
    assert connection.execute("SELECT text, spans, tags, language FROM metacross_examples").fetchall() == [
        ("", "[]", "[]", "")
    ]
    connection.close()


# --- readers ---------------------------------------------------------------------------------------------------------


def test_two_stores_see_each_others_changes(url: str, store: ExampleStore) -> None:
    with_other = ExampleStore(url)
    first = add(store, [ROME], ["de"])
    assert with_other.version() == store.version() == 1
    second = add(with_other, [BERN], [""])
    changes = store.changes(1)
    assert (changes.version, changes.added, changes.deleted) == (2, second, [])
    assert with_other.delete(first[0].id)
    changes = store.changes(2)
    assert (changes.version, changes.added, changes.deleted) == (3, [], [1])
    changes = store.changes(0)
    assert (changes.added, changes.deleted) == (second, []), "a reader need not hear of what it never had"
    changes = store.changes(3)
    assert (changes.version, changes.added, changes.deleted) == (3, [], [])
    with_other.close()


def test_a_store_that_went_back_is_noticed(store: ExampleStore) -> None:
    add(store, [ROME], [""])
    with pytest.raises(RunError, match="is at version 1, but was at 2"):
        store.changes(2)


@settings(max_examples=15)
@given(st.lists(st.integers(-12, 15).filter(bool), min_size=1, max_size=12))
def test_changes_from_any_version_lead_to_the_same_examples(steps: list[int]) -> None:
    """A step 1 to 3 adds as many examples; n > 3 corrects number n - 3, n < 0 deletes number -n, if they are there."""
    with tempfile.TemporaryDirectory() as folder:
        store = ExampleStore(f"{folder}/examples.db")
        living: dict[int, StoredExample] = {}
        history = [(0, dict(living))]
        for step in steps:
            if 0 < step <= 3:
                new = add(store, numbered(*(f"{len(history)} {i}" for i in range(step))), ["de"] * step)
                living |= {example.id: example for example in new}
            elif step > 3:
                number = len(history)
                changed = store.correct(step - 3, lambda old, n=number: Said(old.sentence, f"de-{n}"))  # type: ignore[misc]
                assert (changed is None) == (step - 3 not in living)
                living |= {changed.id: changed} if changed else {}
            else:
                assert store.delete(-step) == (living.pop(-step, None) is not None)
            history.append((store.version(), dict(living)))
        versions = [version for version, _ in history]
        assert versions == sorted(versions)
        for (version, then), (after, later) in pairwise(history):
            assert (version == after) == (then == later)
        for version, state in history:
            changes = store.changes(version)
            assert set(changes.deleted) <= state.keys()
            for id in changes.deleted:
                del state[id]
            assert not state.keys() & set(ids(changes.added))
            state |= {example.id: example for example in changes.added}
            assert (changes.version, state) == (versions[-1], living)
        assert (store.count(), {example.id: example for example in store.page()}) == (len(living), living)
        store.close()


# --- several writers -------------------------------------------------------------------------------------------------


def test_threads_and_processes_write_at_once(root: Path, url: str) -> None:
    """Two processes and four threads, none of which found a store; a reader follows and misses nothing."""
    processes = [writer(root, url, name, 25) for name in ("one", "two")]
    with ThreadPoolExecutor(5) as pool:
        store = pool.submit(ExampleStore, url).result()

        def write(name: int) -> list[int]:
            return [add(store, numbered(f"{name} {i}"), [""])[0].id for i in range(10)]

        written = [pool.submit(write, name) for name in range(4)]
        reports: list[list[int]] = []
        seen: list[int] = []
        version = 0
        reader = ExampleStore(url)
        while len(seen) < 140 and all(process.poll() is None for process in processes) and not failed(written):
            changes = reader.changes(version)
            assert min(ids(changes.added), default=version + 1) > version, "nothing appears behind a reader"
            seen += ids(changes.added)
            version = changes.version
        reports += [future.result() for future in written]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        pairs = [[int(id) for id in line.split()] for line in out.splitlines()]
        assert all(second == first + 1 for first, second in pairs)
        reports.append([id for pair in pairs for id in pair])
    assert all(report == sorted(set(report)) for report in reports)
    assert sorted(id for report in reports for id in report) == list(range(1, 141))
    assert seen == list(range(1, 141)), "each once, in their order"
    texts = {example.sentence.text for example in reader.page(limit=200)}
    expected = {f"{name} {i} {part}" for name in ("one", "two") for i in range(25) for part in "ab"}
    assert texts == expected | {f"{name} {i}" for name in range(4) for i in range(10)}
    store.close()
    reader.close()


def test_a_killed_process_loses_nothing_that_it_was_told_is_kept(root: Path, url: str) -> None:
    process = writer(root, url, "kept", 1000)
    assert process.stdout is not None
    told = [int(id) for _ in range(3) for id in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    told += [int(id) for line in rest.splitlines() for id in line.split()]
    store = ExampleStore(url)
    kept = ids(store.page(limit=3000))
    assert kept[: len(told)] == told == list(range(1, len(told) + 1))
    assert len(kept) % 2 == 0, "pairs are kept whole"
    assert ids(add(store, [ROME], [""])) == [len(kept) + 1]
    store.close()


# --- what cannot be opened -------------------------------------------------------------------------------------------


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="another program's database, with a table cookies"):
        ExampleStore(str(path))
    assert path.read_bytes() == before


def test_tables_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE metacross_counter (version)")
        connection.execute("CREATE TABLE metacross_examples (id, version)")
    connection.close()
    with pytest.raises(UserError, match="cannot be opened as a store of examples"):
        ExampleStore(str(path))


@pytest.mark.parametrize("damage", ["no database", "torn", "cut off"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "examples.db"
    store = ExampleStore(str(path))
    add(store, numbered(*(f"Ana lebt seit {i} Jahren in Rom." for i in range(200))), ["de"] * 200)
    store.close()
    whole = path.read_bytes()
    torn = whole[:4096] + b"\xa5" * 8192 + whole[12288:]
    path.write_bytes({"no database": b"B-PER\n" * 1000, "torn": torn, "cut off": whole[:-10000]}[damage])
    with pytest.raises(UserError) as caught:
        ExampleStore(str(path))
    assert str(path) in str(caught.value)


def test_a_store_that_breaks_later_is_no_mistake_of_the_user(tmp_path: Path) -> None:
    store = ExampleStore(str(tmp_path / "examples.db"))
    with sqlite3.connect(tmp_path / "examples.db") as connection:
        connection.execute("DROP TABLE metacross_examples")
    connection.close()
    with pytest.raises(RunError, match=r"cannot be reached \(no such table: metacross_examples\)"):
        add(store, [ROME], [""])
    assert store.version() == 0
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{tmp}/missing/examples.db", "unable to open database file"),
        ("sqlite:///{tmp}", "unable to open database file"),
        ("sqlite://", "processes cannot share this file"),
        ("mysql://ana:geheim@host/db", "of the kind mysql; expected sqlite:///PATH"),
        ("postgresql+asyncpg://ana:geheim@host/db", "of the kind postgresql\\+asyncpg"),
        ("://geheim", "cannot be read; expected"),
        ("postgresql://ana:geheim@host:port/db", "cannot be read; expected"),
        ("postgresql://ana:un@geheim@host/db", "write it as %40"),
        (
            "postgresql://ana:geheim@127.0.0.1:1/db",
            r"^postgresql\+psycopg://ana:\*\*\*@127.0.0.1:1/db: cannot be opened",
        ),
        ("postgresql://127.0.0.1:1/db?password=geheim", r"^postgresql\+psycopg://127.0.0.1:1/db: cannot be opened"),
        ("postgresql://127.0.0.1:1/db?password=geheim&connect_timeout=geheim", "cannot be opened"),
    ],
)
def test_addresses_that_cannot_be_opened(
    tmp_path: Path, url: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ExampleStore(url.format(tmp=tmp_path))
    assert "geheim" not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_server_that_answers_before_it_has_written_is_refused(postgres: str) -> None:
    parsed = make_url(postgres).update_query_dict({"options": "-csynchronous_commit=off"})
    with pytest.raises(UserError, match="Set synchronous_commit to on"):
        ExampleStore(parsed.render_as_string(hide_password=False))


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: str) -> None:
    name = f"metacross_{uuid.uuid4().hex}"
    server = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        with pytest.raises(UserError, match="encoding is SQL_ASCII; make one with ENCODING 'UTF8'"):
            ExampleStore(make_url(postgres).set(database=name).render_as_string(hide_password=False))
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_lost_connection_is_made_again(url: str) -> None:
    name = uuid.uuid4().hex
    store = ExampleStore(make_url(url).update_query_dict({"application_name": name}).render_as_string(False))
    add(store, [ROME], [""])
    server = create_engine(url)
    with server.connect() as connection:
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
        assert connection.exec_driver_sql(end).all() == [(True,)]
    assert store.version() == 1
    assert ids(add(store, [BERN], [""])) == [2]
    store.close()
    server.dispose()


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[postgres\]"'):
        ExampleStore("postgresql://ana:geheim@127.0.0.1:1/db")
