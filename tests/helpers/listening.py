"""Where processes listen, as Linux tells it."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from benchmarks.serving_memory import family
from tests.helpers.machines import command

LISTENING = "0A"  # a socket's state in /proc/net/tcp


def listeners(root: int) -> dict[str, set[str]]:
    """The addresses that a process's family listens on, each with the names of the processes."""
    sockets = _listening_sockets()
    found: dict[str, set[str]] = {}
    for pid in family(root):
        name = command(pid).replace(b"\0", b" ").decode(errors="replace").strip()
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):  # closed in the meantime
                socket = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
                if socket and socket[1] in sockets:
                    found.setdefault(sockets[socket[1]], set()).add(name[:200])
    return found


def beyond_loopback(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Those of `listeners` that other machines reach."""
    return {address: names for address, names in found.items() if not _is_loopback(address)}


def _is_loopback(address: str) -> bool:
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def _listening_sockets() -> dict[str, str]:
    """Inode -> address of the sockets that listen: TCP, and UDP sockets that have a port."""
    found = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING or table.startswith("udp"):
                words = bytes.fromhex(fields[1].partition(":")[0])
                # Each group of four bytes stands there in the machine's order.
                ordered = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                found[fields[9]] = str(ip_address(ordered))
    return found
