"""Wrapped prose and lists, and the share of line breaks that are taken for what they are."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from benchmarks import line_breaks
from benchmarks.line_breaks import RULES, addresses, lists, measure, names, wrap, wrapped
from benchmarks.sentence_splitting import OURS, Labelled, Paragraph, Score
from tests.benchmarks.test_sentence_splitting import CORPUS, write

NAMES = [Labelled("Ann Lee saw Ann Lee", ((0, 6), (9, 15)))]


def test_lines_are_filled() -> None:
    assert wrap("one two three  four", lambda: 9) == "one two\nthree\nfour"
    assert wrap("他去了北京GDP三", lambda: 6) == "他去了\n北京\nGDP三"
    assert wrap("incomprehensible words", lambda: 5) == "incomprehensible\nwords"
    widths = iter([3, 7, 3])
    assert wrap("one two six ten", lambda: next(widths)) == "one\ntwo six\nten"


def test_wrapping_moves_neither_breaks_nor_names() -> None:
    paragraph = Paragraph("Ann Lee left. No! To Bo", frozenset({11, 14}), ((0, 6), (16, 18)))
    (found,) = wrapped([paragraph], 8, 8)
    assert found == Paragraph("Ann Lee\nleft.\nNo! To\nBo", paragraph.breaks, paragraph.names)


def test_lists_and_addresses_are_made_of_names() -> None:
    assert list(names(NAMES)) == ["Ann Lee", "Ann Lee"]
    for found in lists(NAMES * 40):
        lines = found.text.split("\n")
        assert set(lines) == {"Ann Lee"}
        assert found.breaks == {6 * number for number in range(1, len(lines))}
    three_lines = list(addresses(NAMES * 40, between="\n"))
    one_line = list(addresses(NAMES * 40, between=", "))
    assert [found.text.replace("\n", ", ") for found in one_line] == [
        found.text.replace("\n", ", ") for found in three_lines
    ]
    assert all(len(found.breaks) == found.text.count("\n") for found in three_lines + one_line)


def test_rules() -> None:
    found = measure({"en": [Paragraph("Ann Lee\nBo", frozenset({6}), ())]})
    assert found == {OURS: {"en": Score(right=1)}, "every": {"en": Score(right=1)}, "none": {"en": Score(missed=1)}}
    cut = measure({"en": [Paragraph("It is said there that the friends of Ann\nLee left.", frozenset(), ((30, 36),))]})
    assert [cut[rule]["en"].names_cut for rule in RULES] == [0, 1, 0]


def test_command(tmp_path: Path) -> None:
    app = line_breaks.typer.Typer()
    app.command()(line_breaks.main)
    result = CliRunner().invoke(app, ["--data", f"en={write(tmp_path, CORPUS)}"])
    assert result.exit_code == 0, result.output
    assert "10 sentences, ragged" in result.output and "addresses of one line" in result.output
    assert CliRunner().invoke(app, ["--data", "dev.iob2"]).exit_code == 2
