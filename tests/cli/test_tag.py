"""`metacross tag`: text, JSON lines and columns in and out, and every way it can go wrong."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import typer

from metacross import AdaptiveTagger
from metacross.bulk import items as reading
from metacross.cli import app as cli
from metacross.corpora.formats.doc_bin import write_doc_bin
from metacross.corpora.raw import Document, Oddities
from metacross.corpora.reader import read_corpus
from metacross.corpora.source import PIECE
from metacross.errors import UserError
from tests.helpers.commands import TEXT, approx, run, tagged


def test_text_from_standard_input(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle)
    found = tagged(tiny_bundle, stdin=f"{TEXT}\r\n\n\ufeffAnna\n".encode())
    assert found.status == 0
    assert found.err == "-: 1 line with a byte-order mark at the beginning, which was left out (first at -:3)\n"
    assert [r["text"] for r in found.records] == [TEXT, "", "Anna"]
    assert found.records[0] == {"text": TEXT, "entities": expected(tagger, adapt=True)}
    plain = tagged(tiny_bundle, "-", "--no-adapt", stdin=TEXT)
    assert plain.records[0]["entities"] == expected(tagger, adapt=False)


def expected(tagger: AdaptiveTagger, *, adapt: bool) -> object:
    """What a tagger's typed answer has, by the names of its attributes, which are the keys of the output."""
    (answer,) = tagger.tag_texts([TEXT], adapt=adapt)
    return approx([asdict(entity) for entity in answer.entities()])


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
    assert [e["text"] for e in second["entities"]] == [
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
    path.write_text("-DOCSTART- O\n\n# a comment of several words\n" + "\n\n\n".join(blocks), encoding="utf-8")
    found = run("tag", tiny_bundle, path, "--output", "conll")
    assert (found.status, found.err) == (0, "")
    out = tmp_path / "out.conll"
    out.write_text(found.out, encoding="utf-8")
    assert [list(s.words) for s in read_corpus(out).sentences] == words
    assert tagged(tiny_bundle, path).records[0]["ner_tags"] == list(read_corpus(out).sentences[0].tags or ())


def test_the_rows_of_a_table_of_texts_keep_their_fields(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,text\n7,"Anna Berg left, at last."\n', encoding="utf-8")
    (record,) = tagged(tiny_bundle, path).records
    assert (record["id"], record["text"]) == ("7", "Anna Berg left, at last.")
    assert "entities" in record and "ner_tags" not in record


def test_explain_tells_the_support(tiny_bundle: Path, tmp_path: Path) -> None:
    (record,) = tagged(tiny_bundle, "--explain", stdin=TEXT).records
    assert len(record["support"]) == 4, "two sentences with two neighbours each"
    assert {TEXT[s["start"] : s["end"]] for s in record["support"]} == {
        "Anna Berg left Oslo.",
        "Jan Smit lives in Lima.",
    }
    for support in record["support"]:
        assert -1 <= support["similarity"] <= 1.0001
        assert all(support["text"][e["start"] : e["end"]] == e["text"] for e in support["entities"])
    assert record["plain"]
    assert all(list(e) == ["start", "end", "text", "label", "score"] for e in record["plain"])
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
        ("jsonl", b"[1]", r"found 1; expected a JSON object"),
        ("jsonl", b"{}", r"found the keys \[\]; expected words"),
        ("jsonl", b'{"txt": "a"}', r"found the keys \['txt'\]; expected words"),
        ("jsonl", b'{"text": 3}', r"found the keys \['text'\]; expected words"),
        ("jsonl", b'{"tokens": "Anna"}', r"found the keys \['tokens'\]; expected words"),
        ("jsonl", b"[" * 100_000, r"not JSON"),
        ("jsonl", "{'é': 1}\n".encode() + b"\xe9", r"not JSON"),
        ("text", b"caf\xe9 \xc3\xa9\xc3\xa9", r"bytes that are not utf-8, though the rest"),
        ("conll", b"a b c O", r"4 columns in the line"),
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
    # What a byte means is decided for a megabyte at once, so nothing of it is tagged before.
    assert [r["text"] for r in found.records] == ([] if "utf-8" in message else ["Oslo"])


def test_a_word_that_breaks_the_columns_is_refused(tiny_bundle: Path) -> None:
    found = run("tag", tiny_bundle, "--format", "jsonl", "--output", "conll", stdin='{"tokens": ["a\\tb"]}')
    assert (found.status, "take --output jsonl" in found.err) == (2, True)


@pytest.mark.parametrize("name", ["missing.txt", ".", "a\0b"])
def test_a_file_that_cannot_be_read(tiny_bundle: Path, name: str) -> None:
    found = run("tag", tiny_bundle, name)
    assert found.status == 2
    assert re.search("no such file|is a directory|cannot be read", found.err)


def test_a_long_file_is_tagged_in_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "GROUP_ITEMS", 3)
    monkeypatch.setattr(reading, "GROUP_CHARACTERS", 10)
    path = tmp_path / "in"
    path.write_bytes(b'"a"\n"b"\n"c"\n"d"\n' + b"x" * 50 + b"\ne\n" + "é\n".encode() * PIECE + b"\xe9\n")
    with reading.opened_items(str(path), "text") as (_, opened):
        items = reading.in_groups(opened)
        assert [item.text for item in next(items)] == ['"a"', '"b"', '"c"']
        assert [item.text for item in next(items)] == ['"d"']
        assert [len(item.text) for item in next(items)] == [50]
        with pytest.raises(UserError, match=f"in:{PIECE + 7}: found bytes that are not utf-8"):
            list(items)


def test_a_text_without_words_of_a_format_without_records(tmp_path: Path) -> None:
    path = tmp_path / "in.spacy"
    with path.open("wb") as file:
        write_doc_bin([Document("", (), ()), Document("Oslo", (), ((0, 4),))], file, Oddities())
    with reading.opened_items(str(path), "corpus") as (_, items):
        assert [item.text for item in items] == ["", "Oslo"]


@pytest.mark.parametrize("output", ["conll", "jsonl"])
def test_words_that_nobody_sees_keep_their_place(tiny_bundle: Path, tmp_path: Path, output: str) -> None:
    words = ["Anna", " ", "\t", "Berg\u200b", "\ufeff", "spoke", "\n"]
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"tokens": words}), encoding="utf-8")
    found = run("tag", tiny_bundle, path, "--output", output)
    assert (found.status, found.err) == (0, "")
    if output == "jsonl":
        record = json.loads(found.out)
        assert record["tokens"] == words
        assert len(record["ner_tags"]) == len(words)
        assert record["ner_tags"][-1] == "O"
        assert record["text"] == "Anna Berg spoke"
    else:
        assert [line.partition("\t")[0] for line in found.out.splitlines()] == [
            "Anna",
            " ",
            " ",
            "Berg\u200b",
            "\ufeff",
            "spoke",
            " ",
            "",
        ]


@pytest.mark.parametrize("packed", ["gz", "bz2", "xz", "zip"])
def test_columns_without_tags_are_read_as_corpora_are(tiny_bundle: Path, tmp_path: Path, packed: str) -> None:
    text = "1-2\tAnnaBerg\n1\tAnna\n2\tBerg\n\n1\tOslo\n2\tcalls\n"
    path = tmp_path / f"in.conllu.{packed}"
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("in.conllu", text)
    else:
        path.write_bytes({"gz": gzip, "bz2": bz2, "xz": lzma}[packed].compress(text.encode("utf-16")))
    found = tagged(tiny_bundle, path)
    assert (found.status, [r["text"] for r in found.records]) == (0, ["Anna Berg", "Oslo calls"])
    assert found.err == f"{path}: 1 line of word ranges or empty nodes (such as 3-4 or 8.1) left out\n"


def test_formats_are_told_by_names() -> None:
    for name in ["-", "a.txt", "a.txt.gz", "conll", ".gz", "x.conll/a"]:
        assert reading.guess_format(name) == "text"
    for name in ["a.JSONL", "a.json.gz", "x/b.conll", "c.tsv.zst", "a.b.conllu", "d.iob", "e.bio.xz", "f.parquet"]:
        assert reading.guess_format(name) == "corpus"


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
