"""Clients of the service that ask all the time without trying again, and what they were told.

    load.py ask FILE HOST...          until it is ended; writes a line for each request
    load.py count FILE SINCE HOST     prints answers, failures, the longest time without an answer, and what failed

SINCE is in Unix time: requests count that ended later. Clients keep their connections, as proxies do.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx

CLIENTS = 2  # for each host
PAUSE_SECONDS = 0.1  # between an answer and the client's next request
TIMEOUT_SECONDS = 35.0  # longer than serve.timeout_s
BODY = {"text": "La ministra Elena Robles viajó de Bogotá a Ginebra para reunirse con la Cruz Roja."}


class Asked(NamedTuple):
    """A request: when it ended (Unix time), of which host, and the HTTP status or the name of an error."""

    ended: float
    host: str
    told: str


def main() -> None:
    """Does what the arguments say."""
    match sys.argv[1:]:
        case ["ask", file, *hosts]:
            ask(Path(file), hosts)
        case ["count", file, since, host]:
            print(count([asked for asked in read(Path(file)) if asked.host == host], float(since)))
        case _:
            sys.exit(__doc__)


def ask(file: Path, hosts: list[str]) -> None:
    """Asks all hosts, for ever."""
    with file.open("w", buffering=1, encoding="utf-8") as lines:
        for host in hosts * CLIENTS:
            threading.Thread(target=_ask_host, args=(host, lines.write), daemon=True).start()
        threading.Event().wait()


def _ask_host(host: str, write: Callable[[str], object]) -> None:
    headers = {"authorization": f"Bearer {os.environ['SERVICE_TOKEN']}"}
    with httpx.Client(
        base_url=f"http://{host}:8000", headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
    ) as http:
        while True:
            try:
                told = str(http.post("/v1/entities", json=BODY).status_code)
            except httpx.TransportError as error:
                told = type(error).__name__
            write(f"{time.time():.3f} {host} {told}\n")
            time.sleep(PAUSE_SECONDS)


def read(file: Path) -> list[Asked]:
    """All requests, in the order in which they ended."""
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(Asked(float(ended), host, told) for ended, host, told in rows)


def count(asked: list[Asked], since: float) -> str:
    """What one host told since a time."""
    told = Counter(row.told for row in asked if row.ended >= since)
    answers = [since, *(row.ended for row in asked if row.told == "200" and row.ended >= since), time.time()]
    stall = max(later - earlier for earlier, later in pairwise(answers))
    failures = {kind: number for kind, number in told.items() if kind != "200"}
    kinds = ",".join(f"{kind}:{number}" for kind, number in sorted(failures.items())) or "-"
    return f"{told['200']} {sum(failures.values())} {stall:.1f} {kinds}"


if __name__ == "__main__":
    main()
