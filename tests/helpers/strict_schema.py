"""KubeRay's JSON schemas, with unknown keys refused at every level, as an API server's strict validation does."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.helpers.kubernetes import Manifest

# Files that are not part of the project: KubeRay's CRDs as JSON, kuberay-v1.7.0-KIND.schema.json.
PLACE = "METACROSS_KUBERAY_SCHEMAS"
DEFAULT = Path(__file__).parents[3] / "shared" / "data" / "kuberay"
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {key: {} for key in ("name", "namespace", "labels", "annotations", "creationTimestamp")},
}


def mistakes(manifest: Manifest) -> list[str]:
    """What KubeRay's schema refuses in a manifest of its kinds, each with its place; [] for other kinds."""
    if manifest["apiVersion"] != "ray.io/v1":
        return []
    errors = _validator(manifest["kind"]).iter_errors(manifest)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


@cache
def _validator(kind: str) -> Draft202012Validator:
    file = Path(os.environ.get(PLACE, DEFAULT)) / f"kuberay-v1.7.0-{kind}.schema.json"
    if not file.exists():
        pytest.skip(f"needs KubeRay's schemas: {file.name} in the directory that {PLACE} names")
    schema = closed(json.loads(file.read_text(encoding="utf-8")))
    schema["properties"]["metadata"] = METADATA
    return Draft202012Validator(schema)


def closed(schema: Any) -> Any:
    """A schema of Kubernetes' dialect as JSON Schema, in which unknown keys are mistakes."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if result.pop("x-kubernetes-int-or-string", None):
        result.pop("type", None)
        result.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if result.pop("nullable", None):
        result["type"] = [result["type"], "null"]
    return result
