"""`metacross data`: figures of good files, messages for bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.commands import run
from tests.helpers.tiny_bundle import write_corpus


def test_data_shows_figures_and_goes_on_after_a_bad_file(samples: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    found = run(
        "data", "missing", samples / "en" / "dev.conll", empty, samples / "zh" / "test.conll", "data.tag_map={PER: O}"
    )
    assert found.status == 2
    assert "missing: no such file" in found.err and "the file is empty" in found.err
    assert found.out.count("sentences") == 2
    assert "LOC" in found.out and "PER" not in found.out
    good = run("data", samples / "en" / "dev.conll")
    assert good.status == 0 and good.err == "" and "PER" in good.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "data.maxwords=3"], "Unknown key data.maxwords"),
        (["data.max_words=3"], "no file given"),
        (["x", "data.max_words=0"], "data.max_words is 0"),
    ],
)
def test_data_names_wrong_settings(arguments: list[str], message: str) -> None:
    found = run("data", *arguments)
    assert (found.status, message in found.err) == (2, True)


def test_file_names_may_look_like_markup_or_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("[red]x", "data.max_words=7"):
        write_corpus(tmp_path / name, sentences=3)
        found = run("data", name)
        assert (found.status, name in found.out) == (0, True)
