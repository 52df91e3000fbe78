"""What Ray's dashboard says of a cluster.

    cluster_state.py nodes                     the addresses of the nodes that live
    cluster_state.py actors RayTrainWorker     address and id of each actor of a kind
    cluster_state.py service                   the status of the service, RUNNING once all replicas run

It is printed, a line for each of them.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

DASHBOARD = "http://head:8265/api"


def main() -> None:
    """Prints what the arguments ask for."""
    match sys.argv[1:]:
        case ["nodes"]:
            found = list(_alive_nodes().values())
        case ["actors", kind]:
            nodes = _alive_nodes()
            actors = [actor for actor in _rows("actors") if kind in actor["class_name"] and actor["state"] == "ALIVE"]
            # A node that is lost may still be named by an actor of which Ray has not noticed that it is gone.
            found = [f"{nodes[a['node_id']]} {a['actor_id']}" for a in actors if a["node_id"] in nodes]
        case ["service"]:
            found = [_asked("serve/applications/")["applications"]["metacross"]["status"]]
        case _:
            sys.exit(__doc__)
    for line in sorted(found):
        print(line)


def _alive_nodes() -> dict[str, str]:
    """Addresses of nodes, by id."""
    return {node["node_id"]: node["node_ip"] for node in _rows("nodes") if node["state"] == "ALIVE"}


def _rows(what: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _asked(f"v0/{what}?limit=1000")["data"]["result"]["result"]
    return rows


def _asked(path: str) -> dict[str, Any]:
    token = os.environ["RAY_AUTH_TOKEN"]
    request = urllib.request.Request(f"{DASHBOARD}/{path}", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    main()
