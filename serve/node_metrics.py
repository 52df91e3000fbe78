"""What GET /metrics answers: the service's figures of all replicas on all nodes, as Prometheus reads them.

Every replica reports its figures to its node, some seconds late; there Ray exports them on a port that is often closed
to others, together with Ray's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx

from metacross.errors import RunError

PREFIX = "ray_metacross_"  # Ray puts ray_ before every name
SECONDS = 5.0  # for the answer of a node


async def read_metrics(addresses: Iterable[str]) -> str:
    """The service's metrics.

    Args:
        addresses: where the nodes export theirs, HOST:PORT.

    Raises:
        RunError: a node does not answer. Without its figures, sums would seem to fall.
    """
    async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as http:
        try:
            answers = await asyncio.gather(*(http.get(f"http://{address}/metrics") for address in addresses))
        except httpx.HTTPError as error:
            raise RunError(f"a node's metrics cannot be read: {error!r}") from error
    return joined(answer.text for answer in answers)


def joined(texts: Iterable[str]) -> str:
    """The service's part of several texts in Prometheus' format, each metric with all of its samples in one place."""
    comments: dict[str, dict[str, str]] = {}  # metric -> kind of comment -> line
    samples: dict[str, list[str]] = {}
    for text in texts:
        metric = ""  # that the samples belong to
        for line in text.splitlines():
            if line.startswith("# "):
                _, kind, metric, *_ = line.split(" ", 3)
                comments.setdefault(metric, {}).setdefault(kind, line)
            elif line:
                samples.setdefault(metric, []).append(line)
    ours = [metric for metric in samples if metric.startswith(PREFIX)]
    lines = [line for metric in ours for line in (*comments[metric].values(), *samples[metric])]
    return "".join(f"{line}\n" for line in lines)
