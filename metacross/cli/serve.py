"""`metacross serve`: hands this process over to the service.

The service imports metacross, so metacross does not import the service: `serve.run` is another program, which takes
this process's place. Ctrl-C and the exit status are then its own.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from metacross.cli.options import BundleArgument, Overrides
from metacross.cli.terminal import reporting
from metacross.signals import ENDING_SIGNALS


@reporting()
def serve(
    bundle: BundleArgument,
    overrides: Overrides = None,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to answer on; others than this machine's own need tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Port to answer on.")] = 8000,
) -> None:
    """Answer over HTTP on Ray Serve, with a page to try it; prints the address when it is ready. Ctrl-C ends it.

    Uses the Ray cluster at RAY_ADDRESS if that is set; otherwise starts Ray on this machine for as long as it runs.

    \b
    metacross serve runs/en/bundle
    metacross serve runs/en/bundle --port 8080 serve.replicas=2 serve.examples=/var/lib/metacross/examples.db
    """  # noqa: D301  # \b keeps the lines apart
    sys.stdout.flush()
    arguments = [bundle, *(overrides or ()), "--host", host, "--port", str(port)]
    # They wait until the service, which takes some seconds to be imported, can end in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    os.execv(sys.executable, [sys.executable, "-m", "serve.run", *arguments])
