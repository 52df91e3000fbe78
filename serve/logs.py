"""The project's log lines in Serve's own files."""

from __future__ import annotations

import logging

from metacross import json_logs


class _ToServe(logging.Handler):
    """Hands records on to Serve's logger, which writes one file per replica; those of other loggers are lost there."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("ray.serve").handle(record)


def log_with_serve() -> None:
    """Sends what the loggers `metacross.*` say in this process, from INFO on, to Serve's logger alone."""
    logger = logging.getLogger("metacross")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [_ToServe()], False


def logging_config() -> dict[str, str] | None:
    """Serve's option for logs, of the service and of its deployments: JSON where METACROSS_LOGS says so."""
    return {"encoding": "JSON"} if json_logs.wanted() else None
