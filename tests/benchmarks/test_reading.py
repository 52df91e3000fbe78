"""The files that readers of corpora are measured on, and what a measurement reports."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import reading
from benchmarks.readers import READERS, measure, rows
from benchmarks.reading import FILES, FLOOR, OURS, varied, write_files
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError

SAMPLE = [(("Angela", "Merkel", "spoke", "."), ("B-PER", "I-PER", "O", "O")), (("Nobody", "left"), ("O", "O"))]


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return write_files(tmp_path, SAMPLE, 2000)


def test_files_have_the_same_sentences(paths: dict[str, Path]) -> None:
    corpora = {name: read_corpus(path) for name, path in paths.items()}
    assert [corpus.format for corpus in corpora.values()] == ["conll-2003", "word-tab-tag", "jsonl"]
    first, *others = [[(s.words, s.tags) for s in corpus.sentences] for corpus in corpora.values()]
    assert all(sentences == first for sentences in others)
    assert first == [(tuple(words), tags) for words, tags in islice(varied(SAMPLE), len(first))]
    assert paths["four columns"].stat().st_size >= 2000
    assert paths["four columns"].read_text().startswith("-DOCSTART- -X- -X- O\n\nAngela NNP I-NP B-PER\n")


def test_words_vary() -> None:
    words = {word for words, _ in islice(varied(SAMPLE), 400) for word in words}
    assert len(words) > 10 and {".", "left"} < words
    assert {word for word in words if len(word) == 5} > {"spoke"}
    assert all(sorted(word) in map(sorted, [*SAMPLE[0][0], *SAMPLE[1][0]]) for word in words)


def test_the_shortest_reader(paths: dict[str, Path]) -> None:
    expected = [
        {"tokens": list(s.words), "ner_tags": list(s.tags or ())} for s in read_corpus(paths["two columns"]).sentences
    ]
    assert list(rows(str(paths["two columns"]))) == list(rows(str(paths["four columns"]))) == expected


def test_figures(paths: dict[str, Path]) -> None:
    figures = measure(READERS[OURS], str(paths["four columns"]))
    corpus = read_corpus(paths["four columns"])
    assert figures["sentences"] == len(corpus.sentences)
    assert figures["words"] == sum(len(sentence.words) for sentence in corpus.sentences)
    assert figures["peak_bytes"] >= figures["imported_bytes"] > 0
    assert measure(READERS[FLOOR], str(paths["four columns"]))["words"] == 0


def test_readers_that_find_other_words_are_refused(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"seconds": 1.0, "words": 1}
    monkeypatch.setattr(reading, "run", lambda reader, path, python: figures | {"words": len(reader)})
    with pytest.raises(UserError, match="datasets_generator finds 18 words in the file of four columns, ours 9"):
        reading.measure(paths, repeats=1, flair="python")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "four columns", (FILES["four columns"][0], (FLOOR, OURS, "flair")))
    for name in ("two columns", "JSON lines"):
        monkeypatch.delitem(FILES, name)
    app = reading.typer.Typer()
    app.command()(reading.main)
    figures = tmp_path / "figures.json"
    result = CliRunner().invoke(app, ["--size", "0.01", "--repeats", "1", "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert "flair: not installed" in result.output and "four columns: 0.0 MB" in result.output
    found = json.loads(figures.read_text(encoding="utf-8"))["found"]["four columns"]
    assert list(found) == [FLOOR, OURS] and found[OURS][0]["words"] > 100
    assert CliRunner().invoke(app, ["--data", str(tmp_path / "absent")]).exit_code == 2
