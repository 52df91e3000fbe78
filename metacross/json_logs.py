"""What a command says as JSON, one object a line, for those who collect logs: METACROSS_LOGS=json.

The keys are those of Ray's own JSON logs (`ray.LoggingConfig(encoding="JSON")`, by which workers write theirs), so that
both can be read alike: asctime, levelname, message, and what is known of the process, such as its job_id.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

from metacross.errors import UserError

VARIABLE = "METACROSS_LOGS"
known: dict[str, str] = {}  # stands in every line of this process: see `know`


def wanted() -> bool:
    """Whether lines are to be JSON."""
    return os.environ.get(VARIABLE) == "json"


def set_up() -> None:
    """Where lines are to be JSON, lets all that is logged in this process, by Ray too, be such lines on standard error.

    Raises:
        UserError: the variable has another value than text or json.
    """
    form = os.environ.get(VARIABLE) or "text"
    if form not in ("text", "json"):
        raise UserError(f"{VARIABLE}={form}: expected text or json")
    if form == "text":
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.captureWarnings(True)
    for name in ("", "ray", "transformers"):  # the last two have handlers of their own
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False


def know(**fields: str) -> None:
    """From now on every line of this process has these fields; empty ones are left out."""
    known.update({name: value for name, value in fields.items() if value})


def line(message: str, *, level: str = "INFO", **fields: Any) -> str:
    r"""A line of the log, without its newline.

    >>> known.clear()
    >>> entry = json.loads(line("step 5 of 10", event={"step": 5}))
    >>> entry["levelname"], entry["message"], entry["event"]
    ('INFO', 'step 5 of 10', {'step': 5})
    """
    now = time.time_ns()
    seconds, milliseconds = now // 10**9, now // 10**6 % 1000
    asctime = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))},{milliseconds:03}"
    entry = {"asctime": asctime, "levelname": level, "message": message, "process": os.getpid()}
    return json.dumps({**entry, **known, **fields, "timestamp_ns": now}, ensure_ascii=False, default=str)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"exc_text": self.formatException(record.exc_info)} if record.exc_info else {}
        return line(record.getMessage(), level=record.levelname, logger=record.name, **fields)
