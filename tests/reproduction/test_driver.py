"""A comparison from the command line on a real Ray: interrupted, changed, with a failing cell and a killed worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metacross.bundle import load_bundle
from metacross.config import Config
from metacross.errors import UserError
from metacross.reproduction.driver import check_corpora, comparison_directory, reproduce, room, saved_suite
from metacross.reproduction.suite import Shots, Suite
from tests.helpers.tiny_bundle import tiny_config, write_inputs

SUITE = """
name: small
source: {language: en, train: train.conll, dev: dev.conll}
targets: {es: {test: dev.conll, text: dev.conll}}
seeds: [1]
baseline: base
main: metacross
methods:
  base: {training: {train.method: base}, tagging: plain}
  metacross: {tagging: adapted}
  random support: {tagging: random_support}
  adopted text: {adoption: {distillation: true, settings: {adopt.steps: 20}}, tagging: adapted}
  too many neighbours: {tagging: adapted, neighbours: 999}
"""


def test_room() -> None:
    def parallel(
        cluster: dict[str, float], wanted: int | None = None, use_gpu: bool | str = "auto"
    ) -> tuple[int, float, float]:
        found = room(use_gpu, cluster, ours=False, parallel=wanted)
        return found.parallel, found.cpus, found.gpus

    assert parallel({"CPU": 8.0}) == (2, 4, 0)
    assert parallel({"CPU": 2.0}) == (1, 2, 0)
    assert parallel({"CPU": 8.0}, 8) == (8, 1, 0)
    assert parallel({"CPU": 8.0, "GPU": 2.0}) == (2, 4, 1)
    assert parallel({"CPU": 8.0, "GPU": 2.0}, 8) == (8, 1, 0.25)
    assert parallel({"CPU": 8.0, "GPU": 2.0}, use_gpu=False) == (2, 4, 0)
    with pytest.raises(UserError, match="Ray sees no GPU"):
        parallel({"CPU": 8.0}, use_gpu=True)
    with pytest.raises(UserError, match=r"--parallel 9: Ray has 8 CPUs"):
        parallel({"CPU": 8.0}, 9)


def test_all_corpora_are_read_before_anything_is_trained(suite: Suite, base: Config, tmp_path: Path) -> None:
    (tmp_path / "dev.conll").write_text("Euro B-OTH\n")
    with pytest.raises(UserError, match=r"dev\.conll.*OTH"):
        reproduce(suite, base, tmp_path / "out", show=lambda event: None)
    assert not (tmp_path / "out").exists()
    (tmp_path / "dev.conll").write_text("Euro O\n")
    with pytest.raises(UserError, match="no entities"):
        check_corpora(suite, base, lambda event: None)


def test_a_file_to_draw_from_is_large_enough(suite: Suite, base: Config) -> None:
    check_corpora(suite, base, lambda event: None)
    greedy = suite.model_copy(update={"shots": Shots(sizes=[1, 99], draws=1, share=0.0)})
    with pytest.raises(UserError, match=r"shots\.sizes has 99, but there are only \d+ sentences with an entity"):
        check_corpora(greedy, base, lambda event: None)


def test_texts_are_read_before_anything_is_trained(suite: Suite, base: Config, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    targets = {**suite.targets, "es": suite.targets["es"].model_copy(update={"text": str(tmp_path / "empty.txt")})}
    with pytest.raises(UserError, match=r"empty\.txt: found no sentence to adopt es from"):
        check_corpora(suite.model_copy(update={"targets": targets}), base, lambda event: None)


def test_where_comparisons_are_written(suite: Suite, base: Config, tiny_folder: Path) -> None:
    assert comparison_directory(suite, base) == tiny_folder / "runs" / "tiny"
    with pytest.raises(UserError, match=r"s3://bucket is an address\. Give a directory that all nodes see: --out DIR"):
        comparison_directory(suite, tiny_config(tiny_folder, "train.storage_path=s3://bucket"))
    with pytest.raises(UserError, match=r"no comparison to go on with \(suite\.yaml is missing\)"):
        saved_suite(tiny_folder)


@contextmanager
def command(place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`metacross reproduce` in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "metacross", "reproduce", *arguments],
        cwd=place,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """Waits while a command runs."""
    ends = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.1)


def writer_of(path: Path) -> int:
    """The process that has a file open for writing."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            flags = int((link.parent.with_name("fdinfo") / link.name).read_text().split("flags:")[1].split()[0], 8)
            if os.readlink(link) == str(path) and flags & os.O_WRONLY:
                return int(link.parts[2])
        except OSError:  # it has ended, or is another user's
            continue
    raise AssertionError(f"nobody writes to {path}")


@pytest.mark.cluster
@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="needs /proc")
def test_a_comparison_is_interrupted_loses_a_worker_and_goes_on(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    (tmp_path / "ray_config.yaml").write_text(
        tiny_config(tmp_path, "train.steps=400", "train.checkpoint_every=5", "train.eval_every=400").to_yaml()
    )
    (tmp_path / "suite.yaml").write_text(SUITE)
    out = tmp_path / "out"
    arguments = ("--suite", "suite.yaml", "--out", "out", "--parallel", "2")

    with command(tmp_path, *arguments) as first:
        wait_until(first, lambda: list(out.glob("cells/train-*/checkpoints/step-*")))
        first.send_signal(signal.SIGINT)
        _, told = first.communicate(timeout=600)
    assert first.returncode == 130, told
    assert "stopping after this step" in told
    assert "metacross reproduce --resume --out" in told
    assert not list(out.glob("cells/*/done.json"))
    assert not (out / "STOP").exists()

    checkpoints = set(out.glob("cells/train-*/checkpoints/step-*"))
    with command(tmp_path, "--resume", "--out", "out", "--parallel", "2") as second:
        wait_until(second, lambda: set(out.glob("cells/train-*/checkpoints/step-*")) - checkpoints)
        newest = (set(out.glob("cells/train-*/checkpoints/step-*")) - checkpoints).pop()
        os.kill(writer_of(newest.parents[1] / "progress.jsonl"), signal.SIGKILL)
        shown, told = second.communicate(timeout=600)
    assert second.returncode == 1, told  # the rest is there all the same
    assert "seed 1 lost its worker" in told and "again, try 1 of 3" in told
    assert "failed: measure too many neighbours, seed 1, es: " in told
    assert "support_size=999 but the index holds 24 sentences" in told
    assert "metacross" in shown
    logs = [path.read_text() for path in out.glob("cells/train-*/progress.jsonl")]
    assert any(json.loads(line)["step"] > 0 for log in logs for line in log.splitlines() if '"start"' in line)
    report = json.loads((out / "report.json").read_text())
    assert set(report["f1"]) == {"base", "metacross", "random support", "adopted text"}
    assert {row["over"] for row in report["gains"] if row["method"] == "adopted text"} == {"base", "its own plain tags"}
    (adopted,) = out.glob("cells/adopt-*")
    assert [record.language for record in load_bundle(adopted / "bundle").adopted] == ["es"]
    assert json.loads((adopted / "progress.jsonl").read_text().splitlines()[-1])["event"] == "note"
    assert report["f1"]["metacross"]["mean"]["by_seed"].keys() == {"1"}
    assert (out / "sentences.html").exists()
    assert len(list(out.glob("cells/*/done.json"))) == 2 + 1 + 4
