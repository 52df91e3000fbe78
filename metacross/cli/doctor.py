"""`metacross doctor`."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import ConfigFiles, Overrides
from metacross.cli.terminal import print_table, reporting, say

if TYPE_CHECKING:
    from rich.table import Table

    from metacross.doctor.examination import Examination, NodeSummary

WIDTH = 116
# HAProxy's: its statistics and its metrics (docs/access.md, "What listens where").
HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": 8404, "RAY_SERVE_HAPROXY_METRICS_PORT": 9101}


@reporting()
def doctor(
    overrides: Overrides = None,
    config: ConfigFiles = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Port that the service will answer on.")
    ] = 8000,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long a node may take for an answer.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write what was found as JSON.")] = False,
) -> None:
    """Look at all nodes of the cluster at RAY_ADDRESS, or at this machine without it, and say what would go wrong.

    Of all settings only train.storage_path matters: every node writes a small file there, another reads it, and it is
    removed. Exit status 1 if there is a failure; warnings leave it at 0.

    \b
    metacross doctor
    metacross doctor train.storage_path=s3://bucket/runs --json
    RAY_ADDRESS=auto metacross doctor train.storage_path=/srv/metacross/runs
    ray job submit --working-dir . -- metacross doctor train.storage_path=/srv/metacross/runs
    """  # noqa: D301  # \b keeps the lines apart
    from metacross.config_loading import load_config
    from metacross.doctor.examination import examine

    settings = load_config(config, overrides or ())
    found = examine(settings.train.storage_path, ports=_ports(port), seconds=timeout, show=say)
    if as_json:
        print(json.dumps({"healthy": found.healthy, **dataclasses.asdict(found)}, ensure_ascii=False, indent=1))
    else:
        _print(found)
    if not found.healthy:
        raise typer.Exit(1)


def _ports(port: int) -> list[int]:
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY", "0") != "1":
        return [port]
    return [port, *(int(os.environ.get(name, default)) for name, default in HAPROXY_PORTS.items())]


def _print(found: Examination) -> None:
    if found.nodes:
        print_table(_table(found.nodes))
    for finding in found.findings:
        where = f"{', '.join(finding.nodes)}: " if 0 < len(finding.nodes) < len(found.nodes) else ""
        first = f"{finding.level:8} {finding.subject}: "
        for text, start in ((where + finding.seen, first), (finding.fix, " " * 9)):
            if text:
                print(textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * 9))


def _table(nodes: Sequence[NodeSummary]) -> Table:
    from rich import box
    from rich.table import Table

    from metacross.doctor.checks import in_units

    table = Table(box=box.SIMPLE)
    table.add_column("node")
    for name in ("CPUs", "memory", "object store", "free disk", "GPUs: Ray", "torch", "FAISS"):
        table.add_column(name, justify="right", no_wrap=True)
    for node in nodes:
        table.add_row(
            node.name,
            f"{node.cpus:g}",
            in_units(node.memory),
            "" if node.object_store is None else in_units(node.object_store),
            in_units(node.disk_free),
            "" if node.gpus_ray is None else f"{node.gpus_ray:g}",
            str(node.gpus_torch),
            str(node.gpus_faiss),
        )
    return table
