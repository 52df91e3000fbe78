"""The command line: what comes out, exit statuses, and messages for every mistake."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import metacross
from metacross import AdaptiveTagger
from metacross.cli import app as cli
from metacross.cli import streams, terminal
from metacross.config import Config, load_config
from metacross.corpora.reader import read_corpus
from metacross.errors import RunError, UserError
from metacross.events import Note, TrialMeasurement
from metacross.sweeps.space import load_space
from metacross.sweeps.trials import Sweep, Trial
from tests.helpers.tiny_bundle import tiny_config, write_corpus

TEXT = "Anna Berg left Oslo. Jan Smit lives in Lima."


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str
    records: list[dict[str, Any]] = field(default_factory=list)


def run(*arguments: object, stdin: bytes | str = b"") -> Outcome:
    """A command in this process, where imports are done."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], input=stdin)
    return Outcome(result.exit_code, result.stdout, result.stderr)


def tagged(*arguments: object, stdin: bytes | str = b"") -> Outcome:
    """`metacross tag`, its JSON lines read."""
    found = run("tag", *arguments, stdin=stdin)
    records = [json.loads(line) for line in found.out.splitlines() if line.startswith("{")]
    return Outcome(found.status, found.out, found.err, records)


def approx(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entities whose scores may differ by rounding, since other texts stood in the batch."""
    return [{**entity, "score": pytest.approx(entity["score"], abs=1e-5)} for entity in found]


# --- help and version ------------------------------------------------------------------------------------------------


def test_help_comes_at_once_and_names_every_command() -> None:
    loaded = (
        "import sys, metacross.__main__; print({'torch', 'transformers', 'ray', 'faiss', 'numpy'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
    found = run("--help")
    assert found.status == 0
    for command in ("train", "tune", "evaluate", "tag", "data"):
        assert f"  {command}  " in found.out
        one = run(command, "--help")
        assert one.status == 0
        assert f"\n  metacross {command} " in one.out or f"| metacross {command} " in one.out, "an example"


def test_version_is_the_projects(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metacross.__version__ == project["version"]
    assert run("--version").out == f"metacross {project['version']}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["tag"], ["tag", "b", "-", "--format", "xml"], ["evaluate", "b", "--limit", "0"], ["data"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).status == 2


def test_there_is_only_what_is_promised() -> None:
    assert metacross.AdaptiveTagger is AdaptiveTagger
    with pytest.raises(AttributeError, match="no attribute 'Adaptive'"):
        _ = metacross.Adaptive


# --- tune ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a search space (--space FILE), or a sweep to go on with (--resume DIR)"),
        (["--space", "a.yaml", "--resume", "b"], "give a search space"),
        (["--resume", "b", "train.steps=3"], "leave out everything but --resume"),
        (["--resume", "no/sweep"], "no sweep to resume (space.yaml is missing)"),
        (["--space", "no/space.yaml"], "no/space.yaml does not exist"),
        (["--space", "tune_spaces/smoke.yaml", "train.stepps=3"], "Unknown key train.stepps"),
    ],
)
def test_tune_names_what_is_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(root)
    found = run("tune", *arguments)
    assert found.status == 2
    assert found.err.startswith("error: ")
    assert message in found.err


def test_tune_reports_what_came_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep itself is tested on a real Ray; this is what the command makes of it."""
    space = load_space(root / "tune_spaces" / "smoke.yaml", load_config([root / "ray_config.yaml"]))
    good = Trial(
        "abc", {"inner.lr": 0.05, "loss.max_weight": 2.0}, [TrialMeasurement("abc", step=4, score=61.5)], "finished", ""
    )
    bad = Trial("xyz", {"inner.lr": 0.2, "loss.max_weight": 0.0}, [], "failed", "step 1: not finite [sic]")

    def sweep(trials: list[Trial]) -> Outcome:
        def tune(config: Config, *arguments: object, **settings: object) -> Sweep:
            return Sweep(tmp_path, config, space, trials)

        monkeypatch.setattr("metacross.sweeps.driver.tune", tune)
        return run("tune", "--space", root / "tune_spaces" / "smoke.yaml", f"train.storage_path={tmp_path}")

    found = sweep([good, bad])
    assert found.status == 0
    assert "the best of 2 trials" in found.out and "61.50" in found.out
    assert str(tmp_path / "best.yaml") in found.out.splitlines()
    assert "trial xyz failed: step 1: not finite [sic]" in found.err
    assert "2 of 2 trials: 1 finished, 1 failed" in found.err
    interrupted = sweep([good])
    assert interrupted.status == 130
    assert f"metacross tune --resume {tmp_path}" in interrupted.err
    assert sweep([bad, bad]).status == 1


# --- tag -------------------------------------------------------------------------------------------------------------


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


# --- evaluate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dev(tiny_folder: Path) -> Path:
    return tiny_folder / "dev.conll"


def test_evaluate_prints_and_writes_all_figures(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("old")
    found = run("evaluate", tiny_bundle, "--data", f"en={dev}", "--data", f"es={dev}", "--limit", 7, "--json", out)
    assert (found.status, found.err) == (0, "")
    record = json.loads(out.read_text(encoding="utf-8"))
    assert set(record) == {"en", "es"}
    rows = {words[0]: words[1:] for line in found.out.splitlines() if (words := line.split())}
    result = record["en"]
    figures = [result[part][key] for part in ("plain", "adapted") for key in ("precision", "recall", "f1")]
    assert rows["en"] == [
        "7",
        str(rows_entities(result)),
        *(f"{x:.2f}" for x in figures),
        f"{result['difference']['f1']:+.2f}",
    ]
    assert rows["PER"][1:4] == [
        f"{result['plain']['per_type']['PER'][key]:.2f}" for key in ("precision", "recall", "f1")
    ]
    assert rows["mean"][-2] == f"{(record['en']['adapted']['f1'] + record['es']['adapted']['f1']) / 2:.2f}"
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"], "no temporary file stays"


def rows_entities(result: dict[str, Any]) -> int:
    return sum(row["entities"] for row in result["adapted"]["per_type"].values())


def test_evaluate_takes_settings(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    found = run(
        "evaluate", tiny_bundle, "--data", f"en={dev}", "--neighbours", 3, "--inner-lr", 0, "--json", out,
        "data.tag_map={LOC: O}",
    )  # fmt: skip
    assert found.status == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert list(record["en"]["plain"]["per_type"]) == ["PER"]
    assert record["en"]["difference"]["f1"] == 0


def test_examples_shape_what_is_measured_and_tagged(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    out, shaped = tmp_path / "out.json", tmp_path / "shaped.json"
    assert run("evaluate", tiny_bundle, "--data", f"en={dev}", "--json", out).status == 0
    found = run("evaluate", tiny_bundle, "--data", f"en={dev}", "--json", shaped, "--examples", dev)
    assert (found.status, found.err) == (0, f"{dev}: 12 of 12 sentences may shape answers\n")
    before, after = (json.loads(path.read_text(encoding="utf-8"))["en"] for path in (out, shaped))
    assert before["plain"] == after["plain"]
    assert before["adapted"] != after["adapted"]
    text = read_corpus(dev).sentences[0].text
    (record,) = tagged(tiny_bundle, "-", "--explain", "--examples", dev, stdin=text).records
    assert record["support"][0]["text"] == text
    assert record["support"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    (record,) = tagged(tiny_bundle, "-", "--explain", stdin=text).records
    assert record["support"][0]["text"] != text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to measure on"),
        (["--data", "en={dev}", "--examples", "{unknown}"], "'data.tag_map={OTH: O}'"),
        (["--data", "en={dev}", "--examples", "{nothing}"], "no entities"),
        (["--data", "dev.conll"], "expected a language and a file"),
        (["--data", "en="], "expected a language and a file"),
        (["--data", "en={dev}", "--data", "en={dev}"], "en was given before"),
        (["--data", "en=missing.conll"], "missing.conll: no such file"),
        (["--data", "en={empty}"], "the file is empty"),
        (["--data", "en={nothing}"], "no entities"),
        (["--data", "en={unknown}"], "'data.tag_map={OTH: O}'"),
        (["--data", "en={dev}", "--neighbours", "99"], "Lower episodes.support_size (or --neighbours)"),
        (["--data", "en={dev}", "inner.lrr=1"], "Did you mean inner.lr?"),
        (["--data", "en={dev}", "model.frozen_layers=2"], "was trained with 1"),
        (["--data", "en={dev}", "--json", "no/where/out.json"], "is no directory"),
    ],
)
def test_evaluate_names_what_is_wrong(
    tiny_bundle: Path, dev: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {name: tmp_path / name for name in ("empty", "nothing", "unknown")}
    places["empty"].touch()
    places["nothing"].write_text("Oslo O\n")
    places["unknown"].write_text("Oslo B-LOC\nEuro B-OTH\n")
    given = [a.format(dev=dev, **places) if a.startswith(("en={", "{")) else a for a in arguments]
    found = run("evaluate", tiny_bundle, *given)
    assert found.status == 2
    assert message in found.err
    assert found.err.startswith("error: ")
    assert "Traceback" not in found.err


def test_oddities_are_told_beside_the_table(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "places.conll"
    path.write_text("Oslo B-LOC\n", encoding="utf-8")
    found = run("evaluate", tiny_bundle, "--data", f"nb={path}")
    assert found.status == 0
    assert found.err == (
        f"nb: {path} has no PER, so whatever is found of it counts as wrong; 'data.tag_map={{PER: O}}' leaves it out\n"
    )


def test_a_full_disk_behind_json(tiny_bundle: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("evaluate", tiny_bundle, "--data", f"en={dev}", "--limit", 3, "--json", "/dev/full")
    assert found.status == 2
    assert "error: /dev/full: cannot be written (No space left on device)" in found.err
    assert Path("/dev/full").is_char_device()

    def fsync(number: int) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out.json"
    out.write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"out\.json: cannot be written \(No space left on device\)"):
        terminal.write_output(out, {})
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert out.read_text() == "old"


def test_damaged_bundles_are_told_by_every_command(tiny_bundle: Path, dev: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / "tokenizer.json").write_text("{}")
    for arguments in (("tag", bundle), ("evaluate", bundle, "--data", f"en={dev}")):
        found = run(*arguments)
        assert (found.status, "tokenizer.json: not as it was written" in found.err) == (2, True)
    assert "not a bundle" in run("tag", tmp_path).err


# --- data ------------------------------------------------------------------------------------------------------------


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


# --- train -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_train(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Callable[[Any], dict[str, Any]]:
    """Puts a function in the place of training on Ray; gives what it was called with."""
    module = pytest.importorskip("metacross.ray_training.driver")

    def install(outcome: Any) -> dict[str, Any]:
        called: dict[str, Any] = {}

        def train(
            config: Config, *, run_dir: Any = None, resume: bool = False, auto_resume: bool = False, show: Any = None
        ) -> Any:
            called.update(config=config, run_dir=run_dir, resume=resume)
            show(Note("hello"))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        def resume_config(run_dir: Path, overrides: Any = ()) -> Config:
            called["overrides"] = list(overrides)
            return tiny_config(tiny_folder)

        monkeypatch.setattr(module, "train", train)
        monkeypatch.setattr(module, "resume_config", resume_config)
        return called

    return install


def result(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"run_dir": Path("runs/x"), "bundle": Path("runs/x/bundle"), "step": 3, "stopped": False, **fields}
    )


def test_train_puts_the_configuration_together(fake_train: Any, tmp_path: Path) -> None:
    called = fake_train(result())
    more = tmp_path / "more.yaml"
    more.write_text("train: {steps: 7, seed: 1}", encoding="utf-8")
    found = run("train", "--config", more, "train.seed=2", "data.tag_map={OTH: O}")
    assert (found.status, found.out) == (0, "runs/x/bundle\n")
    assert "hello" in found.err
    assert (called["config"].train.steps, called["config"].train.seed) == (7, 2)
    assert called["config"].data.tag_map == {"OTH": "O"}
    assert (called["resume"], called["run_dir"]) == (False, None)


def test_a_stopped_run_tells_how_to_go_on(fake_train: Any) -> None:
    called = fake_train(result(stopped=True))
    found = run("train", "--resume", "runs/x", "train.workers=2")
    assert found.status == 130
    assert "stopped at step 3; go on with: metacross train --resume runs/x" in found.err
    assert (called["resume"], called["run_dir"], called["overrides"]) == (True, "runs/x", ["train.workers=2"])


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "go on with: metacross train --resume"),
        (RunError("the loss is not finite"), 1, "error: the loss is not finite\n"),
        (UserError("no such corpus"), 2, "error: no such corpus\n"),
        (ZeroDivisionError("by zero"), 1, "error: ZeroDivisionError: by zero. This is a fault of the program"),
    ],
)
def test_how_a_run_can_end(fake_train: Any, outcome: BaseException, status: int, message: str) -> None:
    fake_train(outcome)
    found = run("train")
    assert (found.status, message in found.err) == (status, True)
    assert ("Traceback" in found.err) == isinstance(outcome, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.step=3"], "Unknown key train.step"),
        (["steps"], "is not key=value"),
        (["--config", "missing.yaml"], "missing.yaml does not exist"),
        (["--config", "a.yaml", "--resume", "runs/x"], "leave out --config"),
    ],
)
def test_train_names_what_is_wrong(fake_train: Any, arguments: list[str], message: str) -> None:
    called = fake_train(result())
    found = run("train", *arguments)
    assert (found.status, message in found.err) == (2, True)
    assert "config" not in called


def test_the_program_by_itself_is_quiet_and_can_be_interrupted(tiny_bundle: Path, root: Path) -> None:
    own = {"HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"}
    environment = {key: value for key, value in os.environ.items() if key not in own} | {"OMP_NUM_THREADS": "1"}
    program = subprocess.Popen(
        [sys.executable, "-m", "metacross", "tag", str(tiny_bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=root,
        env=environment,
        # Whoever runs the tests in the background may have it ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert program.stdin and program.stdout
    program.stdin.write(f"{TEXT}\n".encode() * streams.GROUP_ITEMS)
    line = program.stdout.readline()
    assert json.loads(line)["text"] == TEXT, "the first group is written while the next is waited for"
    time.sleep(0.2)
    program.send_signal(signal.SIGINT)
    _, error = program.communicate(timeout=240)
    assert (program.returncode, error) == (130, b"interrupted\n")


def test_a_source_that_cannot_be_prepared(tmp_path: Path) -> None:
    found = run("index", "--out", tmp_path / "prepared", "data.source=no/such.conll")
    assert (found.status, found.out) == (2, "")
    assert "error: no/such.conll" in found.err
    assert list(tmp_path.iterdir()) == []


def test_resuming_by_name_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert "train.name=NAME" in run("train", "--auto-resume").err
    assert "--name NAME" in run("tune", "--space", "tune_spaces/smoke.yaml", "--auto-resume").err
    assert "leave out one" in run("train", "--auto-resume", "--resume", "runs/x").err
