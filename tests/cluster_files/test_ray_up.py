"""The files for `ray up`: a key that Ray or the cloud does not know fails at any level, and the promises are kept."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import ray.autoscaler
import yaml
from botocore.model import Shape
from botocore.validate import ParamValidator
from jsonschema import Draft202012Validator
from ray.autoscaler._private.util import prepare_config, validate_config

from serve.ray_internals import BY_GRPC
from tests.helpers.strict_schema import closed

Config = dict[str, Any]
CLOUDS = ("aws", "gcp")
FILES = (*CLOUDS, "local")


@pytest.fixture
def configs(root: Path) -> dict[str, Config]:
    texts = {name: (root / "cluster" / f"{name}.yaml").read_text(encoding="utf-8") for name in FILES}
    # Aliases become copies, so that a test changes one place alone.
    return {name: json.loads(json.dumps(yaml.safe_load(text))) for name, text in texts.items()}


def mistakes(config: Config) -> list[str]:
    """What Ray and the cloud refuse in a file for `ray up`, each with its place."""
    found = [f"{error.json_path}: {error.message}" for error in _ray_schema().iter_errors(config)]
    check = {"aws": _of_ec2, "gcp": _of_compute_engine, "local": _of_own_machines}[config["provider"]["type"]]
    for name, node_type in config["available_node_types"].items():
        found += [f"{name}.node_config{line}" for line in check(node_type["node_config"])]
    if config["provider"]["type"] == "aws":
        group = config["provider"].get("security_group", {})
        found += _botocore("AuthorizeSecurityGroupIngress", group)
    return found


@cache
def _ray_schema() -> Draft202012Validator:
    """Ray's own schema, which lets the keys of `provider` pass."""
    text = (resources.files(ray.autoscaler) / "ray-schema.json").read_text(encoding="utf-8")
    schema = closed(json.loads(text))
    schema["properties"]["provider"]["additionalProperties"] = False
    return Draft202012Validator(schema)


def _of_ec2(node_config: Config) -> list[str]:
    return _botocore("RunInstances", {"MinCount": 1, "MaxCount": 1, **node_config})


def _of_own_machines(node_config: Config) -> list[str]:
    """There is nothing to say about machines that exist already."""
    return [f".{key}: unknown key" for key in node_config]


@cache
def _input_of(operation: str) -> Shape:
    shape = botocore.session.get_session().get_service_model("ec2").operation_model(operation).input_shape
    assert shape is not None
    return shape


def _botocore(operation: str, parameters: Config) -> list[str]:
    report = ParamValidator().validate(parameters, _input_of(operation)).generate_report()
    return [f": {line}" for line in report.splitlines()]


@cache
def _discovery() -> dict[str, Any]:
    """What Google says of its API, as its client carries it along."""
    documents = resources.files("googleapiclient") / "discovery_cache" / "documents"
    schemas: dict[str, Any] = json.loads((documents / "compute.v1.json").read_text(encoding="utf-8"))["schemas"]
    return schemas


def _of_compute_engine(node_config: Config) -> list[str]:
    return list(_unknown(node_config, {"$ref": "Instance"}, ""))


PYTHON = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}


def _unknown(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    """Unknown keys and values of another type, by a schema of Google's discovery format."""
    schema = _discovery()[schema["$ref"]] if "$ref" in schema else schema
    kind = schema["type"]
    if kind == "array" and isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{place}[{i}]")
    elif kind == "object" and isinstance(value, dict):
        for key, inner in value.items():
            if key in schema.get("properties", {}):
                yield from _unknown(inner, schema["properties"][key], f"{place}.{key}")
            elif "additionalProperties" not in schema:
                yield f"{place}.{key}: unknown key"
    elif kind in ("array", "object"):
        yield f"{place}: must be of type {kind}"
    elif schema.get("format") in ("int64", "uint64") and isinstance(value, int):
        return  # written as a string, and taken as a number
    elif not isinstance(value, PYTHON[kind]):
        yield f"{place}: must be of type {kind}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value} is none of {schema['enum']}"


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all mappings in a file."""
    if isinstance(value, dict):
        yield place
        for key, inner in value.items():
            yield from _places(inner, (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _places(item, (*place, i))


@pytest.mark.parametrize("name", FILES)
def test_ray_and_the_cloud_know_every_key(configs: dict[str, Config], name: str) -> None:
    assert mistakes(configs[name]) == []
    prepared = prepare_config(copy.deepcopy(configs[name]))
    validate_config(prepared)


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_key_at_any_level_is_found(configs: dict[str, Config], name: str) -> None:
    free = {"resources", "labels", "file_mounts", "available_node_types"}  # their keys are names that one chooses
    places = [place for place in _places(configs[name]) if not (place and place[-1] in free)]
    assert len(places) >= (20 if name in CLOUDS else 3)
    for place in places:
        broken = copy.deepcopy(configs[name])
        spot = broken
        for step in place:
            spot = spot[step]
        spot["misspelt"] = 1
        assert any("misspelt" in line for line in mistakes(broken)), place


@pytest.mark.parametrize("name", FILES)
def test_no_work_on_the_head_and_no_key_in_the_file(configs: dict[str, Config], name: str) -> None:
    config = configs[name]
    start = config["head_start_ray_commands"][-1]
    assert "--num-cpus=0" in start
    for command in (start, config["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_ROTATION_MAX_BYTES=" in command
        assert all(f"{variable}={value} " in command for variable, value in BY_GRPC.items())
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert 0 < config["idle_timeout_minutes"] <= 10
    assert ("RAY_enable_autoscaler_v2=0" in start) == (name == "local")


def test_own_machines_are_known_to_have_cpus(configs: dict[str, Config]) -> None:
    """Otherwise Ray takes them for what the head is, without CPUs, and starts none."""
    prepared = prepare_config(copy.deepcopy(configs["local"]))
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["resources"]["CPU"] > 0
    assert node_type["max_workers"] == prepared["max_workers"] == len(prepared["provider"]["worker_ips"])
    assert node_type["min_workers"] == 0


@pytest.mark.parametrize("name", CLOUDS)
def test_jobs_know_how_far_the_cluster_grows(configs: dict[str, Config], name: str) -> None:
    (text,) = re.findall(r"METACROSS_CLUSTER_GROWS_TO='(.*?)'", configs[name]["head_start_ray_commands"][-1])
    workers = [t for key, t in configs[name]["available_node_types"].items() if key != "head"]
    together = {
        resource: sum(worker["max_workers"] * worker["resources"].get(resource, 0) for worker in workers)
        for resource in ("CPU", "GPU")
    }
    assert json.loads(text) == together


@pytest.mark.parametrize("name", CLOUDS)
def test_spot_comes_before_on_demand_and_only_when_asked_for(configs: dict[str, Config], name: str) -> None:
    types = configs[name]["available_node_types"]
    assert types.keys() == {"head", "cpu", "gpu-spot", "gpu"}
    assert types["head"]["resources"] == {"CPU": 0}
    assert all(types[worker]["min_workers"] == 0 for worker in types.keys() - {"head"})
    assert types["gpu-spot"]["priority"] > types["gpu"].get("priority", 0)
    assert types["gpu-spot"]["labels"] == {"ray.io/market-type": "spot"}
    assert configs[name]["provider"]["cache_stopped_nodes"] is False


def test_instances_have_roles_disks_and_guarded_metadata(configs: dict[str, Config]) -> None:
    for node_type in configs["aws"]["available_node_types"].values():
        config = node_type["node_config"]
        assert config["IamInstanceProfile"]["Name"].startswith("metacross-")
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        (disk,) = config["BlockDeviceMappings"]
        assert disk["Ebs"]["VolumeSize"] >= 100
        assert disk["Ebs"]["DeleteOnTermination"]
    spot = configs["aws"]["available_node_types"]["gpu-spot"]["node_config"]
    assert spot["InstanceMarketOptions"]["MarketType"] == "spot"
    for name, node_type in configs["gcp"]["available_node_types"].items():
        (disk,) = node_type["node_config"]["disks"]
        assert disk["autoDelete"]
        assert ("serviceAccounts" in node_type["node_config"]) == (name != "head")
    spot = configs["gcp"]["available_node_types"]["gpu-spot"]["node_config"]
    assert spot["scheduling"]["provisioningModel"] == "SPOT"
