"""The Serve config file: the shipped one is what the code builds, and mistakes are named with their place and fix."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray import serve as ray_serve
from ray.serve._private.build_app import build_app
from ray.serve.deployment import deployment_to_schema
from typer.testing import CliRunner

from metacross.errors import UserError
from serve import check as module
from serve.app import build, from_config
from serve.changeover import bundle_named
from serve.check import check
from tests.helpers.shards import unit_vectors, write_parts, write_shards

Data = dict[str, Any]


@pytest.fixture
def shipped(root: Path) -> Path:
    return root / "serve" / "config.yaml"


@pytest.fixture
def wrong(shipped: Path, tmp_path: Path) -> Callable[[Callable[[Data], object]], list[str]]:
    """What is said of the shipped file after a change."""

    def wrong(change: Callable[[Data], object]) -> list[str]:
        data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        before = copy.deepcopy(data)
        change(data)
        assert data != before
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(data), encoding="utf-8")
        return check(file)

    return wrong


def application(data: Data) -> Data:
    (found,) = data["applications"]
    return found


def deployment(data: Data, name: str) -> Data:
    return next(d for d in application(data)["deployments"] if d["name"] == name)


def test_the_shipped_file_passes(shipped: Path) -> None:
    assert check(shipped) == []


def built(app: ray_serve.Application) -> dict[str, Data]:
    """The options of an application's deployments, as `serve build` writes them."""
    schemas = [deployment_to_schema(d).model_dump(exclude_unset=True) for d in build_app(app, name="app").deployments]
    return {schema.pop("name"): schema for schema in schemas}


def test_the_shipped_file_has_the_options_that_build_gives(shipped: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    stated = {d["name"]: {k: v for k, v in d.items() if k != "name"} for d in application(data)["deployments"]}
    bundle = stated["Tagger"].pop("user_config")["bundle"]
    by_hand = built(build({"bundle": str(tmp_path)}))
    assert by_hand["Tagger"].pop("user_config") == {"bundle": str(tmp_path)}
    assert stated == by_hand
    by_file = built(from_config(application(data)["args"]))
    assert by_file["Tagger"].pop("user_config") == {"bundle": ""}, "a file that names none is refused by the Tagger"
    assert stated == by_file
    assert bundle_named({"bundle": bundle}) == bundle


def test_with_shards_each_has_a_deployment(shipped: Path, tmp_path: Path) -> None:
    encoded = write_parts(tmp_path / "parts", unit_vectors(9, 8), rows=5)
    place = write_shards(tmp_path / "shards", encoded, "Flat", 3)
    options = built(build({"bundle": str(tmp_path), "serve.index_shards": str(place)}))
    assert options.keys() == {"Ingress", "Tagger", "SourceShard0", "SourceShard1", "SourceShard2"}
    assert (options["SourceShard2"]["num_replicas"], options["SourceShard2"]["max_replicas_per_node"]) == (2, 2)
    data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    application(data)["args"]["serve.index_shards"] = str(place)
    deployment(data, "SourceIndex")["name"] = "SourceShard1"
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert check(file) == []


def test_a_bundle_is_named_once_and_for_every_process() -> None:
    with pytest.raises(UserError, match="user_config: there a new one needs no restart"):
        from_config({"bundle": "/srv/metacross/bundle"})
    assert bundle_named({"bundle": "s3://bucket/bundle"}) == "s3://bucket/bundle"
    for user_config, message in (
        ({}, "names no bundle"),
        ({"bundle": ""}, "names no bundle"),
        ({"bundle": 3}, "names no bundle"),
        ({"bundle": "runs/first/bundle"}, "depends on where a replica runs"),
        ({"bundle": "/srv/bundle", "replicas": 2}, "replicas is no key"),
    ):
        with pytest.raises(UserError, match=message):
            bundle_named(user_config)


# What is changed, and what is said; each the only thing.
MISTAKES: dict[str, tuple[Callable[[Data], object], str]] = {
    "at the top": (
        lambda d: d.update(http_option={"port": 80}),
        "http_option: unknown key. Did you mean http_options?",
    ),
    "of HTTP": (
        lambda d: d["http_options"].update(prot=80),
        "http_options.prot: unknown key. Did you mean port?",
    ),
    "of an application": (
        lambda d: application(d).update(arg={}),
        "applications.metacross.arg: unknown key. Did you mean args?",
    ),
    "a deployment that shards stand in for": (
        lambda d: application(d)["args"].update({"serve.index_shards": "/srv/shards"}),
        "applications.metacross.deployments.SourceIndex: with serve.index_shards there is none, but SourceShard0, "
        "SourceShard1, ...",
    ),
    "of a runtime environment": (
        lambda d: application(d)["runtime_env"].update(env_var={}),
        "applications.metacross.runtime_env.env_var: unknown key. Did you mean env_vars?",
    ),
    "of a deployment": (
        lambda d: deployment(d, "Tagger").update(num_replica=2),
        "applications.metacross.deployments.Tagger.num_replica: unknown key. Did you mean num_replicas?",
    ),
    "of an actor": (
        lambda d: deployment(d, "SourceIndex")["ray_actor_options"].update(num_gpu=1),
        "applications.metacross.deployments.SourceIndex.ray_actor_options.num_gpu: unknown key. Did you mean num_gpus?",
    ),
    "where Serve takes a mapping or a model": (
        lambda d: deployment(d, "Ingress").update(num_replicas=None, autoscaling_config={"max_replica": 3}),
        "applications.metacross.deployments.Ingress.autoscaling_config.max_replica: unknown key. "
        "Did you mean max_replicas?",
    ),
    "a value for keys": (
        lambda d: deployment(d, "Tagger").update(ray_actor_options=1),
        "applications.metacross.deployments.Tagger.ray_actor_options must have keys, such as "
        "runtime_env, num_cpus, num_gpus.",
    ),
    "keys for a list": (
        lambda d: application(d).update(deployments={}),
        "applications.metacross.deployments must be a list.",
    ),
    "a value of the wrong kind": (
        lambda d: deployment(d, "Tagger").update(max_ongoing_requests="many"),
        "applications.metacross.deployments.Tagger.max_ongoing_requests: "
        "Input should be a valid integer, unable to parse string as an integer.",
    ),
    "a value that Serve's own check refuses": (
        lambda d: application(d)["runtime_env"].update(working_dir="here"),
        "applications.metacross.runtime_env: runtime_envs in the Serve config support only remote URIs",
    ),
    "nothing to import": (
        lambda d: application(d).pop("import_path"),
        "applications.metacross: import_path is missing.",
    ),
    "another import": (
        lambda d: application(d).update(import_path="serve.app:form_config"),
        "applications.metacross.import_path: serve.app:form_config is not known. Did you mean serve.app:from_config?",
    ),
    "another deployment": (
        lambda d: deployment(d, "SourceIndex").update(name="SourceIndx"),
        "applications.metacross.deployments.SourceIndx: unknown deployment. Did you mean SourceIndex?",
    ),
    "a setting": (
        lambda d: application(d)["args"].update({"serve.batch_request": 8}),
        "applications.metacross.args: Unknown key serve.batch_request (command line). "
        "Did you mean serve.batch_requests?",
    ),
    "a setting's value": (
        lambda d: application(d)["args"].update({"serve.batch_requests": 0}),
        "applications.metacross.args: serve.batch_requests is 0 (command line); it must be a whole number, 1 or more.",
    ),
    "an open door": (
        lambda d: d["http_options"].update(host="0.0.0.0"),
        "applications.metacross.args: serve.auth is empty, but the service answers on 0.0.0.0",
    ),
    "a setting without a value": (
        lambda d: application(d)["args"].update({"serve.auth": None}),
        "applications.metacross.args: serve.auth has no value.",
    ),
    "a setting that depends on the process": (
        lambda d: application(d)["args"].pop("serve.examples"),
        "applications.metacross.args: serve.examples is examples.db, which depends on where a replica runs.",
    ),
    "a setting that is an option": (
        lambda d: application(d)["args"].update({"serve.replicas": 2}),
        "applications.metacross.args.serve.replicas: deployments.Tagger.num_replicas and "
        "deployments.Ingress.num_replicas says it already, and counts. Leave it out.",
    ),
    "no bundle": (
        lambda d: deployment(d, "Tagger").pop("user_config"),
        "applications.metacross.deployments.Tagger.user_config: user_config of Tagger names no bundle.",
    ),
    "a bundle that depends on the process": (
        lambda d: deployment(d, "Tagger").update(user_config={"bundle": "bundle"}),
        "applications.metacross.deployments.Tagger.user_config: bundle: bundle depends on where a replica runs.",
    ),
    "a bundle among the arguments": (
        lambda d: application(d)["args"].update(bundle="/srv/metacross/bundle"),
        "applications.metacross.args.bundle: the bundle belongs into user_config of Tagger. Move it there.",
    ),
    "a bundle in two places": (
        lambda d: application(d).update(import_path="serve.app:build", args={"bundle": "/srv/b", "serve.examples": ""}),
        "applications.metacross.deployments.Tagger.user_config: needs import_path: serve.app:from_config, "
        "without args.bundle.",
    ),
    "a bundle for another deployment": (
        lambda d: deployment(d, "Ingress").update(user_config={"bundle": "/srv/b"}),
        "applications.metacross.deployments.Ingress.user_config: only Tagger takes one. Leave it out.",
    ),
    "batches that never fill": (
        lambda d: deployment(d, "Tagger").update(max_ongoing_requests=31),
        "applications.metacross.deployments.Tagger.max_ongoing_requests: 31, so a batch never has the 32 requests of "
        "serve.batch_requests. Give 64.",
    ),
    "no end to the queue": (
        lambda d: deployment(d, "Tagger").update(max_queued_requests=-1),
        "applications.metacross.deployments.Tagger.max_queued_requests: -1. Give 1 or more; "
        "beyond it requests get 503.",
    ),
    "Taggers that nobody fills": (
        lambda d: deployment(d, "Tagger").update(num_replicas=21),
        "applications.metacross.deployments.Ingress.max_ongoing_requests: 1 x 1280 requests come in, "
        "but Tagger takes 21 x 64.",
    ),
    "an end before the answer": (
        lambda d: deployment(d, "Ingress").update(graceful_shutdown_timeout_s=30),
        "applications.metacross.deployments.Ingress.graceful_shutdown_timeout_s: 30, so a replica that ends drops "
        "requests, which may take serve.timeout_s=30. Give 40.",
    ),
    "a GPU for nothing": (
        lambda d: (
            application(d)["args"].update({"serve.device": "cpu"}),
            deployment(d, "Tagger")["ray_actor_options"].update(num_gpus=0.5),
        ),
        "applications.metacross.deployments.Tagger.ray_actor_options.num_gpus: 0.5 is reserved and never used, "
        "because serve.device is cpu. Give 0.",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_place(
    wrong: Callable[[Callable[[Data], object]], list[str]], mistake: str
) -> None:
    change, message = MISTAKES[mistake]
    (line,) = wrong(change)
    assert line.startswith(message)


def test_a_gpu_that_is_wanted_is_reserved(wrong: Callable[[Callable[[Data], object]], list[str]]) -> None:
    lines = wrong(lambda d: application(d)["args"].update({"serve.device": "cuda"}))
    assert len(lines) == 2
    assert all("num_gpus: 0, so that Ray hides the GPUs" in line for line in lines)


def test_all_unknown_keys_are_told_at_once(wrong: Callable[[Callable[[Data], object]], list[str]]) -> None:
    assert len(wrong(lambda d: (d.update(one=1), deployment(d, "Tagger").update(two=2)))) == 2


def test_what_goes_well_is_not_refused(wrong: Callable[[Callable[[Data], object]], list[str]]) -> None:
    def change(data: Data) -> None:
        application(data)["args"] = {"serve.examples": "", "serve.auth": "environment", "serve.batch_requests": 16}
        application(data)["runtime_env"] = {"env_vars": {"TOKENS": "x"}, "working_dir": "https://host/metacross.zip"}
        deployment(data, "Tagger").update(
            user_config={"bundle": "s3://bucket/bundle"}, num_replicas="auto", max_ongoing_requests=32
        )
        data["applications"].append({"name": "other", "route_prefix": "/other", "import_path": "other:app", "args": {}})

    assert wrong(change) == []


def test_build_with_its_bundle_as_argument_is_checked_too(shipped: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    application(data).update(import_path="serve.app:build", args={"bundle": "/srv/b", "serve.examples": ""})
    del deployment(data, "Tagger")["user_config"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert check(file) == []


def test_open_loads_the_bundle(shipped: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    deployment(data, "Tagger")["user_config"]["bundle"] = str(bundle)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert check(file, open_bundle=True) == []
    (bundle / "model.safetensors").unlink()
    assert check(file) == []
    (line,) = check(file, open_bundle=True)
    assert line.startswith("applications.metacross.bundle: ")
    assert "model.safetensors" in line


def test_the_command_says_it_and_ends_with_2(shipped: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(module.main)
    done = CliRunner().invoke(app, [str(shipped)])
    assert done.exit_code == 0
    assert done.output == f"{shipped}: as it should be\n"
    twice = tmp_path / "twice.yaml"
    twice.write_text("proxy_location: EveryNode\nproxy_location: EveryNode\n", encoding="utf-8")
    done = CliRunner().invoke(app, [str(twice), str(tmp_path / "nothing.yaml")])
    assert done.exit_code == 2
    assert f"({twice}:1 and {twice}:2). Remove one.\n" in done.output
    assert "nothing.yaml does not exist" in done.output
