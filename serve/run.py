"""`python -m serve.run BUNDLE [KEY=VALUE ...]`: the service from its start to Ctrl-C. `metacross serve` runs this."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle

from metacross.bundle import check_bundle, refuse_learned_keys
from metacross.cli.terminal import reporting, say
from metacross.config import FILE_NAME, ServeConfig, load_config
from metacross.errors import RunError, UserError, first_line
from metacross.ray_session import ray_session
from metacross.storage.addresses import is_address
from serve.app import build
from serve.examples.database import shown
from serve.ray_internals import log_directory
from serve.web.auth import refuse_open_door

HANDING_ON_SECONDS = 1.0  # for the last answers, from the replicas that gave them to their clients
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
    output = sys.stdout
    with ExitStack() as until_ray_has_ended, ray_session():
        until_ray_has_ended.enter_context(_rays_output_in_its_log())
        # Now and not before: Ray takes SIGTERM for itself when it starts. SIGINT too, because a shell starts background
        # jobs with that ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        ray_serve.start(http_options={"host": host, "port": port})
        say(f"loading {bundle}")
        try:
            ingress = ray_serve.run(build({"bundle": bundle, **dict(o.split("=", 1) for o in overrides or ())}))
        except RuntimeError as error:
            raise RunError(f"the service did not start: {first_line(error)}") from error
        try:
            kept = f"examples are kept in {_place(settings.examples)}" if settings.examples else "no examples are kept"
            ready = f"ready: {address(host, port)} answers by {bundle}; {kept} (Ctrl-C ends it)"
            print(ready, file=output, flush=True)
            signal.pause()
        except KeyboardInterrupt:
            say("ending: requests under way are answered first")
        _drain(ingress, settings.drain_s)
        ray_serve.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def _rays_output_in_its_log() -> Iterator[None]:
    """What Ray prints for its processes, to this one's standard output, goes to a file among its logs."""
    with (log_directory() / "metacross-serve.out").open("a", buffering=1) as log, redirect_stdout(log):
        yield


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


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(run)
