"""Who reaches whom by the network policies of cluster/kuberay: every port that is used, and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.helpers.kubernetes import KUBERAY, Manifest, has_labels, rendered, with_component

NODE = {"ray.io/is-ray-node": "yes"}
# Pods by name: their labels (KubeRay adds ray.io/...), and those of their namespace.
PODS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    f"{part} {kind}": ({**NODE, "metacross.io/part": part, "ray.io/node-type": kind}, {"name": "metacross"})
    for part in ("service", "cluster", "train", "tune")
    for kind in ("head", "worker")
}
for name in ("service head", "service worker"):
    PODS[name][0]["ray.io/serve"] = "true" if name.endswith("worker") else "false"
PODS |= {
    "redis": ({"app.kubernetes.io/name": "metacross-redis"}, {"name": "metacross"}),
    "redis cleanup": ({**PODS["service head"][0], "ray.io/node-type": "redis-cleanup"}, {"name": "metacross"}),
    "postgres": ({"app.kubernetes.io/name": "metacross-postgres"}, {"name": "metacross"}),
    "submitter": ({"metacross.io/part": "submitter"}, {"name": "metacross"}),
    "client here": ({"metacross.io/client": "true"}, {"name": "metacross"}),
    "ingress controller": ({"app": "nginx"}, {"name": "ingress", "metacross.io/client": "true"}),
    "operator": ({"app.kubernetes.io/name": "kuberay-operator"}, {"name": "kuberay"}),
    "prometheus": ({"app.kubernetes.io/name": "prometheus"}, {"name": "monitoring"}),
    "stranger": ({"app": "other"}, {"name": "other"}),
    "stranger here": ({"app": "other"}, {"name": "metacross"}),
}
OUTSIDE = "outside"  # an address beyond the cluster


@cache
def policies() -> tuple[Manifest, ...]:
    overlay = KUBERAY / "overlays" / "cpu-small"
    return tuple(m for m in rendered(overlay) + rendered(overlay / "jobs") if m["kind"] == "NetworkPolicy")


def _meets(peer: dict[str, Any], pod: str) -> bool:
    if pod == OUTSIDE:
        return peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    if "ipBlock" in peer:
        return False
    labels, namespace = PODS[pod]
    if "namespaceSelector" in peer:
        if not has_labels(peer["namespaceSelector"], namespace):
            return False
    elif namespace["name"] != "metacross":
        return False
    return has_labels(peer.get("podSelector", {}), labels)


def _lets(direction: str, pod: str, other: str, port: int, protocol: str) -> bool:
    """Whether the policies let a pod of this namespace have a connection with another, in one direction."""
    if pod == OUTSIDE or PODS[pod][1]["name"] != "metacross":
        return True  # no policies of ours
    for policy in policies():
        spec = policy["spec"]
        if direction.title() not in spec["policyTypes"] or not has_labels(spec["podSelector"], PODS[pod][0]):
            continue
        for rule in spec.get(direction, []):
            peers = rule.get("from" if direction == "ingress" else "to")
            ports = rule.get("ports", [{"port": port, "protocol": protocol}])
            if (peers is None or any(_meets(peer, other) for peer in peers)) and any(
                p["port"] == port and p["protocol"] == protocol for p in ports
            ):
                return True
    return False


def reaches(source: str, target: str, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let out of its source and into its target."""
    out, into = _lets("egress", source, target, port, protocol), _lets("ingress", target, source, port, protocol)
    return out and into


@pytest.mark.parametrize(
    ("source", "target", "ports"),
    [
        ("service worker", "service head", [6379, 8265, 10002]),
        ("service head", "service worker", [52365, 10002, 19999]),
        ("service worker", "service worker", [10002]),  # replicas call each other
        ("train worker", "train worker", [29500, 41234]),  # torch's process group
        ("cluster worker", "cluster head", [6379]),
        ("operator", "service head", [8265, 52365]),
        ("operator", "train head", [8265]),
        ("submitter", "train head", [8265]),
        ("submitter", "cluster head", [8265]),
        ("client here", "service worker", [8000]),
        ("ingress controller", "service worker", [8000]),
        ("prometheus", "service worker", [8080]),
        ("prometheus", "train head", [8080, 44217, 44227]),
        ("service head", "redis", [6379]),
        ("cluster head", "redis", [6379]),
        ("redis cleanup", "redis", [6379]),
        ("service worker", "postgres", [5432]),
        ("service head", OUTSIDE, [443, 6443]),  # the Kubernetes API; object storage
        ("train worker", OUTSIDE, [443]),
    ],
)
def test_what_has_to_be_reached_is(source: str, target: str, ports: list[int]) -> None:
    assert [port for port in ports if not reaches(source, target, port)] == []


@pytest.mark.parametrize("pod", [name for name, (_, namespace) in PODS.items() if namespace["name"] == "metacross"])
def test_every_pod_finds_names(pod: str) -> None:
    assert reaches(pod, OUTSIDE, 53, "UDP")
    assert reaches(pod, OUTSIDE, 53)


@pytest.mark.parametrize(
    ("source", "target", "ports"),
    [
        ("stranger", "service worker", [8000, 8080, 10002, 52365]),
        ("stranger here", "service head", [6379, 8265, 10001]),
        ("stranger here", "redis", [6379]),
        ("client here", "service head", [8000, 8265, 10001]),
        ("client here", "cluster head", [8265]),
        ("ingress controller", "service worker", [10002, 52365, 8265]),
        ("submitter", "train head", [6379, 10001, 52365]),
        ("submitter", "redis", [6379]),
        ("prometheus", "service worker", [8000, 10002]),
        ("train worker", "service head", [6379, 8265]),
        ("train worker", "tune worker", [10002]),
        ("cluster worker", "service worker", [8000, 10002]),
        ("service worker", "redis", [6379]),
        ("train head", "postgres", [5432]),
        ("train worker", OUTSIDE, [22, 80, 6443]),
        ("redis", OUTSIDE, [443]),
    ],
)
def test_nothing_else_is(source: str, target: str, ports: list[int]) -> None:
    assert [port for port in ports if reaches(source, target, port)] == []


def test_managed_stores_take_the_place_of_those_in_the_cluster(tmp_path: Any) -> None:
    manifests = with_component("gpu", "managed-stores", tmp_path)
    kinds = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert not [kind for kind in kinds if kind[0] == "StatefulSet"]
    added = {name for kind, name in kinds if kind == "NetworkPolicy"} - {p["metadata"]["name"] for p in policies()}
    assert added == {"to-managed-redis", "to-managed-postgres"}
