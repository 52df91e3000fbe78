"""`python -m serve.run BUNDLE [KEY=VALUE ...]`: the service from its start to Ctrl-C. `metacross serve` runs this."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle

from metacross import json_logs
from metacross.bundle import check_bundle, refuse_learned_keys
from metacross.cli.terminal import reporting, say
from metacross.config import ServeConfig
from metacross.config_loading import FILE_NAME, load_config
from metacross.errors import RunError, UserError, first_line
from metacross.ray_internals import signals_kept
from metacross.ray_session import ray_session
from metacross.retrieval.index_shard import read_shards
from metacross.signals import ENDING_SIGNALS
from metacross.storage.addresses import is_address
from serve.app import build
from serve.examples.database import shown
from serve.http_headers import install
from serve.logs import logging_config
from serve.ray_internals import BY_GRPC, HTTP_CALLBACK, answers_threads, log_directory
from serve.web.auth import refuse_open_door

HANDING_ON_SECONDS = 1.0  # for the last answers, from the replicas that gave them to their clients
TOO_EARLY = "ending before it was ready"
ANSWER_SECONDS = 5.0  # for the replicas to say how the draining went


@reporting()
def run(
    bundle: Annotated[str, typer.Argument()],
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8000,
) -> None:
    """Starts the service, says when it answers, and waits for Ctrl-C or SIGTERM; a second one ends it at once.

    Args:
        bundle: directory or address of what training left.
        overrides: settings over those of ray_config.yaml, each KEY=VALUE.
        host: address to answer on.
        port: port to answer on.

    Raises:
        UserError: the bundle or a setting makes no sense, or the port is taken; nothing was started.
        RunError: Ray Serve could not start the service.
    """
    settings = _check(bundle, overrides or (), host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process; replicas have logs of their own
    for name, value in {**BY_GRPC, HTTP_CALLBACK: f"{install.__module__}:{install.__name__}"}.items():
        os.environ.setdefault(name, value)
    output, ending, ingress = sys.stdout, _Ending(), None
    if ending.noted:  # it came while this program was loaded
        say(TOO_EARLY)
        return
    with ExitStack() as until_ray_has_ended, ExitStack() as while_ray_runs:
        with signals_kept():
            while_ray_runs.enter_context(ray_session())
        until_ray_has_ended.enter_context(_rays_output_in_its_log())
        try:
            ending.interrupts()
            ray_serve.start(http_options={"host": host, "port": port}, logging_config=logging_config())
            say(f"loading {bundle}")
            arguments = {"bundle": bundle, **dict(o.split("=", 1) for o in overrides or ())}
            ingress = _started(arguments)
            kept = f"examples are kept in {_place(settings.examples)}" if settings.examples else "no examples are kept"
            ready = f"ready: {address(host, port)} answers by {bundle}; {kept} (Ctrl-C ends it)"
            print(json_logs.line(ready) if json_logs.wanted() else ready, file=output, flush=True)
            signal.pause()
        except KeyboardInterrupt:
            say("ending: requests under way are answered first" if ingress else TOO_EARLY)
        if ingress:
            _drain(ingress, settings.drain_s)
        ray_serve.shutdown()  # type: ignore[no-untyped-call]


class _Ending:
    """SIGINT and SIGTERM: while Ray starts one is only noted, since half of a Ray cannot be ended; later it interrupts.

    A second one interrupts in any case.

    Attributes:
        noted: whether one came while it was only noted.
    """

    def __init__(self) -> None:
        self.noted, self._only_noted = False, True
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: shells start background jobs with that ignored
            signal.signal(number, self._came)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)

    def interrupts(self) -> None:
        """From now on a signal raises KeyboardInterrupt; so does this call if one has come."""
        self._only_noted = False
        if self.noted:
            raise KeyboardInterrupt

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._only_noted and not self.noted:
            self.noted = True
        else:
            raise KeyboardInterrupt


def _started(arguments: dict[str, str]) -> DeploymentHandle[Any]:
    """The service's Ingress, once all of it answers. RunError where it does not start."""
    try:
        ingress = ray_serve.run(build(arguments))
    except RuntimeError as error:
        raise RunError(f"the service did not start: {first_line(error)}") from error
    answers_threads(ingress)
    return ingress


@contextmanager
def _rays_output_in_its_log() -> Iterator[None]:
    """What Ray prints for its processes, and what Serve logs in this one, goes to a file among Ray's logs."""
    logger = logging.getLogger("ray.serve")
    with (log_directory() / "metacross-serve.out").open("a", buffering=1) as log, redirect_stdout(log):
        handlers, logger.handlers = logger.handlers, [logging.StreamHandler(log)]
        try:
            yield
        finally:
            logger.handlers = handlers


def _drain(ingress: DeploymentHandle[Any], seconds: float) -> None:
    """Takes no new requests, and waits for the answers under way, so many seconds at most.

    Serve's own end would not do: it ends the processes that take requests first.
    """
    try:
        left = sum(ingress.broadcast("drain").results(timeout_s=seconds + ANSWER_SECONDS))
    except (RayError, TimeoutError) as error:
        say(f"not all requests under way may have been answered: {first_line(error)}")
    else:
        if left:
            say(f"requests that were not answered within serve.drain_s={seconds:g}: {left}")
        time.sleep(HANDING_ON_SECONDS)


def _place(examples: str) -> str:
    """Where examples are kept, as it may be shown."""
    return shown(examples) if is_address(examples) else str(Path(examples).absolute())


def _check(bundle: str, overrides: Sequence[str], host: str, port: int) -> ServeConfig:
    """The settings. UserError for what a replica would refuse again and again, with the reason in a log alone."""
    settings = load_config(None, overrides).serve
    refuse_open_door(settings.auth, host)
    if settings.index_shards:
        read_shards(Path(settings.index_shards))
    if not is_address(bundle):
        check_bundle(Path(bundle))
        trained = load_config([Path(bundle) / FILE_NAME], alone=True)
        refuse_learned_keys(trained, load_config([Path(bundle) / FILE_NAME], overrides, alone=True))
    _refuse_taken_port(host, port)
    return settings


def address(host: str, port: int) -> str:
    """The URL under which a browser of this machine reaches the service.

    >>> address("0.0.0.0", 8000), address("::1", 80)
    ('http://localhost:8000', 'http://[::1]:80')
    """
    if host in ("0.0.0.0", "127.0.0.1", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_taken_port(host: str, port: int) -> None:
    """Raises UserError where the service could not listen; Ray would only say so in a log."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}). Choose another port.") from None


if __name__ == "__main__":
    typer.run(run)
