"""Whether a live cluster exports the metrics that the alerts and the dashboard name, with their labels.

    metrics.py watch FILE HOST...    until it is ended; reads the nodes' metrics, and FILE gets what was seen
    metrics.py service FILE HOST     reads the service's metrics once, and FILE gets what is there
    metrics.py missing FILE RULES... prints what the files RULES name and FILE lacks, one a line

In FILE and in what is printed, a line is a metric, or a metric with one of its labels: `name{label}`.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import httpx

NODE_PORT = 8080
PAUSE_SECONDS = 2.0
# What a rehearsal cannot have, and why.
NOT_HERE = {"ray_node_gpus_utilization": "Ray exports it of nodes with a GPU"}


def main() -> None:
    """Does what the arguments say."""
    match sys.argv[1:]:
        case ["watch", file, *hosts]:
            watch(Path(file), hosts)
        case ["service", file, host]:
            answer = httpx.get(f"http://{host}:8000/metrics", headers=_token(), timeout=20, trust_env=False)
            write(Path(file), exported(answer.raise_for_status().text))
        case ["missing", file, *rules]:
            seen = set(Path(file).read_text(encoding="utf-8").split())
            print("\n".join(sorted(named(rules) - seen - NOT_HERE.keys())), end="")
        case _:
            sys.exit(__doc__)


def watch(file: Path, hosts: list[str]) -> None:
    """Collects names for ever: some are exported only while a training or a service is there."""
    seen: set[str] = set()
    with httpx.Client(timeout=5, trust_env=False) as http:
        while True:
            for host in hosts:
                try:
                    seen |= exported(http.get(f"http://{host}:{NODE_PORT}/metrics").text)
                except httpx.TransportError:
                    continue  # this node is gone just now
            write(file, seen)
            time.sleep(PAUSE_SECONDS)


def exported(text: str) -> set[str]:
    """What a text in Prometheus' format has: `name` of every sample, and `name{label}` for each of its labels."""
    found = set()
    for name, labels in re.findall(r"^([a-zA-Z_:]\w*)(?:\{(.*)\})? ", text, re.MULTILINE):
        found |= {name, *(f"{name}{{{label}}}" for label in re.findall(r'(\w+)="', labels))}
    return found


def named(rules: list[str]) -> set[str]:
    """What the files' expressions need, written in the same way."""
    found = set()
    for file in rules:
        text = Path(file).read_text(encoding="utf-8").replace('\\"', '"')  # JSON escapes the quotes of expressions
        for name, labels in re.findall(r"\b(ray_\w+)(?:\{([^}]*)\})?", text):
            found |= {name, *(f"{name}{{{label}}}" for label in re.findall(r'(\w+)=~?"', labels))}
    return {need for need in found if "ray_io_cluster" not in need}  # a label that Prometheus' operator adds


def write(file: Path, names: set[str]) -> None:
    """Writes the names at once, so that a reader never sees a part of them."""
    part = file.with_suffix(".part")
    part.write_text("\n".join(sorted(names)) + "\n", encoding="utf-8")
    part.replace(file)


def _token() -> dict[str, str]:
    return {"authorization": f"Bearer {os.environ['SERVICE_TOKEN']}"}


if __name__ == "__main__":
    main()
