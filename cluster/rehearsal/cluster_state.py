"""What Ray's dashboard says of a cluster.

    cluster_state.py nodes                     prints the addresses of the nodes that live, one a line
    cluster_state.py actors RayTrainWorker     prints address and id of each actor of a kind, one a line
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

DASHBOARD = "http://head:8265/api/v0"


def main() -> None:
    """Prints what the arguments ask for."""
    match sys.argv[1:]:
        case ["nodes"]:
            found = list(_alive_nodes().values())
        case ["actors", kind]:
            nodes = _alive_nodes()
            actors = [actor for actor in _asked("actors") if kind in actor["class_name"] and actor["state"] == "ALIVE"]
            # A node that is lost may still be named by an actor of which Ray has not noticed that it is gone.
            found = [f"{nodes[a['node_id']]} {a['actor_id']}" for a in actors if a["node_id"] in nodes]
        case _:
            sys.exit(__doc__)
    print("\n".join(sorted(found)))


def _alive_nodes() -> dict[str, str]:
    """Addresses of nodes, by id."""
    return {node["node_id"]: node["node_ip"] for node in _asked("nodes") if node["state"] == "ALIVE"}


def _asked(what: str) -> list[dict[str, Any]]:
    token = os.environ["RAY_AUTH_TOKEN"]
    request = urllib.request.Request(f"{DASHBOARD}/{what}?limit=1000", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
    return rows


if __name__ == "__main__":
    main()
