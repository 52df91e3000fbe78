"""The service deployed from serve/config.yaml on a real Ray Serve: a new bundle under load, and what is none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import ServeDeploySchema

from metacross import AdaptiveTagger, Client
from metacross.ray_session import start_ray
from serve.check import check
from tests.helpers.ray_service import Load, deploy, replica_processes, serve_logs
from tests.helpers.tiny_bundle import train_bundle, write_inputs

PORT = 8133
URL = f"http://127.0.0.1:{PORT}"


@dataclass
class Service:
    """The service that a file describes, which says the bundle in one line."""

    file: Path
    bundles: list[Path]
    digests: list[str]

    def deploy(self, user_config: dict[str, Any]) -> None:
        data = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        next(d for d in data["applications"][0]["deployments"] if d["name"] == "Tagger")["user_config"] = user_config
        self.file.write_text(yaml.safe_dump(data), encoding="utf-8")
        deploy(ServeDeploySchema.model_validate(data))
        until(lambda: status() == "RUNNING")

    def logged(self, what: str) -> int:
        """How often the Taggers' own logs say it."""
        logs = list(serve_logs().glob("replica_*Tagger*.log"))
        assert logs
        return sum(log.read_text(encoding="utf-8").count(what) for log in logs)


def until(done: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, ray_serve.status()
        time.sleep(0.1)


def status() -> str:
    applications = ray_serve.status().applications
    return applications["metacross"].status.value if applications else ""


@pytest.fixture(scope="module")
def service(root: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place = tmp_path_factory.mktemp("deploy")
    one = Path(shutil.copytree(tiny_bundle, place / "one"))
    two = train_bundle(write_inputs(place / "inputs"), "train.seed=7")
    data = yaml.safe_load((root / "serve" / "config.yaml").read_text(encoding="utf-8"))
    data["http_options"]["port"] = PORT
    (application,) = data["applications"]
    application["args"] |= {
        "serve.examples": str(place / "examples.db"),
        "serve.device": "cpu",
        "serve.timeout_s": 120,  # the machine may be busy
    }
    for deployment in application["deployments"]:
        deployment["graceful_shutdown_timeout_s"] = 130.0
        if deployment["name"] != "SourceIndex":
            deployment["num_replicas"] = 2
    file = place / "config.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    digests = [AdaptiveTagger.from_pretrained(bundle, device="cpu").bundle.digest for bundle in (one, two)]
    start_ray(cpus=4)
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT))
    service = Service(file, [one, two], digests)
    service.deploy({"bundle": str(one)})
    assert check(file, open_bundle=True) == []
    yield service
    ray_serve.shutdown()
    ray.shutdown()


@pytest.mark.cluster
def test_a_changed_line_is_a_new_bundle_under_load(service: Service) -> None:
    text = "Zoe Quist flew to Xanten."
    old, new = service.digests
    processes = replica_processes("Tagger"), replica_processes("Ingress"), replica_processes("SourceIndex")
    assert [len(p) for p in processes] == [2, 2, 1]
    with Client(URL) as client:
        (example,) = client.add_examples([{"text": text, "entities": [{"start": 0, "end": 9, "label": "PER"}]}])
        with Load(4, URL) as load:
            load.wait_for(old, 20)
            service.deploy({"bundle": str(service.bundles[1])})
            until(lambda: service.logged(f"answers come by {service.bundles[1]}") == 2)
            before = load.told[old]
            load.wait_for(new, load.told[new] + 40)
            assert load.told[old] <= before + 4, "what was under way, and then nothing, is answered by the old one"
        assert load.told.keys() == {old, new}, "every answer came from one of the two, and none failed"
        assert load.slowest < 10, "no answer waited for the bundle"
        assert processes == (
            replica_processes("Tagger"),
            replica_processes("Ingress"),
            replica_processes("SourceIndex"),
        )
        for _ in range(20):
            (result,) = client.tag([text], explain=True)
            assert (result.support or ())[0].example == example.id
    print(f"slowest of {load.told.total()}: {load.slowest:.2f} s")


@pytest.mark.cluster
def test_a_bundle_that_is_none_stays_out(service: Service, tmp_path: Path) -> None:
    one, two = service.bundles
    service.deploy({"bundle": str(one)})
    until(lambda: {Client(URL).model().bundle for _ in range(10)} == {service.digests[0]})
    broken = Path(shutil.copytree(two, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-1])
    taggers = replica_processes("Tagger")
    refused = service.logged("was refused")
    with Load(4, URL) as load:
        for user_config in ({"bundle": str(tmp_path / "nothing")}, {"bundle": str(broken)}, {"bundel": str(two)}):
            service.deploy(user_config)
            refused += 2  # by either Tagger
            until(lambda expected=refused: service.logged("was refused") == expected)
        assert check(service.file) != []
        load.wait_for(service.digests[0], load.told[service.digests[0]] + 40)
        assert load.told.keys() == {service.digests[0]}, "the bundle of before answers, and nobody is failed"
        service.deploy({"bundle": str(two)})
        load.wait_for(service.digests[1], 20)
    assert load.told.keys() == set(service.digests)
    assert replica_processes("Tagger") == taggers
