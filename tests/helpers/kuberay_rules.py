"""What KubeRay 1.7.0 refuses although its schema allows it (ray-operator/controllers/ray/utils/validation.go).

An object that it refuses is stored, and then nothing happens but an event, so tests look for all of it beforehand. What
needs a feature gate that is off by default is in `gates`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.helpers.kubernetes import Manifest, cluster_spec, groups

RESOURCE_PARAMETERS = {"num-cpus", "num-gpus", "memory", "resources"}
EMBEDDED = "GCSFaultToleranceEmbeddedStorage"
# KubeRay adds six characters to the name of a job or service to name its cluster, and "-serve-svc" for a Service.
LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayService": 47}


def refusals(manifest: Manifest) -> list[str]:
    """Why KubeRay would refuse a manifest; none for one that it takes, or that is not of its kinds."""
    spec = cluster_spec(manifest)
    if spec is None:
        return []
    found = [*_of_name(manifest)]
    if spec:
        found += [*_of_cluster(spec, manifest["metadata"].get("annotations", {}))]
    if manifest["kind"] == "RayJob":
        found += _of_job(manifest["spec"])
    if manifest["kind"] == "RayService":
        found += _of_service(manifest["spec"])
    return found


def gates(manifest: Manifest) -> set[str]:
    """The feature gates of the operator that a manifest needs, of those that are off by default."""
    spec = cluster_spec(manifest) or {}
    found = {
        gate
        for key, gate in (
            ("networkPolicy", "RayClusterNetworkPolicy"),
            ("historyServerOptions", "RayClusterHistoryServer"),
            ("tlsOptions", "RayClusterMTLS"),
        )
        if key in spec
    }
    return found | ({EMBEDDED} if spec.get("gcsFaultToleranceOptions", {}).get("backend") == "rocksdb" else set())


def _of_name(manifest: Manifest) -> Iterator[str]:
    name = manifest["metadata"]["name"]
    if len(name) > LONGEST_NAME[manifest["kind"]] or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield "name"


def _of_cluster(spec: Manifest, annotations: dict[str, str]) -> Iterator[str]:
    scales = spec.get("enableInTreeAutoscaling", False)
    v2 = scales and spec.get("autoscalerOptions", {}).get("version") == "v2"
    for name, group in groups(spec):
        parameters = group.get("rayStartParams", {})
        if RESOURCE_PARAMETERS & parameters.keys() and group.get("resources"):
            yield f"{name}: resources in rayStartParams and in resources"
        if "labels" in parameters:
            yield f"{name}: labels in rayStartParams"
        if v2 and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy with autoscaler v2"
        if name != "head":
            yield from _of_workers(name, group, scales=scales, v2=v2, version=spec.get("rayVersion", ""))
    yield from _of_state(spec, annotations)
    yield from _of_tokens(spec)


def _of_workers(name: str, group: Manifest, *, scales: bool, v2: bool, version: str) -> Iterator[str]:
    fewest, most = group.get("minReplicas"), group.get("maxReplicas")
    if not scales and None in (fewest, most):
        yield f"{name}: minReplicas and maxReplicas without autoscaling"
    if None not in (fewest, most) and not 0 <= fewest <= most:
        yield f"{name}: minReplicas above maxReplicas"
    if not v2 and ("idleTimeoutSeconds" in group or group.get("priority")):
        yield f"{name}: idleTimeoutSeconds or priority without autoscaler v2"
    if group.get("priority") and _version(version) < (2, 56):
        yield f"{name}: priority before Ray 2.56"
    if scales and group.get("suspend"):
        yield f"{name}: suspend with autoscaling"


def _of_state(spec: Manifest, annotations: dict[str, str]) -> Iterator[str]:
    options = spec.get("gcsFaultToleranceOptions")
    head = spec["headGroupSpec"]
    variables = {entry["name"] for entry in head["template"]["spec"]["containers"][0].get("env", [])}
    if options is None:
        if "RAY_REDIS_ADDRESS" in variables:
            yield "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions"
        return
    if {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & variables or "redis-password" in head.get("rayStartParams", {}):
        yield "Redis in the environment beside gcsFaultToleranceOptions"
    if {"ray.io/ft-enabled", "ray.io/external-storage-namespace"} & annotations.keys():
        yield "annotation beside gcsFaultToleranceOptions"
    of_redis = {"redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace"}
    if options.get("backend") == "rocksdb" and of_redis & options.keys():
        yield "Redis beside rocksdb"
    if options.get("backend", "redis") == "redis" and "storage" in options:
        yield "storage beside Redis"


def _of_tokens(spec: Manifest) -> Iterator[str]:
    options = spec.get("authOptions", {})
    if options.get("mode") == "token" and _version(spec.get("rayVersion", "")) < (2, 52):
        yield "token without a rayVersion of 2.52 or later"
    if options.get("enableK8sTokenAuth") and options.get("mode") != "token":
        yield "enableK8sTokenAuth without token"


def _of_job(spec: Manifest) -> Iterator[str]:
    cluster = spec.get("rayClusterSpec", {})
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    sidecar, selects = spec.get("submissionMode") == "SidecarMode", "clusterSelector" in spec
    checks: dict[str, Any] = {
        "suspend without shutdownAfterJobFinishes": spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"),
        "ttl without shutdownAfterJobFinishes": spec.get("ttlSecondsAfterFinished")
        and not spec.get("shutdownAfterJobFinishes"),
        "deletionRules with shutdownAfterJobFinishes": rules and spec.get("shutdownAfterJobFinishes"),
        "DeleteWorkers with autoscaling": cluster.get("enableInTreeAutoscaling")
        and any(rule["policy"] == "DeleteWorkers" for rule in rules),
        "SidecarMode with submitter or selector": sidecar
        and (selects or {"submitterConfig", "submitterPodTemplate"} & spec.keys()),
        "neither rayClusterSpec nor clusterSelector": not cluster and not selects,
        "backoffLimit with clusterSelector": selects and spec.get("backoffLimit"),
        "suspend with clusterSelector": selects and spec.get("suspend"),
        "enableK8sTokenAuth in a job": cluster.get("authOptions", {}).get("enableK8sTokenAuth"),
    }
    yield from (name for name, wrong in checks.items() if wrong)


def _of_service(spec: Manifest) -> Iterator[str]:
    cluster = spec["rayClusterConfig"]
    if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth in a service"
    ports = cluster["headGroupSpec"]["template"]["spec"]["containers"][0].get("ports", [])
    # Without any ports KubeRay takes its own, which have one of this name.
    if ports and not any(port.get("name", "").split("-")[0] == "serve" for port in ports):
        yield "no port serve on the head of a service"
    if "name" in cluster["headGroupSpec"].get("headService", {}).get("metadata", {}):
        yield "headService.metadata.name in a service"
    strategy = spec.get("upgradeStrategy", {})
    if strategy.get("type") == "NewClusterWithIncrementalUpgrade" and not (
        cluster.get("enableInTreeAutoscaling") and strategy.get("clusterUpgradeOptions", {}).get("gatewayClassName")
    ):
        yield "incremental upgrade without autoscaler or gatewayClassName"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
