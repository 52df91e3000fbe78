"""`metacross adopt`: the command, what it says, and every way it can be called wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.adoption import TEXT, write_text
from tests.helpers.commands import run, tagged


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def test_a_bundle_adopts_a_language(tiny_bundle: Path, text: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "es.conll"
    corpus.write_text("Maria B-PER\nLopez I-PER\nspoke O\n")
    out = tmp_path / "adopted"
    done = run(
        "adopt", tiny_bundle, "--text", f"de={text}", "--text", f"es={corpus}", "--out", out,
        "--teacher", tiny_bundle, "--teacher", tiny_bundle, "adopt.steps=2", "adopt.confidence=0",
    )  # fmt: skip
    assert (done.status, done.out) == (0, f"{out}\n"), done.err
    assert f"{corpus}: read for its words; tags, if it has any, are ignored" in done.err
    assert "de: of 10 sentences theta was trained on 5, and 5 of the others may shape answers" in done.err
    (record,) = tagged(out, "--explain", stdin="Ines Vidal and Tom Hale spoke.").records
    assert {found["language"] for found in record["support"] if found.get("voted")} == {"de"}, "es has no such words"
    columns = run("tag", out, "--explain", "--output", "conll", stdin=TEXT)
    assert "(de, machine 0." in columns.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to adopt: give labelled sentences, such as --examples es=es.conll, or text, such as --text es="),
        (["--examples", "de"], "--examples de: expected a language code and a file"),
        (["--examples", "de=nowhere.conll"], "nowhere.conll"),
        (["--examples", "de={no_entity}"], "no entities: every tag is O"),
        (["--examples", "de={other}"], "entity type GPE, which the tagger does not know"),
        (["--examples", "de={other}", "--teacher", "{text}"], "--teacher: there is nothing to label"),
        (["--text", "de"], "--text de: expected a language code and a file"),
        (["--text", "Deutsch=de.txt"], "expected a language code and a file"),
        (["--text", "de=nowhere.txt"], "nowhere.txt"),
        (["--text", "de={empty}"], "found no sentence to adopt de from"),
        (["--text", "de={text}", "--teacher", "nowhere"], "nowhere: not a bundle"),
        (["--text", "de={text}", "--out", "{mine}"], "is no bundle and will not be replaced"),
        (["--text", "de={text}", "adopt.confidence=2"], "a number from 0 to 1"),
        (["--text", "de={text}", "model.max_pieces=64"], "model.max_pieces=64 but this bundle was trained with 48"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tiny_bundle: Path, text: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    (tmp_path / "no_entity.conll").write_text("Nothing O\nhappened O\n")
    (tmp_path / "other.conll").write_text("In O\nOslo B-GPE\n")
    files = {"no_entity": tmp_path / "no_entity.conll", "other": tmp_path / "other.conll"}
    places = {"text": text, "empty": tmp_path / "empty.txt", "mine": tmp_path / "mine", **files}
    done = run("adopt", tiny_bundle, "--out", tmp_path / "out", *(argument.format(**places) for argument in arguments))
    assert done.status == 2, done.err
    assert message in done.err
    assert not (tmp_path / "out").exists()
