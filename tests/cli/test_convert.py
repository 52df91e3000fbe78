"""`metacross convert`: what it writes, says and refuses; nothing that exists is lost."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from metacross.corpora.reader import read_corpus
from tests.helpers.commands import run
from tests.helpers.corpora import write

CORPUS = "Ana\tB-PER\nGil\tI-PER\nleft\tO\nLima\tB-LOC\n\nYes\tO\n.\tO\n\n"


def test_convert_writes_a_file_and_says_what_it_read_and_wrote(tmp_path: Path) -> None:
    old, new = write(tmp_path, CORPUS), tmp_path / "new.conll"
    found = run("convert", old, new, "--to", "conll-4", "--scheme", "bilou", "data.tag_map={LOC: O}")
    assert (found.status, found.out) == (0, "")
    assert new.read_text() == (
        "Ana -X- -X- B-PER\nGil -X- -X- L-PER\nleft -X- -X- O\nLima -X- -X- O\n\nYes -X- -X- O\n. -X- -X- O\n\n"
    )
    assert found.err.splitlines() == [
        f"read {old}: word-tab-tag, IOB2, 2 sentences, PER 1, LOC 1 (dropped)",
        f"wrote {new}: conll-4, 2 sentences, 1 entity",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "new.conll"]


def test_convert_writes_to_standard_output(tmp_path: Path) -> None:
    found = run("convert", write(tmp_path, CORPUS), "-", "--to", "conll")
    assert (found.status, found.out) == (0, CORPUS)


def test_convert_never_writes_over_a_file_unasked(tmp_path: Path) -> None:
    old, there = write(tmp_path, CORPUS), write(tmp_path, "precious", "there")
    link = tmp_path / "link"
    link.symlink_to(old)
    for out, message, options in (
        (there, "exists; give a new name, or --force", []),
        (old, "is what is to be converted", []),
        (link, "is what is to be converted", ["--force"]),
        (tmp_path, "is a folder that exists", ["--force"]),
        (tmp_path / "none" / "new", "is no directory", ["--force"]),
    ):
        found = run("convert", old, out, "--to", "conll", *options)
        assert (found.status, message in found.err) == (2, True), found.err
    assert there.read_text() == "precious"
    assert run("convert", old, there, "--to", "conll", "--force").status == 0
    assert there.read_text() == old.read_text() == CORPUS


def test_a_refused_corpus_leaves_nothing_behind(tmp_path: Path) -> None:
    old = write(tmp_path, '{"tokens": ["-DOCSTART-", "a"], "ner_tags": ["O", "B-X"]}')
    there = write(tmp_path, "precious", "there")
    found = run("convert", old, there, "--to", "conll", "--force")
    assert found.status == 2 and "'-DOCSTART-' begins a new document" in found.err
    assert there.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "there"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "word"], "'word' is not one of"),
        ([], "--to"),
        (["--to", "conll", "--scheme", "io"], "'io' is not one of"),
        (["--to", "conll", "data.nothing=1"], "Unknown key data.nothing"),
        (["--to", "conll"], "missing: no such file"),
    ],
)
def test_convert_names_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    found = run("convert", "missing", tmp_path / "new", *arguments)
    assert (found.status, message in found.err) == (2, True), found.err


def test_the_new_file_may_be_read_by_those_who_may_read_new_files(tmp_path: Path) -> None:
    new = tmp_path / "new"
    run("convert", write(tmp_path, CORPUS), new, "--to", "conll")
    (tmp_path / "other").touch()
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_convert_reports_what_sentences_lose_only_where_sentences_are_written(tmp_path: Path) -> None:
    record = {"text": "Bank of Peru", "label": [[0, 12, "ORG"], [8, 12, "LOC"]]}
    old, new = write(tmp_path, json.dumps(record)), tmp_path / "new"
    lost = f"1 entity left out for overlapping one at least as long (first at {old}:1, characters 8 to 12)"
    assert read_corpus(old).oddities == [lost]
    assert f"{old}: {lost}" in run("convert", old, new, "--to", "conll").err.splitlines()
    found = run("convert", old, new, "--to", "jsonl-spans", "--force")
    assert (found.status, "left out" in found.err) == (0, False)
    assert json.loads(new.read_text()) == record
