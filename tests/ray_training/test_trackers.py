"""Figures outside of progress.jsonl: complete, not doubled by a resumed run, and never in a training's way."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metacross.config import Config, dotted
from metacross.errors import UserError
from metacross.events import Event, Measurement, Note, Preparation, Start, StepsDone
from metacross.ray_training import mlflow_tracker
from metacross.ray_training.tensorboard_tracker import TensorBoard
from metacross.ray_training.trackers import Trackers, tracked
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.tiny_bundle import tiny_config, write_inputs


def start(step: int) -> Start:
    return Start(step=step, steps=10, workers=1)


def step(number: int, *, loss: float = 0.5) -> StepsDone:
    return StepsDone(
        step=number,
        steps=10,
        loss=loss,
        learning_rate=1e-4,
        pieces_per_second=1234.5,
        steps_per_second=2.0,
        seconds_left=3.5,
    )


def notes(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("trackers"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an MLflow database."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def train(config: Config, run_dir: Path, events: list[Event], dies: Callable[[int], bool] = lambda step: False) -> None:
    """Trains without Ray, as a worker does; `dies` at a step, as a process that is killed."""
    with tracked(config, run_dir, events.append) as report:
        learner = Learner.from_config(config, device=torch.device("cpu"), report=report)

        def should_stop() -> bool:
            if dies(learner.progress.step):
                raise KeyboardInterrupt
            return False

        run(learner, run_dir, should_stop=should_stop)


def in_tensorboard(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: name -> (step, value), in its order."""
    found = EventAccumulator(str(run_dir / "tensorboard"))
    found.Reload()
    return {name: [(p.step, p.value) for p in found.Scalars(name)] for name in found.Tags()["scalars"]}


def in_mlflow(database: str, run_dir: Path) -> tuple[Run, dict[str, list[tuple[int, float]]]]:
    """The one MLflow run of a training and its points, in their order."""
    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("metacross")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run_dir.name}'")
    names = found.data.metrics
    return found, {
        name: sorted((p.step, p.value) for p in client.get_metric_history(found.info.run_id, name)) for name in names
    }


def test_a_run_that_died_and_went_on_is_tracked_as_if_it_had_not(place: Path, tmp_path: Path, database: str) -> None:
    run_dir = tmp_path / "died"
    run_dir.mkdir()
    settings = ("train.steps=10", "train.eval_every=2", "train.checkpoint_every=3", f"train.mlflow_uri={database}")
    config = tiny_config(place, *settings)
    events: list[Event] = []
    with pytest.raises(KeyboardInterrupt):
        train(config, run_dir, events, dies=lambda step: step == 8)
    assert in_mlflow(database, run_dir)[0].info.status == "FAILED"
    assert [step for step, _ in in_tensorboard(run_dir)["dev_f1/plain"]] == [2, 4, 6, 8]  # 7 and 8 are in no checkpoint

    again: list[Event] = []
    train(config, run_dir, again)
    assert [e.step for e in events + again if isinstance(e, Start)] == [0, 6]
    assert [e.step for e in again if isinstance(e, Measurement)] == [8, 10]  # 8 for the second time
    history = {e.step: e for e in events + again if isinstance(e, Measurement)}
    last = next(e for e in again if isinstance(e, StepsDone) and e.step == 10)
    entry, mlflow_points = in_mlflow(database, run_dir)
    for points in (in_tensorboard(run_dir), mlflow_points):
        for how in ("plain", "adapted"):
            expected = [(step, pytest.approx(getattr(history[step], how))) for step in (2, 4, 6, 8, 10)]
            assert points[f"dev_f1/{how}"] == expected
        assert points["train/loss"][-1] == (10, pytest.approx(last.loss))
        assert points["train/learning_rate"][-1] == (10, pytest.approx(last.learning_rate))
        assert points["speed/pieces_per_second"][-1] == (10, pytest.approx(last.pieces_per_second))
        assert points["speed/steps_per_second"][-1] == (10, pytest.approx(last.steps_per_second))
        assert points["speed/seconds_left"][-1] == (10, 0.0)
    assert entry.info.status == "FINISHED"
    assert entry.data.params == {name: str(value) for name, value in dotted(config).items()}
    assert not [note for note in notes(events + again) if "duplicate sentences" not in note]  # the corpus has some


def test_tensorboard_has_points_before_the_run_ends(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for event in (start(0), step(3, loss=0.25), step(5, loss=0.125)):
        board(event)
    assert in_tensorboard(tmp_path)["train/loss"] == [(3, 0.25), (5, 0.125)]


def test_a_tracker_that_fails_is_told_once_and_tried_again(tmp_path: Path) -> None:
    events: list[Event] = []
    trackers = Trackers(events.append, [TensorBoard(tmp_path)])
    (tmp_path / "tensorboard").touch()  # no directory can be there
    for event in (start(0), step(1), step(2)):
        trackers(event)
    (tmp_path / "tensorboard").unlink()
    trackers(step(3))
    trackers.close("FINISHED")
    assert [type(event) for event in events] == [Start, StepsDone, Note, StepsDone, StepsDone]
    (note,) = notes(events)
    assert "TensorBoard: " in note
    assert "File exists" in note
    assert in_tensorboard(tmp_path)["train/loss"] == [(3, 0.5)]


def test_tensorboard_goes_on_in_another_file_after_half_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    trackers = Trackers(events.append, [board := TensorBoard(tmp_path)])
    trackers(start(0))
    trackers(step(1))
    writer: Any = board._writer

    def half(record: Any) -> None:
        writer._py_recordio_writer._writer.write(b"half a record")
        writer.flush()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_event", half)
    trackers(step(2))
    trackers(step(3))
    trackers.close("FINISHED")
    assert notes(events) == ["TensorBoard: [Errno 28] No space left on device (the training goes on)"]
    assert [number for number, _ in in_tensorboard(tmp_path)["train/loss"]] == [1, 3]


def test_mlflow_that_is_away_for_a_while_gets_everything(
    place: Path, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_tracker, "RETRY_SECONDS", 0.01)
    run_dir = tmp_path / "away"
    run_dir.mkdir()
    client = MlflowClient(tracking_uri=database)
    events: list[Event] = []
    with tracked(tiny_config(place, f"train.mlflow_uri={database}"), run_dir, events.append) as report:
        report(start(0))
        report(step(1))
        wait_for(lambda: (run_dir / "mlflow.json").exists())
        run_id = json.loads((run_dir / "mlflow.json").read_text())["run_id"]
        wait_for(lambda: bool(client.get_run(run_id).data.metrics))
        client.delete_run(run_id)  # from now on it takes nothing
        report(step(2))
        wait_for(lambda: report(Preparation("poke", 0, 1)) or bool(notes(events)))
        client.restore_run(run_id)
        report(step(10))
    (note,) = notes(events)
    assert note.startswith("MLflow: ")
    entry, points = in_mlflow(database, run_dir)
    assert points["train/loss"] == [(1, 0.5), (2, 0.5), (10, 0.5)]
    assert entry.info.status == "FINISHED"


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_mlflow_does_not_hold_up_a_training(
    place: Path, tmp_path: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setattr(mlflow_tracker, "CLOSE_SECONDS", 0.1)
    (tmp_path / "mlflow.json").write_text(json.dumps({"uri": silent_server, "run_id": "1"}))
    events: list[Event] = []
    with tracked(tiny_config(place, f"train.mlflow_uri={silent_server}"), tmp_path, events.append) as report:
        began = time.monotonic()
        report(start(3))
        report(step(4))
        assert time.monotonic() - began < 4
    assert events[-1] == Note(
        f"MLflow: no answer from {silent_server}; the last figures are missing there (the training goes on)"
    )


def test_a_new_run_wants_an_mlflow_that_is_there(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    config = tiny_config(place, f"train.mlflow_uri={nobody}")
    with (
        pytest.raises(UserError, match=rf"^train\.mlflow_uri={nobody}: MLflow cannot be used .* leave .* empty\.$"),
        tracked(config, tmp_path, lambda event: None),
    ):
        pass


def test_mlflow_that_is_not_installed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    config = tiny_config(place, "train.mlflow_uri=http://localhost:5000")
    with (
        pytest.raises(UserError, match=r'pip install -e "\.\[mlflow\]"'),
        tracked(config, tmp_path, lambda event: None),
    ):
        pass
    with tracked(tiny_config(place), tmp_path, lambda event: None):  # nobody asks for it
        pass


def test_what_stops_a_run_before_its_first_step_passes_through(place: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), tracked(tiny_config(place), tmp_path, stop) as report:
        report(Preparation("encoding", done=0, total=1))
