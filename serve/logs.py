"""The project's log lines in Serve's own files."""

from __future__ import annotations

import logging


class _ToServe(logging.Handler):
    """Hands records on to Serve's logger, which writes one file per replica; those of other loggers are lost there."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("ray.serve").handle(record)


def log_with_serve() -> None:
    """Sends what the loggers `metacross.*` say in this process, from INFO on, to Serve's logger alone."""
    logger = logging.getLogger("metacross")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [_ToServe()], False
