"""Whether all nodes reach one storage: each writes a file, another reads it, and it is removed again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from metacross.doctor import probe
from metacross.doctor.checks import check_free
from metacross.doctor.findings import Finding
from metacross.doctor.nodes import Node, Silence, gathered
from metacross.errors import UserError
from metacross.ray_session import refuse_unpacked
from metacross.storage.addresses import is_address, refuse_key

FIX = "All nodes need the same directory, mounted and writable, or an address and the rights to write there."


def check_storage(nodes: Sequence[Node], storage_path: str, *, seconds: float) -> Iterator[Finding]:
    """Findings about the place of runs, and of the bundles in them.

    Args:
        nodes: which all have to reach it.
        storage_path: train.storage_path, a directory or an address.
        seconds: for each of the three steps.
    """
    try:
        refuse_unpacked(storage_path)
        refuse_key(storage_path)
    except UserError as error:
        yield Finding("storage", "failure", str(error), "Choose another train.storage_path.")
        return
    place = storage_path if is_address(storage_path) else str(Path(storage_path).expanduser().absolute())
    names = [f"{probe.MARK}-{uuid.uuid4().hex[:12]}" for _ in nodes]
    written = gathered([node.ask(probe.write, place, name) for node, name in zip(nodes, names, strict=True)], seconds)
    wrote = [number for number, told in enumerate(written) if not isinstance(told, Silence)]
    for number, told in enumerate(written):
        if isinstance(told, Silence):
            yield Finding("storage", "failure", f"{place} cannot be written: {told.why}", FIX, (nodes[number].name,))
    # Each node reads what the one before it wrote.
    pairs = [(wrote[i], wrote[i - 1]) for i in range(len(wrote))]
    told_by_readers = gathered([nodes[reader].ask(probe.read, place, names[by]) for reader, by in pairs], seconds)
    for (reader, writer), complete in zip(pairs, told_by_readers, strict=True):
        if complete is not True:
            why = complete.why if isinstance(complete, Silence) else "other content"
            seen = f"{place}: what {nodes[writer].name} wrote cannot be read ({why})"
            yield Finding("storage", "failure", seen, FIX, (nodes[reader].name,))
        else:
            yield Finding("storage", "ok", f"{place} is written and read", nodes=(nodes[reader].name,))
    yield from check_free({nodes[number].name: written[number]["free"] for number in wrote})
    made: list[str] = max((written[number]["made"] for number in wrote), key=len, default=[])
    removed = gathered([nodes[number].ask(probe.remove, place, names[number], made) for number in wrote], seconds)
    for number, told in zip(wrote, removed, strict=True):
        if isinstance(told, Silence):
            seen = f"{place}/{names[number]} cannot be removed: {told.why}"
            fix = "Give the right to delete, too: old checkpoints are removed. Then remove this file."
            yield Finding("storage", "failure", seen, fix, (nodes[number].name,))
