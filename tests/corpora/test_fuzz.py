"""Damaged files of every format: each gives a corpus or a message with its name, and no word is lost without a report.

`make chaos` reads 100,000 of them, from another seed every time. It prints the seed; METACROSS_FUZZ_SEED=seed repeats
the run, and `case(seed, number)` makes a single one of its files.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from metacross.bulk.items import opened_items
from metacross.corpora.characters import visible
from metacross.corpora.formats.recognise import opened
from metacross.corpora.raw import RawSentence, ReadOptions, Row
from metacross.corpora.reader import Corpus, read_corpus
from metacross.errors import UserError
from tests.helpers.corpus_fuzz import Case, case
from tests.helpers.corpus_oracle import check_columns, check_found, check_records, check_table, words_of

SECONDS = 20.0  # that one file may take; most take milliseconds, but machines are shared
MOST_SHOWN = 20  # failures
JSON_FORMATS = ("json", "jsonl", "label-studio")
BINARY_FORMATS = ("parquet", "arrow", "spacy")


class Hang(BaseException):
    """Reading takes too long; not an Exception, which the reader might catch."""


def test_a_few_damaged_files(tmp_path: Path) -> None:
    read_many(0, 500, tmp_path)


@pytest.mark.chaos
def test_many_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("METACROSS_FUZZ_SEED", random.randrange(1 << 32)))
    with capsys.disabled():
        print(f"\nMETACROSS_FUZZ_SEED={seed}", flush=True)
        began = time.monotonic()
        outcomes = read_many(seed, 100_000, tmp_path)
        print(f"{outcomes.total()} files in {time.monotonic() - began:.0f} s: {dict(outcomes)}", flush=True)


@pytest.mark.parametrize(
    "record",
    [
        '{"tokens": ["a"], "ner_tags": %s}',
        '{"text": "a", "entities": [%s]}',
        '[{"text": "a", "label": [{"start": 0, "end": 1, "label": %s}]}]',
        '[{"data": {"text": "a"}, "annotations": [{"result": [{"type": %s}]}]}]',
    ],
)
def test_values_nested_as_deeply_as_can_be_read(record: str, tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    path = tmp_path / "corpus"
    for depth in range(limit - 250, limit):
        path.write_text(record.replace("%s", "[" * depth + "]" * depth))
        with refusal_with_name(path):
            read_corpus(path)


def read_many(seed: int, number: int, folder: Path) -> Counter[str]:
    """Reads this many damaged files; returns how many could be read, and how many were refused."""
    outcomes: Counter[str] = Counter()
    failures: dict[str, str] = {}  # the first one of each kind
    for n in range(number):
        damaged = case(seed, n)
        place = folder / str(n)
        path = damaged.write(place)
        try:
            with time_limit():
                outcomes[outcome(path, damaged)] += 1
        except (Exception, Hang) as error:
            outcomes["failed"] += 1
            failures.setdefault(kind_of(error), f"case({seed}, {n}) {damaged.history}: {error!r}")
        shutil.rmtree(place)
    shown = list(failures.values())[:MOST_SHOWN]
    assert not failures, "\n\n".join([f"{outcomes['failed']} failures of {len(failures)} kinds", *shown])
    return outcomes


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def kind_of(error: BaseException) -> str:
    """The same for failures that come from the same line."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    place = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
    return f"{type(error).__name__} {place}"


def outcome(path: Path, damaged: Case) -> str:
    """Reads a file as what is to be tagged, and as a corpus; returns whether it could be read as a corpus."""
    for form in ("corpus", damaged.form):
        with refusal_with_name(path), opened_items(str(path), form) as (_, items):
            for _ in items:
                pass
    with refusal_with_name(path):
        checked_rows(path, damaged, ReadOptions(damaged.tag_column, labelled=False), damaged.stream())
    with refusal_with_name(path):
        column = "auto" if damaged.tag_column is None else damaged.tag_column
        corpus = read_corpus(path, tag_column=column, tag_map=damaged.tag_map, max_words=damaged.max_words)
        check_corpus(corpus, damaged)
        rows = checked_rows(path, damaged, ReadOptions(damaged.tag_column))
        if corpus.documents is None:
            assert words_of(corpus) == [part for row in rows if (part := visible(row.word))], "rows were lost"
        return "read"
    return "refused"


@contextmanager
def refusal_with_name(path: Path) -> Iterator[None]:
    """Takes a UserError as the answer if it names the file."""
    try:
        yield
    except UserError as error:
        assert str(path) in str(error), f"the message does not name the file: {error}"


def check_corpus(corpus: Corpus, damaged: Case) -> None:
    assert all(sentence.words and all(sentence.words) for sentence in corpus.sentences)
    encoding = "" if corpus.format in BINARY_FORMATS else corpus.encoding.partition("+")[0]
    text = damaged.text(encoding)
    if text is not None:
        check_found(corpus, text)
        if corpus.format in JSON_FORMATS:
            check_records(corpus, text)


def checked_rows(path: Path, damaged: Case, options: ReadOptions, stream: IO[bytes] | None = None) -> list[Row]:
    """The rows of words that the file's format gives."""
    with opened(str(path), options, stream) as (source, reading):
        items = list(reading.items)
    rows = [row for item in items if isinstance(item, RawSentence) for row in item.rows]
    text = damaged.text(source.encoding)
    if items and not rows:
        return rows  # a table of texts
    if text is not None and reading.format == "csv":
        check_table(rows, text, source.oddities.lines())
    elif text is not None and reading.format not in (*JSON_FORMATS, *BINARY_FORMATS, "brat"):
        check_columns(rows, text)
    return rows
