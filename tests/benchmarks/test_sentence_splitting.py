"""The paragraphs that splitters are measured on, and how their breaks are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import sentence_splitting
from benchmarks.sentence_splitting import (
    OURS,
    Labelled,
    Paragraph,
    Peer,
    Score,
    make_paragraphs,
    measure,
    read_labelled,
    score,
    stand_ins,
)
from metacross.errors import UserError

CORPUS = """# newdoc
# text = Ann  Lee left.
1\tAnn\tB-PER\t-\t-
2\tLee\tI-PER\t-\t-
3\tleft\tO\t-\t-
4\t.\tO\t-\t-

# text = No!
1\tNo\tI-X\t-\t-
2\t!\tO\t-\t-

# text = To Bo
1\tTo\tO\t-\t-
2\tBo\tB-LOC\t-\t-
"""
LABELLED = [
    Labelled("Ann  Lee left.", ((0, 6),)),
    Labelled("No!", ((0, 2),)),
    Labelled("To Bo", ((2, 4),)),
]
PARAGRAPH = Paragraph("Ann Lee left. No! To Bo", frozenset({11, 14}), ((0, 6), (16, 18)))


def write(folder: Path, text: str) -> Path:
    path = folder / "dev.iob2"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_labelled(tmp_path: Path) -> None:
    assert read_labelled(write(tmp_path, CORPUS)) == LABELLED


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "found no sentences"),
        ("1\tA\tO\n", "expected a sentence with its text"),
        ("# text = B\n1\tA\tO\n", "expected a sentence with its text"),
        ("# text = A\n1 A O\n", ":2: expected number, word and tag"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(UserError, match=error):
        read_labelled(write(tmp_path, text))
    with pytest.raises(UserError, match="absent"):
        read_labelled(tmp_path / "absent")


def test_paragraphs() -> None:
    first, second = make_paragraphs(LABELLED, language="en", size=2)
    assert first == Paragraph("Ann  Lee left. No!", frozenset({11}), ((0, 6), (11, 13)))
    assert second == Paragraph("To Bo", frozenset(), ((2, 4),))
    assert make_paragraphs(LABELLED, language="zh")[0].text == "Ann  Lee left.No!To Bo"


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (["Ann Lee left.", "No!", "To Bo"], Score(right=2)),
        (["Ann Lee left. ", "", "No!\n", "To Bo"], Score(right=2)),  # white space counts for nothing
        (["AnnLee left.No! To Bo"], Score(missed=2)),
        (["Ann", "Lee left.", "No! To B", "o"], Score(right=1, wrong=2, missed=1, names_cut=2)),
        (["A", "nn", "Lee left.", "No! To Bo"], Score(right=1, wrong=2, missed=1, names_cut=1)),
        (["Ann Lee left.", "No! To"], Score(missed=2, changed=1)),
        ([], Score(missed=2, changed=1)),
    ],
)
def test_score(sentences: list[str], expected: Score) -> None:
    assert score(PARAGRAPH, sentences) == expected


def test_figures() -> None:
    total = Score(right=3, wrong=1, missed=2) + Score(missed=1, names_cut=1, changed=1)
    assert total == Score(3, 1, 3, 1, 1)
    assert (total.precision, total.recall, total.f1) == (0.75, 0.5, 0.6)
    assert (Score().precision, Score().recall, Score().f1) == (0, 0, 0)


def knows_only_no(_: object, language: str) -> sentence_splitting.Split:
    if language not in ("en", "no"):
        raise KeyError(language)
    return lambda text: [text]


def test_peers_are_told_a_language_that_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = (Peer("typer", "typer", knows_only_no), Peer("no-such-splitter", "absent", knows_only_no))
    monkeypatch.setattr(sentence_splitting, "PEERS", peers)
    data = {language: [PARAGRAPH] for language in ("en", "nb", "zh")}
    found, missing = measure(data, repeats=1)
    assert missing == ["no-such-splitter"]
    assert [one.name for one in found] == [OURS, "typer"]
    assert found[0].scores["en"] == Score(right=2) and found[1].total() == Score(missed=6)
    assert stand_ins(found) == ["typer was told no for nb, en for zh."]


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_splitting, "PEERS", (Peer("no-such-splitter", "absent", knows_only_no),))
    app = sentence_splitting.typer.Typer()
    app.command()(sentence_splitting.main)
    figures = tmp_path / "figures.json"
    arguments = ["--data", f"en={write(tmp_path, CORPUS)}", "--repeats", "1", "--json", str(figures)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "no-such-splitter: not installed" in result.output and "100.0/100.0/100.0" in result.output
    assert json.loads(figures.read_text(encoding="utf-8"))[0]["scores"]["en"]["right"] == 2
    assert CliRunner().invoke(app, ["--data", "dev.iob2"]).exit_code == 2
