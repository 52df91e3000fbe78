"""`metacross train`: the configuration, how runs end, and messages for every mistake."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.table import Table

from metacross import json_logs
from metacross.bulk import items
from metacross.bundle import load_bundle
from metacross.cli.terminal import print_table
from metacross.config import Config
from metacross.errors import RunError, UserError
from metacross.events import Note
from tests.helpers.adoption import write_text
from tests.helpers.commands import TEXT, run
from tests.helpers.tiny_bundle import tiny_config


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
    program.stdin.write(f"{TEXT}\n".encode() * items.GROUP_ITEMS)
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


def test_a_run_adopts_texts_after_its_training(
    fake_train: Any, tiny_folder: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "run" / "bundle")
    unlabelled = f"data.unlabelled={{de: {write_text(tmp_path)}}}"
    fake_train(result(bundle=bundle))
    adopted = tmp_path / "run" / "adopted"
    for said in ("theta was trained on 5", f"{adopted} has adopted de already"):
        found = run("train", unlabelled, "adopt.steps=1")
        assert (found.status, found.out) == (0, f"{bundle}\n{adopted}\n"), found.err
        assert said in found.err
    assert [record.language for record in load_bundle(adopted).adopted] == ["de"]
    fake_train(result(bundle=bundle, stopped=True))
    assert run("train", unlabelled).out == "", "a stopped run adopts nothing yet"


def test_texts_that_cannot_be_adopted_are_refused_before_the_training(fake_train: Any, tmp_path: Path) -> None:
    called = fake_train(result())
    found = run("train", "data.unlabelled={de: nowhere.txt}")
    assert (found.status, "nowhere.txt" in found.err) == (2, True)
    found = run("train", f"data.unlabelled={{de: {write_text(tmp_path)}}}", "train.storage_path=s3://bucket/runs")
    assert (found.status, "cannot adopt languages" in found.err) == (2, True)
    assert not called


def test_resuming_by_name_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert "train.name=NAME" in run("train", "--auto-resume").err
    assert "--name NAME" in run("tune", "--space", "tune_spaces/smoke.yaml", "--auto-resume").err
    assert "leave out one" in run("train", "--auto-resume", "--resume", "runs/x").err


@pytest.fixture
def json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are JSON in this test; the loggers are as before after it."""
    monkeypatch.setenv("METACROSS_LOGS", "json")
    for name in ("", "ray", "transformers"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", logger.handlers)
        monkeypatch.setattr(logger, "propagate", logger.propagate)


def entries(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"asctime", "levelname", "message", "timestamp_ns"} <= entry.keys() for entry in found)
    return found


@pytest.mark.usefixtures("json_lines")
def test_all_lines_are_json_where_that_is_wanted(fake_train: Callable[[Any], dict[str, Any]]) -> None:
    fake_train(result())
    found = run("train", "train.name=en")
    (output,) = entries(found.out)
    assert output["result"] == "runs/x/bundle" and found.status == 0
    (note,) = entries(found.err)
    assert (note["message"], note["event"]) == ("hello", {"event": "note", "text": "hello"})

    fake_train(RunError("a worker failed"))
    found = run("train", "train.name=en")
    *_, error = entries(found.err)
    assert (found.status, error["levelname"], error["message"]) == (1, "ERROR", "error: a worker failed")

    fake_train(ZeroDivisionError("oh"))
    found = run("train", "train.name=en")
    *_, error = entries(found.err)
    assert found.status == 1 and "ZeroDivisionError: oh" in error["exc_text"]


@pytest.mark.usefixtures("json_lines")
def test_what_libraries_log_and_tables_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    json_logs.set_up()
    logging.getLogger("py.warnings").warning("old")
    logging.getLogger("ray.train").error("lost %s", "a node")
    table = Table(title="the best")
    table.add_column("trial")
    table.add_row("a1")
    print_table(table)
    captured = capsys.readouterr()
    warning, error = entries(captured.err)
    assert warning["levelname"] == "WARNING" and "old" in warning["message"]
    assert (error["logger"], error["message"]) == ("ray.train", "lost a node")
    assert [entry["row"] for entry in entries(captured.out)] == [{"trial": "a1"}]


def test_an_unknown_form_of_logs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METACROSS_LOGS", "xml")
    found = run("train")
    assert found.status == 2 and "METACROSS_LOGS=xml: expected text or json" in found.err


@pytest.mark.cluster
def test_a_run_on_ray_says_json_only(tiny_folder: Path, tmp_path: Path, root: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny_config(tiny_folder, "train.steps=4", "train.plain_steps=0").to_yaml())
    environment = {**os.environ, "METACROSS_LOGS": "json", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "metacross", "train", "--config", "tiny.yaml", f"train.storage_path={tmp_path}"]
    done = subprocess.run(
        [*command, "train.name=en"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert entries(done.stdout)[-1]["result"] == str(tmp_path / "en" / "bundle")
    told = entries(done.stderr)
    assert {"start", "eval"} <= {entry["event"]["event"] for entry in told if "event" in entry}
    assert all(entry["job_id"] and entry["node_id"] for entry in told if "event" in entry)
