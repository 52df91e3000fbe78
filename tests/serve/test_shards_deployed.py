"""The source index in shards on a real Ray Serve: a lost replica, a shard that is gone and back, and a new version."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import ray
import yaml
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import ServeDeploySchema

from metacross import AdaptiveTagger, Client
from metacross.indexing.build import prepare
from metacross.ray_session import start_ray
from serve.check import check
from tests.helpers.ray_service import TEXT, Load, deploy, replica_processes
from tests.helpers.tiny_bundle import tiny_config, train_bundle, write_corpus, write_inputs

PORT = 8137
URL = f"http://127.0.0.1:{PORT}"


class Service:
    """The service that a file describes, with two shards of two replicas each, and two bundles."""

    def __init__(self, place: Path, bundle: Path, folder: Path, shipped: Path) -> None:
        self.folder, self.shards, self._place = folder, place / "shards", place
        self.bundles = [bundle, train_bundle(write_inputs(place / "inputs"), "train.seed=7")]
        self.digests = [AdaptiveTagger.from_pretrained(one, device="cpu").bundle.digest for one in self.bundles]
        prepare(tiny_config(folder), self.shards, shards=2)
        self._data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        self._data["http_options"]["port"] = PORT
        (application,) = self._data["applications"]
        settings = {"serve.examples": "", "serve.device": "cpu", "serve.timeout_s": 120}  # the machine may be busy
        application["args"] = {"serve.index_shards": str(self.shards), **settings}
        kept = [d for d in application["deployments"] if d["name"] != "SourceIndex"]
        application["deployments"] = [{**d, "graceful_shutdown_timeout_s": 130.0} for d in kept]

    def deploy(self, bundle: Path) -> None:
        deployments = self._data["applications"][0]["deployments"]
        next(d for d in deployments if d["name"] == "Tagger")["user_config"] = {"bundle": str(bundle)}
        file = self._place / "config.yaml"
        file.write_text(yaml.safe_dump(self._data), encoding="utf-8")
        assert check(file) == []
        deploy(ServeDeploySchema.model_validate(self._data))
        until(lambda: [a.status.value for a in ray_serve.status().applications.values()] == ["RUNNING"])


@pytest.fixture(scope="module")
def service(
    root: Path, tiny_bundle: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    shipped = root / "serve" / "config.yaml"
    service = Service(tmp_path_factory.mktemp("shards"), tiny_bundle, tiny_folder, shipped)
    start_ray(cpus=4)
    ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT))
    service.deploy(service.bundles[0])
    yield service
    ray_serve.shutdown()
    ray.shutdown()


def asked() -> httpx.Response:
    return httpx.post(f"{URL}/v1/entities", json={"texts": [TEXT]}, timeout=60)


def until(done: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, ray_serve.status()
        time.sleep(0.2)


@pytest.mark.cluster
def test_a_lost_replica_costs_nothing(service: Service) -> None:
    with Client(URL) as client:
        (found,) = client.tag([TEXT], explain=True)
    (alone,) = AdaptiveTagger.from_pretrained(service.bundles[0], device="cpu").tag_texts([TEXT], explain=True)
    assert [(e.start, e.end, e.label) for e in found.entities] == [(e.start, e.end, e.label) for e in alone.entities()]
    assert [s.text for s in found.support or ()] == [s.text for s in alone.support()]
    before = replica_processes("SourceShard0")
    assert [len(replica_processes(f"SourceShard{i}")) for i in (0, 1)] == [2, 2]
    with Load(2, URL) as load:
        load.wait_for(service.digests[0], 10)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len({*replica_processes("SourceShard0")} - {*before}) == 1)
        load.wait_for(service.digests[0], load.told[service.digests[0]] + 20)
    assert load.told.keys() == {service.digests[0]}, "every answer is whole, and none failed"


@pytest.mark.cluster
def test_a_shard_that_is_gone_is_named_until_it_is_back(service: Service) -> None:
    taken = service.shards.parent / "taken"
    (service.shards / "0001").rename(taken)  # so that new replicas cannot start
    for process in replica_processes("SourceShard1"):
        os.kill(process, signal.SIGKILL)
    until(lambda: asked().status_code == 503)
    answer = asked()
    assert "SourceShard1" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "5"
    assert httpx.post(f"{URL}/v1/entities", json={"texts": [TEXT], "adapt": False}, timeout=60).status_code == 200
    taken.rename(service.shards / "0001")
    until(lambda: asked().status_code == 200)


@pytest.mark.cluster
def test_a_new_bundle_takes_all_shards_along_to_the_version_that_is_there(service: Service) -> None:
    old, new = service.digests
    until(lambda: [len(replica_processes(f"SourceShard{i}")) for i in (0, 1)] == [2, 2])
    with Client(URL) as client:
        sentences = client.model().source_sentences
        shutil.copytree(service.folder, service.shards.parent / "more")
        write_corpus(service.shards.parent / "more" / "train.conll", sentences=40)
        config = tiny_config(service.folder, f"data.source={service.shards.parent / 'more' / 'train.conll'}")
        processes = [replica_processes(f"SourceShard{i}") for i in (0, 1)]
        with Load(2, URL) as load:
            prepare(config, service.shards, shards=2)
            load.wait_for(old, load.told[old] + 10)
            assert client.model().source_sentences == sentences, "the version of before until the bundle changes"
            service.deploy(service.bundles[1])
            load.wait_for(new, 20)
        assert load.told.keys() == {old, new}, "none failed"
        assert client.model().source_sentences > sentences
    assert processes == [replica_processes(f"SourceShard{i}") for i in (0, 1)], "no replica was started anew"
