"""What `metacross doctor` found: each thing that was looked at is ok, a warning or a failure, with its fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

Level = Literal["ok", "warning", "failure"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it was, such as "versions".
        level: ok; warning: works, but not well or not for ever; failure: something of metacross will not work.
        seen: what was seen there.
        fix: what to do; "" where nothing has to be done.
        nodes: names of the nodes where it was seen; none where it is not about single nodes.
    """

    subject: str
    level: Level
    seen: str
    fix: str = ""
    nodes: tuple[str, ...] = ()


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """The same finding at several nodes as one, at the place of the first.

    >>> both = merged([Finding("clock", "ok", "right", nodes=("a",)), Finding("clock", "ok", "right", nodes=("b",))])
    >>> [finding.nodes for finding in both]
    [('a', 'b')]
    """
    nodes: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        anywhere = dataclasses.replace(finding, nodes=())
        nodes[anywhere] = nodes.get(anywhere, ()) + finding.nodes
    return [dataclasses.replace(finding, nodes=names) for finding, names in nodes.items()]
