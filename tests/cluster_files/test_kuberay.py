"""The manifests of cluster/kuberay: KubeRay and Kubernetes know every key, and they are as a cluster should be run."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from metacross.cli.app import app
from metacross.config_loading import load_config
from metacross.ray_session import GROWS_TO
from serve.check import check
from serve.ray_internals import BY_GRPC
from tests.helpers.kuberay_rules import gates, refusals
from tests.helpers.kubernetes import (
    KUBERAY,
    Manifest,
    cluster_spec,
    containers,
    groups,
    named,
    names,
    pod_templates,
    rendered,
    with_component,
)
from tests.helpers.strict_schema import mistakes

OVERLAYS = ["cpu-small", "cpu-small/jobs", "gpu", "gpu/jobs"]
# Each component with an overlay that takes it, and the operator's feature gates that it needs.
COMPONENTS = {
    "embedded-gcs-storage": ("cpu-small", {"GCSFaultToleranceEmbeddedStorage"}),
    "external-secrets": ("cpu-small", set()),
    "gpu": ("cpu-small", set()),
    "history-server": ("gpu", {"RayClusterHistoryServer"}),
    "kueue": ("cpu-small/jobs", set()),
    "managed-stores": ("gpu", set()),
    "pod-monitor": ("gpu", set()),
}
OF_OTHERS = ("ray.io", "kueue.x-k8s.io", "monitoring.coreos.com", "external-secrets.io")  # kinds beyond Kubernetes' own
KUBERNETES = "1.32"


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """What `kubectl apply -k` would send, for every overlay and every component; not to be changed."""
    found = {overlay: rendered(KUBERAY / "overlays" / overlay) for overlay in OVERLAYS}
    for component, (overlay, _) in COMPONENTS.items():
        found[component] = with_component(overlay, component, tmp_path_factory.mktemp(component))
    return found


@pytest.fixture(params=[*OVERLAYS, *COMPONENTS])
def manifests(request: pytest.FixtureRequest, everything: dict[str, list[Manifest]]) -> list[Manifest]:
    """Those of one overlay, or of one with a component; not to be changed."""
    return everything[request.param]


@pytest.fixture
def standing() -> list[Manifest]:
    return rendered(KUBERAY / "overlays" / "cpu-small")


@pytest.fixture
def jobs() -> list[Manifest]:
    return rendered(KUBERAY / "overlays" / "cpu-small" / "jobs")


def test_every_component_is_tried() -> None:
    assert {path.name for path in (KUBERAY / "components").iterdir()} == {
        *COMPONENTS,
        "gpu-spot",
    }  # gpu-spot: overlay gpu


def test_an_overlay_has_these_objects(standing: list[Manifest], jobs: list[Manifest]) -> None:
    assert names(m for m in standing if m["kind"] != "NetworkPolicy") == {
        "Namespace/metacross",
        "PersistentVolumeClaim/metacross",
        "PodDisruptionBudget/metacross-cluster-head",
        "PodDisruptionBudget/metacross-service-workers",
        "RayCluster/metacross-cluster",
        "RayService/metacross",
        "Service/metacross-postgres",
        "Service/metacross-redis",
        "ServiceAccount/metacross-head",
        "ServiceAccount/metacross-worker",
        "StatefulSet/metacross-postgres",
        "StatefulSet/metacross-redis",
    }
    assert names(standing) == names(rendered(KUBERAY / "overlays" / "gpu"))
    one = {"RayJob/metacross-{}", "PodDisruptionBudget/metacross-{}-head", "NetworkPolicy/nodes-of-{}"}
    assert names(jobs) == {name.format(job) for name in one for job in ("train", "tune", "index")}
    assert names(jobs) == names(rendered(KUBERAY / "overlays" / "gpu" / "jobs"))


def test_kuberay_knows_every_key(manifests: list[Manifest]) -> None:
    assert [line for manifest in manifests for line in mistakes(manifest)] == []


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "serveConfigV3"),
        (("rayClusterConfig",), "rayVersoin"),
        (("rayClusterConfig", "gcsFaultToleranceOptions"), "redisAdress"),
        (("rayClusterConfig", "workerGroupSpecs", 0), "minReplica"),
        (("rayClusterConfig", "workerGroupSpecs", 0, "template", "spec"), "toleration"),
        (("rayClusterConfig", "headGroupSpec", "template", "spec", "containers", 0, "securityContext"), "runAsNotRoot"),
    ],
)
def test_a_misspelt_key_at_any_level_is_found(standing: list[Manifest], path: tuple[Any, ...], key: str) -> None:
    service = copy.deepcopy(named(standing, "RayService"))
    place = service["spec"]
    for step in path:
        place = place[step]
    place[key] = 1
    (line,) = mistakes(service)
    assert key in line


def test_kubernetes_knows_every_key(everything: dict[str, list[Manifest]]) -> None:
    distinct = {str(manifest): manifest for manifests in everything.values() for manifest in manifests}
    for manifest in distinct.values():
        if not manifest["apiVersion"].startswith(OF_OTHERS):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    bad = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "lables": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, KUBERNETES, strict=True)


def test_kuberay_refuses_nothing(manifests: list[Manifest]) -> None:
    assert [line for manifest in manifests for line in refusals(manifest)] == []


def test_only_these_components_need_feature_gates(everything: dict[str, list[Manifest]]) -> None:
    needed = {name: set().union(*map(gates, manifests)) for name, manifests in everything.items()}
    assert needed == {overlay: set() for overlay in OVERLAYS} | {name: gate for name, (_, gate) in COMPONENTS.items()}


# --- each rule, on a manifest that breaks it --------------------------------------------------------------------------


def _head(spec: Manifest) -> Manifest:
    container: Manifest = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    return container


BREAKS: dict[str, Callable[[Manifest], Any]] = {
    "head: restartPolicy with autoscaler v2": lambda s: s["headGroupSpec"]["template"]["spec"].update(
        restartPolicy="Always"
    ),
    "cpu: restartPolicy with autoscaler v2": lambda s: s["workerGroupSpecs"][0]["template"]["spec"].update(
        restartPolicy="OnFailure"
    ),
    "token without a rayVersion of 2.52 or later": lambda s: s.pop("rayVersion"),
    "enableK8sTokenAuth without token": lambda s: s.update(authOptions={"enableK8sTokenAuth": True}),
    "head: resources in rayStartParams and in resources": lambda s: s["headGroupSpec"].update(resources={"CPU": "1"}),
    "cpu: labels in rayStartParams": lambda s: s["workerGroupSpecs"][0]["rayStartParams"].update(labels="a=b"),
    "Redis in the environment beside gcsFaultToleranceOptions": lambda s: _head(s)["env"].append(
        {"name": "REDIS_PASSWORD", "value": "x"}
    ),
    "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions": lambda s: (
        s.pop("gcsFaultToleranceOptions"),
        _head(s)["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "x"}),
    ),
    "Redis beside rocksdb": lambda s: s["gcsFaultToleranceOptions"].update(backend="rocksdb"),
    "storage beside Redis": lambda s: s["gcsFaultToleranceOptions"].update(storage={"size": "1Gi"}),
    "cpu: minReplicas above maxReplicas": lambda s: s["workerGroupSpecs"][0].update(minReplicas=9),
    "cpu: idleTimeoutSeconds or priority without autoscaler v2": lambda s: (
        s["autoscalerOptions"].update(version="v1"),
        s["workerGroupSpecs"][0].update(priority=1),
    ),
    "cpu: suspend with autoscaling": lambda s: s["workerGroupSpecs"][0].update(suspend=True),
}
BREAKS_A_JOB: dict[str, dict[str, Any]] = {
    "deletionRules with shutdownAfterJobFinishes": {"deletionStrategy": {"deletionRules": [{"policy": "DeleteSelf"}]}},
    "DeleteWorkers with autoscaling": {
        "shutdownAfterJobFinishes": False,
        "ttlSecondsAfterFinished": 0,
        "deletionStrategy": {"deletionRules": [{"policy": "DeleteWorkers"}]},
    },
    "SidecarMode with submitter or selector": {"submissionMode": "SidecarMode"},
    "suspend without shutdownAfterJobFinishes": {
        "suspend": True,
        "shutdownAfterJobFinishes": False,
        "ttlSecondsAfterFinished": 0,
    },
    "ttl without shutdownAfterJobFinishes": {"shutdownAfterJobFinishes": False},
    "backoffLimit with clusterSelector": {"clusterSelector": {"ray.io/cluster": "x"}},
    "enableK8sTokenAuth in a job": {"rayClusterSpec.authOptions": {"mode": "token", "enableK8sTokenAuth": True}},
}
BREAKS_A_SERVICE: dict[str, dict[str, Any]] = {
    "enableK8sTokenAuth in a service": {"rayClusterConfig.authOptions": {"mode": "token", "enableK8sTokenAuth": True}},
    "headService.metadata.name in a service": {
        "rayClusterConfig.headGroupSpec.headService": {"metadata": {"name": "mine"}}
    },
    "no port serve on the head of a service": {
        "rayClusterConfig.headGroupSpec.template.spec.containers": [{"ports": [{"name": "dashboard"}]}]
    },
    "incremental upgrade without autoscaler or gatewayClassName": {
        "upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}
    },
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_rule_about_clusters(standing: list[Manifest], rule: str) -> None:
    cluster = named(standing, "RayCluster")
    BREAKS[rule](cluster["spec"])
    assert refusals(cluster) == [rule]


@pytest.mark.parametrize("rule", [*BREAKS_A_JOB, *BREAKS_A_SERVICE])
def test_a_rule_about_jobs_and_services(standing: list[Manifest], jobs: list[Manifest], rule: str) -> None:
    of_a_job = rule in BREAKS_A_JOB
    manifest = named(jobs, "RayJob", "metacross-train") if of_a_job else named(standing, "RayService")
    for path, value in (BREAKS_A_JOB if of_a_job else BREAKS_A_SERVICE)[rule].items():
        *steps, last = path.split(".")
        place = manifest["spec"]
        for step in steps:
            place = place[step]
        place[last] = value
    assert refusals(manifest) == [rule]


def test_an_annotation_beside_the_options_is_refused(standing: list[Manifest]) -> None:
    cluster = named(standing, "RayCluster")
    cluster["metadata"]["annotations"] = {"ray.io/ft-enabled": "true"}
    assert refusals(cluster) == ["annotation beside gcsFaultToleranceOptions"]
    cluster["metadata"] = {"name": "a-name-that-is-so-long-that-no-service-can-be-named-after-it"}
    assert refusals(cluster) == ["name"]


# --- how the pods run -------------------------------------------------------------------------------------------------


def test_every_pod_may_run_in_a_restricted_namespace(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        for place, pod, container in containers(manifest):
            of_pod, own = pod["securityContext"], container["securityContext"]
            assert of_pod["runAsNonRoot"] is True, place
            assert of_pod["runAsUser"] > 0, place
            assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, place
            assert own["allowPrivilegeEscalation"] is False, place
            assert own["capabilities"] == {"drop": ["ALL"]}, place
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), place
            assert not any("hostPort" in port for port in container.get("ports", [])), place
            for volume in pod.get("volumes", []):
                assert volume.keys() <= {"name", "persistentVolumeClaim", "emptyDir"}, place


def test_the_namespace_is_restricted_unless_collectors_are_in_it(everything: dict[str, list[Manifest]]) -> None:
    level = "pod-security.kubernetes.io/enforce"
    for name, expected in (("gpu", "restricted"), ("history-server", "baseline")):
        assert named(everything[name], "Namespace")["metadata"]["labels"][level] == expected


def test_a_container_gets_what_it_asks_for_and_no_more(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        for place, _, container in containers(manifest):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"], place
            assert {"cpu", "memory", "ephemeral-storage"} <= resources["limits"].keys(), place


def test_heads_do_no_work_and_have_room(manifests: list[Manifest]) -> None:
    for spec in filter(None, map(cluster_spec, manifests)):
        head = spec["headGroupSpec"]
        assert head["rayStartParams"]["num-cpus"] == "0"
        memory = head["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert int(memory.removesuffix("Gi")) >= 4
        assert head["template"]["spec"]["serviceAccountName"] == "metacross-head"
        for _, group in list(groups(spec))[1:]:
            assert group["template"]["spec"]["serviceAccountName"] == "metacross-worker"
            assert group["template"]["spec"]["topologySpreadConstraints"]


def test_a_training_hears_of_a_worker_that_goes(manifests: list[Manifest]) -> None:
    """With time for a step and a checkpoint: Ray Train looks for drained nodes every five seconds."""
    for manifest in manifests:
        spec = cluster_spec(manifest)
        for _, group in list(groups(spec))[1:] if spec and manifest["kind"] != "RayService" else []:
            pod = group["template"]["spec"]
            stop = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
            deadline = int(stop.split("--deadline-remaining-seconds ")[1].split()[0])
            assert "ray drain-node" in stop and stop.endswith(f"&& sleep {deadline}")
            assert pod["terminationGracePeriodSeconds"] > deadline >= 20


def test_the_service_survives_the_loss_of_a_node(standing: list[Manifest]) -> None:
    service = named(standing, "RayService")["spec"]
    assert service["excludeHeadPodFromServeSvc"] is True
    (workers,) = service["rayClusterConfig"]["workerGroupSpecs"]
    assert workers["minReplicas"] >= 2
    spread = workers["template"]["spec"]["topologySpreadConstraints"]
    assert {"kubernetes.io/hostname", "topology.kubernetes.io/zone"} == {rule["topologyKey"] for rule in spread}
    stop = workers["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert "ray drain-node" in stop
    seconds = int(stop.rsplit("sleep ", 1)[1])
    assert (
        workers["template"]["spec"]["terminationGracePeriodSeconds"] > seconds >= load_config(None, []).serve.timeout_s
    )
    assert service["rayClusterDeletionDelaySeconds"] > load_config(None, []).serve.timeout_s
    assert "externalStorageNamespace" not in service["rayClusterConfig"]["gcsFaultToleranceOptions"]


def test_budgets_find_pods_and_say_how_many(standing: list[Manifest], jobs: list[Manifest]) -> None:
    labels = [
        {**template["metadata"]["labels"], "ray.io/node-type": "head" if place.endswith("head") else "worker"}
        for manifest in standing + jobs
        for place, template in pod_templates(manifest)
    ]
    budgets = [m["spec"] for m in standing + jobs if m["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 5
    for budget in budgets:
        assert budget.keys() == {"minAvailable", "selector"}
        assert isinstance(budget["minAvailable"], int)
        assert any(budget["selector"]["matchLabels"].items() <= pod.items() for pod in labels)


def test_gpus_are_kept_for_those_who_need_them() -> None:
    for overlay in ("gpu", "gpu/jobs"):
        for spec in filter(None, map(cluster_spec, rendered(KUBERAY / "overlays" / overlay))):
            for name, group in groups(spec):
                pod = group["template"]["spec"]
                wants = "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
                assert wants == name.startswith("gpu")
                assert wants == any(t["key"] == "nvidia.com/gpu" for t in pod.get("tolerations", []))
                assert wants == ("nvidia.com/gpu.present" in pod.get("nodeSelector", {}))
                assert pod["containers"][0]["image"].endswith("-gpu" if wants else "-cpu")


def test_ray_understands_the_groups() -> None:
    """The autoscaler's own reading: GPUs are seen, and spot machines come before those that stay."""
    cluster = named(rendered(KUBERAY / "overlays" / "gpu"), "RayCluster")
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["gpu-spot"]["resources"]["GPU"] == types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu-spot"]["labels"] == {"ray.io/market-type": "spot"}
    priorities = {group["groupName"]: group.get("priority", 0) for group in cluster["spec"]["workerGroupSpecs"]}
    assert priorities["gpu-spot"] > priorities["gpu"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_jobs_know_how_far_the_cluster_grows(overlay: str) -> None:
    for manifest in rendered(KUBERAY / "overlays" / overlay):
        spec = cluster_spec(manifest)
        if spec is None or manifest["kind"] == "RayService":
            continue
        together: dict[str, int] = {}
        for group in spec["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            for resource, limit in (("CPU", "cpu"), ("GPU", "nvidia.com/gpu")):
                if limit in limits:
                    together[resource] = together.get(resource, 0) + group["maxReplicas"] * int(limits[limit])
        variables = {entry["name"]: entry.get("value", "") for entry in _head(spec)["env"]}
        assert json.loads(variables[GROWS_TO]) == together


def test_replicas_are_called_by_grpc(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        spec = cluster_spec(manifest)
        if spec is not None and manifest["kind"] == "RayService":
            for name, group in groups(spec):
                environment = group["template"]["spec"]["containers"][0]["env"]
                variables = {entry["name"]: entry.get("value") for entry in environment}
                assert variables.items() >= BY_GRPC.items(), name


def test_no_secret_is_in_a_file(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        assert manifest["kind"] != "Secret"
        for place, _, container in containers(manifest):
            for entry in container.get("env", []):
                secret = any(word in entry["name"] for word in ("PASSWORD", "TOKENS", "SECRET", "ACCESS_KEY"))
                assert not (secret and "value" in entry), f"{place}.{entry['name']}"


def test_versions_are_those_of_the_project(root: Path, manifests: list[Manifest]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ray,) = [line.rpartition("==")[2] for line in project["dependencies"] if line.startswith("ray[")]
    for manifest in manifests:
        spec = cluster_spec(manifest)
        assert spec is None or spec["rayVersion"] == ray
        for place, _, container in containers(manifest):
            image = container.get("image", "")
            assert "/metacross:" not in image or f":{project['version']}-" in image, place


# --- what runs on it --------------------------------------------------------------------------------------------------

SERVE_CONFIG = KUBERAY / "base" / "serve-config.yaml"
ON_GPUS = KUBERAY / "overlays" / "gpu" / "service" / "serve-config.yaml"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{place}/{item['name'] if isinstance(item, dict) else i}")
    else:
        yield place, value


def _differences(one: Path, other: Path) -> dict[str, tuple[Any, Any]]:
    """Where two YAML files differ, as place -> both values, None where there is none."""
    first, second = (dict(_leaves(yaml.safe_load(file.read_text(encoding="utf-8")))) for file in (one, other))
    places = sorted(first.keys() | second.keys())
    return {p: (first.get(p), second.get(p)) for p in places if first.get(p) != second.get(p)}


def test_the_service_is_that_of_serve_config_yaml(root: Path) -> None:
    of = "/applications/metacross/deployments"
    scaling = {"min_replicas": 2, "max_replicas": 6, "downscale_delay_s": 600}
    expected = {
        "/http_options/host": ("127.0.0.1", "0.0.0.0"),
        "/applications/metacross/args/serve.auth": (None, "environment"),
        "/applications/metacross/args/serve.examples": (
            "/srv/metacross/examples.db",
            "postgresql+psycopg://metacross@metacross-postgres/metacross",
        ),
        f"{of}/SourceIndex/num_replicas": (1, 2),
        f"{of}/Tagger/max_replicas_per_node": (None, 1),
        f"{of}/Ingress/max_replicas_per_node": (None, 1),
    }
    for name, target in (("Tagger", 32), ("Ingress", 64)):
        expected[f"{of}/{name}/num_replicas"] = (1, None)
        for key, value in {**scaling, "target_ongoing_requests": target}.items():
            expected[f"{of}/{name}/autoscaling_config/{key}"] = (None, value)
    assert _differences(root / "serve" / "config.yaml", SERVE_CONFIG) == expected
    assert _differences(SERVE_CONFIG, ON_GPUS) == {
        f"{of}/Tagger/ray_actor_options/num_gpus": (0, 0.5),
        f"{of}/SourceIndex/ray_actor_options/num_gpus": (0, 0.25),
    }


@pytest.mark.parametrize(("overlay", "file"), [("cpu-small", SERVE_CONFIG), ("gpu", ON_GPUS)])
def test_the_service_takes_its_config(overlay: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METACROSS_TOKENS", "[{token: a-token-for-the-test, may: [tag]}]")
    assert check(file) == []
    assert named(rendered(KUBERAY / "overlays" / overlay), "RayService")["spec"]["serveConfigV2"] == file.read_text(
        "utf-8"
    )


def test_jobs_run_as_those_that_people_submit(root: Path, jobs: list[Manifest]) -> None:
    environment = yaml.safe_load((root / "cluster" / "runtime_env.yaml").read_text(encoding="utf-8"))
    for job in ("train", "tune", "index"):
        spec = named(jobs, "RayJob", f"metacross-{job}")["spec"]
        assert yaml.safe_load(spec["runtimeEnvYAML"]) == environment
        assert spec["submitterConfig"] == {"backoffLimit": 0}
        assert "\n" not in spec["entrypoint"]  # the shell would end the command there
        program, command, *arguments = spec["entrypoint"].split()
        assert (program, command) == ("metacross", job)
        settings = [argument for argument in arguments if "=" in argument]
        load_config(None, settings)
        (known,) = [c.callback for c in app.registered_commands if c.callback and c.callback.__name__ == job]
        for option in [argument for argument in arguments if argument.startswith("--")]:
            assert option.removeprefix("--").replace("-", "_") in known.__annotations__, option
        assert ("--auto-resume" in arguments) == (job != "index")  # a retry is a new cluster
