"""A run's figures in MLflow, sent by a thread so that they never hold up the training."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metacross.config import Config, dotted
from metacross.errors import UserError, first_line
from metacross.events import Event, Measurement, Start, StepsDone, metrics
from metacross.storage.files import write_file

EXPERIMENT = "metacross"  # the MLflow experiment that runs belong to
RETRY_SECONDS = 30.0  # after a failure, before MLflow is tried again
CLOSE_SECONDS = 30.0  # at the end of a run, for what MLflow has not taken yet
BATCH = 1000  # metrics in one request: MLflow's limit


class _Received(NamedTuple):
    """An event that MLflow gets, and when it happened, in milliseconds since 1970.

    `Start` carries no figures; it makes the thread open the MLflow run at once.
    """

    event: Start | StepsDone | Measurement
    milliseconds: int


class MLflow:
    """Sends a run's configuration and figures to an MLflow tracking server or database.

    A thread does the sending, so that a slow or absent server does not hold up the training; what the server does not
    take is kept and sent later. The run's id stands in `run_dir/mlflow.json`: a training that is resumed goes on in the
    same MLflow run. MLflow keeps every point that it is sent, so steps that it has already are left out.

    Args:
        config: the run's configuration.
        run_dir: the run's directory.

    Raises:
        UserError: mlflow is not installed, or a new run does not reach the server.
    """

    def __init__(self, config: Config, run_dir: Path) -> None:
        try:
            import mlflow  # noqa: F401  # only whether it is there
        except ImportError:
            raise UserError(
                f"train.mlflow_uri={config.train.mlflow_uri} but MLflow is not installed where the training runs. "
                'pip install -e ".[mlflow]", or leave train.mlflow_uri empty.'
            ) from None
        # Few and short retries, since what fails is tried again here. Values that the user has set stay.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self._config = config
        self._uri = config.train.mlflow_uri
        self._run_dir = run_dir
        self._client: Any = None
        self._run_id = self._kept_run_id()
        self._logged: dict[str, int] | None = None  # metric -> last step MLflow has; None until the run is open
        self._queue: queue.SimpleQueue[_Received | None] = queue.SimpleQueue()  # None: the run is over
        self._status = ""  # how the run ended; "" until it has
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        if self._run_id is None:
            self._try_server()

    def __call__(self, event: Event) -> None:
        """Takes one event; raises what went wrong since the last."""
        if isinstance(event, Start):
            self._thread = threading.Thread(target=self._deliver, name="mlflow", daemon=True)
            self._thread.start()
        if isinstance(event, Start | StepsDone | Measurement):
            self._queue.put(_Received(event, round(time.time() * 1000)))
        self._raise_error()

    def close(self, status: str) -> None:
        """Sends what is left, for a limited time."""
        if self._thread is None:
            return
        self._status = status
        self._queue.put(None)
        self._ending.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError(f"no answer from {self._uri}; the last figures are missing there")
        self._raise_error()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _deliver(self) -> None:
        """The thread: sends all that has come in since the last time, and keeps what could not be sent."""
        unsent: list[_Received] = []
        ended = False
        while not ended:
            received = self._queue.get()
            ended = received is None
            if received is not None:
                unsent.append(received)
            if not (ended or self._queue.empty()):
                continue
            try:
                self._send(unsent)
                unsent.clear()
                if ended:
                    self._client.set_terminated(self._run_id, self._status)
            except Exception as error:  # raised by the next call
                self._error = error
                self._ending.wait(RETRY_SECONDS)

    def _send(self, received: Sequence[_Received]) -> None:
        from mlflow.entities import Metric

        if self._logged is None:
            self._logged = self._open_run()
        logged = self._logged
        points = [
            Metric(name, value, milliseconds, event.step)
            for event, milliseconds in received
            if not isinstance(event, Start)
            for name, value in metrics(event).items()
            if event.step > logged.get(name, 0)
        ]
        for i in range(0, len(points), BATCH):
            self._client.log_batch(self._run_id, metrics=points[i : i + BATCH])
            logged.update({point.key: point.step for point in points[i : i + BATCH]})

    def _open_run(self) -> dict[str, int]:
        """Makes the MLflow run or finds it again; returns the last step that it has of every metric."""
        from mlflow.entities import Param

        client = self._connected()
        if self._run_id is None:
            self._run_id = client.create_run(self._experiment_id(), run_name=self._run_dir.name).info.run_id
        write_file(self._run_dir / "mlflow.json", json.dumps({"uri": self._uri, "run_id": self._run_id}) + "\n")
        run = client.get_run(self._run_id)
        # A param cannot be changed in MLflow: those of the first start stay.
        missing = [Param(k, str(v)) for k, v in dotted(self._config).items() if k not in run.data.params]
        client.log_batch(self._run_id, params=missing)
        client.update_run(self._run_id, status="RUNNING")
        return {key: max(m.step for m in client.get_metric_history(self._run_id, key)) for key in run.data.metrics}

    def _kept_run_id(self) -> str | None:
        file = self._run_dir / "mlflow.json"
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return str(kept["run_id"]) if kept.get("uri") == self._uri else None

    def _try_server(self) -> None:
        try:
            self._experiment_id()
        except Exception as error:  # of many kinds, from wrong addresses to missing drivers
            raise UserError(
                f"train.mlflow_uri={self._uri}: MLflow cannot be used there ({first_line(error)}). Mend the address, "
                "start the server, or leave train.mlflow_uri empty."
            ) from error

    def _connected(self) -> Any:
        from mlflow import MlflowClient

        if self._client is None:
            self._client = MlflowClient(tracking_uri=self._uri)
        return self._client

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        client = self._connected()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            try:
                return str(client.create_experiment(EXPERIMENT))
            except MlflowException:  # another run may have made it just now
                experiment = client.get_experiment_by_name(EXPERIMENT)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)
