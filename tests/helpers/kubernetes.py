"""Manifests as `kubectl kustomize` puts them together, and what is in them."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERAY = Path(__file__).parents[2] / "cluster" / "kuberay"
Manifest = dict[str, Any]

# Where a kind of KubeRay has the specification of a cluster; "" is the spec itself.
CLUSTER_SPEC = {"RayCluster": "", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}


@cache
def _rendered(folder: Path) -> list[Manifest]:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl 1.27 or newer (`kubectl kustomize`)")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def rendered(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization, which a test may change."""
    return copy.deepcopy(_rendered(folder))


def with_component(overlay: str, component: str, folder: Path) -> list[Manifest]:
    """The manifests of an overlay with one more component.

    Args:
        overlay: below overlays/.
        component: below components/.
        folder: an empty one, for the kustomization that joins them.
    """
    here = os.path.relpath(KUBERAY.resolve(), folder.resolve())
    content = {"resources": [f"{here}/overlays/{overlay}"], "components": [f"{here}/components/{component}"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return rendered(folder)


def named(manifests: Iterable[Manifest], kind: str, name: str = "") -> Manifest:
    """The manifest of this kind and name; without a name, the only one of the kind."""
    (found,) = [m for m in manifests if m["kind"] == kind and name in ("", m["metadata"]["name"])]
    return found


def names(manifests: Iterable[Manifest]) -> set[str]:
    """Kind and name of every manifest, "Kind/name"."""
    return {f"{m['kind']}/{m['metadata']['name']}" for m in manifests}


def cluster_spec(manifest: Manifest) -> Manifest | None:
    """The specification of a Ray cluster in a manifest of KubeRay; None in others."""
    if manifest["kind"] not in CLUSTER_SPEC:
        return None
    spec: Manifest = manifest["spec"]
    return spec.get(CLUSTER_SPEC[manifest["kind"]], {}) if CLUSTER_SPEC[manifest["kind"]] else spec


def groups(spec: Manifest) -> Iterator[tuple[str, Manifest]]:
    """The groups of a Ray cluster's pods, by name; the head's is "head"."""
    yield "head", spec["headGroupSpec"]
    for group in spec.get("workerGroupSpecs") or []:
        yield group["groupName"], group


def pod_templates(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """The pod templates of a manifest, each with the name of its place."""
    spec = cluster_spec(manifest)
    if spec is not None:
        for name, group in groups(spec):
            yield f"{manifest['metadata']['name']}.{name}", group["template"]
        if "submitterPodTemplate" in manifest["spec"]:
            yield f"{manifest['metadata']['name']}.submitter", manifest["spec"]["submitterPodTemplate"]
    elif "template" in manifest.get("spec", {}):
        yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(manifest: Manifest) -> Iterator[tuple[str, Manifest, Manifest]]:
    """The containers of a manifest, with their places and pods; KubeRay adds the autoscaler to heads that have one."""
    spec = cluster_spec(manifest)
    for place, template in pod_templates(manifest):
        pod = template["spec"]
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            yield f"{place}.{container['name']}", pod, container
        if spec is not None and place.endswith(".head") and spec.get("enableInTreeAutoscaling"):
            yield f"{place}.autoscaler", pod, spec.get("autoscalerOptions", {})


def has_labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, with its expressions `In`, selects what has these labels."""
    equal = selector.get("matchLabels", {}).items() <= labels.items()
    return equal and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))
