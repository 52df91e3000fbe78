"""`metacross tag`: text, JSON lines and columns in and out, and every way it can go wrong."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
import typer

from metacross import AdaptiveTagger
from metacross.cli import app as cli
from metacross.cli import streams
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError
from tests.helpers.commands import TEXT, approx, run, tagged


def test_text_from_standard_input(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle)
    found = tagged(tiny_bundle, stdin=f"{TEXT}\r\n\n\ufeffAnna\n".encode())
    assert (found.status, found.err) == (0, "")
    assert [r["text"] for r in found.records] == [TEXT, "", "\ufeffAnna"]
    assert found.records[0] == {"text": TEXT, "entities": approx(tagger(TEXT))}
    assert tagged(tiny_bundle, "-", "--no-adapt", stdin=TEXT).records[0]["entities"] == approx(
        tagger(TEXT, adapt=False)
    )


def test_json_lines_keep_their_keys(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = [
        {"id": 7, "text": TEXT},
        {"tokens": ["Anna", "Berg", "spoke", "."], "ner_tags": ["O"] * 4},
        {"words": [], "n": None},
        {"text": "Oslo"},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = tagged(tiny_bundle, path)
    assert found.status == 0
    first, second, third, fourth = found.records
    assert list(first) == ["id", "text", "entities"]
    assert second["tokens"] == ["Anna", "Berg", "spoke", "."]
    assert second["text"] == "Anna Berg spoke ."
    assert len(second["ner_tags"]) == 4
    assert [e["word"] for e in second["entities"]] == [
        second["text"][e["start"] : e["end"]] for e in second["entities"]
    ]
    assert third == {"words": [], "n": None, "text": "", "ner_tags": [], "entities": []}
    assert fourth["text"] == "Oslo"


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("columns", ["{w}", "{w}{s}NN{s}B-X", "{i}{s}{w}{s}O"])
def test_columns_in_and_out(tiny_bundle: Path, tmp_path: Path, columns: str, separator: str) -> None:
    words = [["Anna", "Berg", "spoke", "."], ["#", "Oslo"]]
    blocks = ["\n".join(columns.format(i=i, w=w, s=separator) for i, w in enumerate(block, 1)) for block in words]
    path = tmp_path / "in.conll"
    path.write_text("-DOCSTART- O\n\n# a comment\n" + "\n\n\n".join(blocks), encoding="utf-8")
    found = run("tag", tiny_bundle, path, "--output", "conll")
    assert (found.status, found.err) == (0, "")
    out = tmp_path / "out.conll"
    out.write_text(found.out, encoding="utf-8")
    assert [list(s.words) for s in read_corpus(out).sentences] == words
    assert tagged(tiny_bundle, path).records[0]["ner_tags"] == list(read_corpus(out).sentences[0].tags or ())


def test_explain_tells_the_support(tiny_bundle: Path, tmp_path: Path) -> None:
    (record,) = tagged(tiny_bundle, "--explain", stdin=TEXT).records
    assert len(record["support"]) == 4, "two sentences with two neighbours each"
    assert {TEXT[s["start"] : s["end"]] for s in record["support"]} == {
        "Anna Berg left Oslo.",
        "Jan Smit lives in Lima.",
    }
    for support in record["support"]:
        assert -1 <= support["similarity"] <= 1.0001
        assert all(support["text"][e["start"] : e["end"]] == e["word"] for e in support["entities"])
    assert [set(e) for e in record["plain_entities"]] == [{"entity_group", "score", "word", "start", "end"}] * len(
        record["plain_entities"]
    )
    found = run("tag", tiny_bundle, "--explain", "--output", "conll", stdin=TEXT)
    assert found.out.count("# support 0.") == 4
    assert found.out.count("# plain ") == 2
    out = tmp_path / "out.conll"
    out.write_text(found.out, encoding="utf-8")
    assert len(read_corpus(out).sentences) == 2, "the reader passes over the comments"
    assert "leave out --no-adapt" in run("tag", tiny_bundle, "--explain", "--no-adapt").err


def test_lone_surrogates_and_control_characters_come_back(tiny_bundle: Path) -> None:
    lines = ['{"text": "Anna \\ud800 Berg \\u0000\\u001b"}', '{"tokens": ["\\udfff", "Oslo", "\\u0007"]}']
    found = tagged(tiny_bundle, "--format", "jsonl", stdin="\n".join(lines))
    assert (found.status, found.err) == (0, "")
    assert found.records[0]["text"] == "Anna \ud800 Berg \0\x1b"
    assert found.records[1]["tokens"] == ["\udfff", "Oslo", "\x07"]
    assert len(found.records[1]["ner_tags"]) == 3
    columns = run("tag", tiny_bundle, "--format", "jsonl", "--output", "conll", stdin=lines[1])
    assert columns.out.splitlines()[0].partition("\t")[0] == "?"


@pytest.mark.parametrize(
    ("form", "line", "message"),
    [
        ("jsonl", b"{oops", r"not JSON"),
        ("jsonl", b"[1]", r"found \[1\]; expected an object"),
        ("jsonl", b"{}", r"found the keys \(none\)"),
        ("jsonl", b'{"txt": "a"}', r"found the keys txt; expected"),
        ("jsonl", b'{"text": 3}', r"text is 3; expected"),
        ("jsonl", b'{"tokens": "Anna"}', r"tokens is \"Anna\"; expected"),
        ("jsonl", b'{"tokens": ["a", ""]}', r"word 2 is empty"),
        ("jsonl", b"[" * 100_000, r"not JSON"),
        ("text", b"caf\xe9", r"not UTF-8"),
        ("conll", b" O", r"expected a word in the first column"),
    ],
)
def test_a_broken_line_is_named_after_what_stood_before_it(
    tiny_bundle: Path, tmp_path: Path, form: str, line: bytes, message: str
) -> None:
    good = {"jsonl": b'{"text": "Oslo"}\n', "text": b"Oslo\n", "conll": b"Oslo O\n\n"}[form]
    path = tmp_path / "in"
    path.write_bytes(good + line + b"\n" + good)
    found = tagged(tiny_bundle, path, "--format", form)
    assert found.status == 2
    assert found.err.startswith(f"error: {path}:{3 if form == 'conll' else 2}: ")
    assert re.search(message, found.err)
    assert [r["text"] for r in found.records] == ["Oslo"]


def test_a_word_that_breaks_the_columns_is_refused(tiny_bundle: Path) -> None:
    found = run("tag", tiny_bundle, "--format", "jsonl", "--output", "conll", stdin='{"tokens": ["a\\tb"]}')
    assert (found.status, "take --output jsonl" in found.err) == (2, True)


@pytest.mark.parametrize("name", ["missing.txt", ".", "a\0b"])
def test_a_file_that_cannot_be_read(tiny_bundle: Path, name: str) -> None:
    found = run("tag", tiny_bundle, name)
    assert found.status == 2
    assert "cannot be read" in found.err


def test_a_long_stream_is_tagged_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "GROUP_ITEMS", 3)
    monkeypatch.setattr(streams, "GROUP_CHARACTERS", 10)
    stream = io.BytesIO(b"a\nb\nc\nd\n" + b"x" * 50 + b"\ne\n\xff\n")
    items = streams.in_groups(streams.read_items(stream, "in", "text"))
    assert [item.text for item in next(items)] == ["a", "b", "c"]
    assert stream.tell() < 70 and [item.text for item in next(items)] == ["d"]
    assert [len(item.text) for item in next(items)] == [50]
    assert [item.text for item in next(items)] == ["e"]
    with pytest.raises(UserError, match="in:7: not UTF-8"):
        next(items)


def test_formats_are_told_by_names() -> None:
    names = ["-", "a.txt", "a.JSONL", "a.json", "x/b.conll", "c.tsv", "conll"]
    assert [streams.guess_format(name) for name in names] == [
        "text",
        "text",
        "jsonl",
        "jsonl",
        "conll",
        "conll",
        "text",
    ]


def test_a_reader_that_goes_away_is_no_error(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text(f"{TEXT}\n" * 20, encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(typer.Exit) as caught:
            cli.tag.tag(tiny_bundle, str(tmp_path / "in.txt"))
    assert (caught.value.exit_code, capsys.readouterr().err) == (141, "")


def test_a_full_disk_behind_standard_output(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text(f"{TEXT}\n" * 20, encoding="utf-8")
    with Path("/dev/full").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(typer.Exit) as caught:
            cli.tag.tag(tiny_bundle, str(tmp_path / "in.txt"))
    assert caught.value.exit_code == 2
    assert (
        capsys.readouterr().err == "error: the output cannot be written (No space left on device). Free some space.\n"
    )
